"""Selection: the first epoch with the best validation score, and the ensemble's score."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd_plugin.training.selection import ENSEMBLE, Best, Selection, copy_state, mean_score

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


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, float]]:
    """The scores of each evaluation, with many ties: of some students and, of several, the ensemble."""
    students = draw(st.sampled_from([1, 2, 2, 3, 3]))
    names = [*(f"s{number}" for number in range(1, students + 1)), *([ENSEMBLE] if students > 1 else [])]
    score = st.one_of(st.just(math.nan), st.sampled_from([0.25, 0.5, 0.75]))
    return draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, score)), min_size=1, max_size=8))


def worth(score: float, better: bool) -> float:
    return -math.inf if score != score else score if better else -score


@pytest.mark.parametrize("predict", ["best", "first", ENSEMBLE])  # not drawn: each needs its share of the histories
@pytest.mark.parametrize("better", [True, False])
@given(history=histories())
@settings(max_examples=60, deadline=None)
def test_the_answer_the_leader_and_the_patience_agree_with_a_look_back(
    better: bool, predict: str, history: list[dict[str, float]]
) -> None:
    """After every evaluation all is recomputed from the scores so far."""
    names = sorted(name for name in history[0] if name != ENSEMBLE)
    selection = Selection(len(names), predict)
    unused = Selection(len(names), predict)
    unused.load_state_dict(selection.state_dict())  # of a run that was stopped before its first evaluation
    assert not unused.metric and unused.bests == {}
    selection.begin("accuracy", better)
    assert set(selection.bests) == set(history[0])
    answers: list[tuple[str, int]] = []  # who answers, from which epoch; -1 for nobody yet
    for epoch, scores in enumerate(history):
        weights = {name: {"weight": torch.tensor([epoch])} for name in scores}
        selection.update(epoch, scores, lambda name, weights=weights: [weights[name]])  # type: ignore[misc]
        firsts: dict[str, int] = {}
        for name in scores:
            seen = [worth(each[name], better) for each in history[: epoch + 1]]
            firsts[name] = seen.index(max(seen)) if max(seen) > -math.inf else -1
        reached = [worth(history[firsts[n]][n], better) if firsts[n] >= 0 else -math.inf for n in names]
        now = [worth(scores[name], better) for name in names]
        best = names[reached.index(max(reached))]  # the first of equal ones
        who = {"best": best, "first": "s1", ENSEMBLE: ENSEMBLE if len(names) > 1 else "s1"}[predict]
        assert f"s{selection.best_student}" == best and selection.answering == who
        assert selection.answer.epoch == firsts[who]
        assert [int(state["weight"]) for state in selection.answer.states] == [e for e in [firsts[who]] if e >= 0]
        leader = "s1" if predict != "best" else names[now.index(max(now))]
        assert f"s{selection.leader}" == leader
        # another student with the same score at the same epoch is no better answer
        answers.append((str(selection.answer.score), firsts[who]))
        stale = 0
        for before, after in itertools.pairwise([("nan", -1), *answers]):
            stale = stale + 1 if before == after else 0
        assert selection.stale == stale
        again = Selection(len(names), predict)
        again.load_state_dict(selection.state_dict())
        assert str(again.state_dict()) == str(selection.state_dict()) and again.answering == who
