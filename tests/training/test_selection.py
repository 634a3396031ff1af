"""Selection: the first epoch with the best validation score, and the ensemble's score."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gkd_plugin.training.selection import Best, copy_state, mean_score

SCORES = st.lists(st.one_of(st.just(math.nan), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])), min_size=1, max_size=12)


@given(SCORES, st.booleans())
def test_the_first_of_the_best_epochs_is_kept(scores: list[float], better: bool) -> None:
    best = Best(better)
    for epoch, score in enumerate(scores):
        if best.improves(score):
            best.epoch, best.score = epoch, score
    known = [score for score in scores if score == score]
    if not known:
        assert best.epoch == -1
        return
    wanted = max(known) if better else min(known)
    assert (best.epoch, best.score) == (scores.index(wanted), wanted)


def test_a_state_survives_a_checkpoint_and_later_steps() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    best = Best(True, 4, 0.5, [copy_state({"weight": weight})])
    with torch.no_grad():
        weight.fill_(7.0)
    assert torch.equal(best.states[0]["weight"], torch.ones(3))
    again = Best(True)
    again.load_state_dict(best.state_dict())
    assert (again.epoch, again.score) == (4, 0.5)
    assert torch.equal(again.states[0]["weight"], torch.ones(3))


def test_the_ensemble_is_the_mean_of_probabilities() -> None:
    logits = torch.randn(3, 5, 4, dtype=torch.float64)
    mean = mean_score([z.log_softmax(-1) for z in logits], "classification_multi")
    torch.testing.assert_close(mean.exp(), logits.softmax(-1).mean(0))
    assert mean.exp().sum(-1).tolist() == pytest.approx([1.0] * 5)
    # not the mean of logits: two students that are sure of different classes
    sure = [torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.0, 5.0, 4.9]])]
    assert int(mean_score([z.log_softmax(-1) for z in sure], "classification_multi").argmax()) == 0


@pytest.mark.parametrize("kind", ["classification_binary", "classification_multilabel", "regression"])
def test_other_scores_are_averaged_as_they_are(kind: str) -> None:
    shape = (3, 5, 2) if kind == "classification_multilabel" else (3, 5)
    scores = torch.rand(shape, dtype=torch.float64)
    torch.testing.assert_close(mean_score(list(scores), kind), scores.mean(0))
