"""Means over batches, against sums by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gkd_plugin.space.knowledge.base import Judged
from gkd_plugin.training.evaluation import Predictions, ensemble

NONE = math.nan


@pytest.mark.parametrize(
    ("sizes", "values", "wanted"),
    [
        ([2, 6], [1.0, 3.0], {"number": 2.5}),
        ([1], [3.0], {"number": 3.0}),
        ([2, 0], [1.0, 3.0], {"number": 1.0}),
        ([2, 0], [1.0, NONE], {"number": 1.0}),
        ([2, 6, 2], [1.0, NONE, 2.0], {"number": 1.5}),
        ([2, 6], [NONE, NONE], {}),
        ([0, 0], [1.0, 1.0], {}),
        ([], [], {}),
    ],
)
def test_means_leave_out_what_has_no_number(sizes: list[int], values: list[float], wanted: dict[str, Any]) -> None:
    found = Predictions()
    for size, value in zip(sizes, values, strict=True):
        found.add(torch.zeros(size), torch.zeros(size), value if size else 0.0, {"number": value})
    assert found.mean_extras() == wanted
    if not any(map(math.isnan, values)):
        assert found.loss == wanted.get("number", 0.0)


def test_judged_answers_are_scored_together_and_batches_without_items_change_nothing() -> None:
    """Two batches of unlike size: RMSE is the root of the mean of all squares, and no mean of roots."""
    found = Predictions()
    for errors in ([3.0], [], [0.0, 0.0, 4.0]):
        true = torch.zeros(len(errors))
        found.add(true, true, 0.0, {"head_rmse": Judged(true, torch.tensor(errors), "regression", "rmse")})
    assert found.mean_extras() == {"head_rmse": 2.5}
    nothing = Predictions()
    nothing.add(
        torch.zeros(0), torch.zeros(0), 0.0, {"rmse": Judged(torch.zeros(0), torch.zeros(0), "regression", "rmse")}
    )
    assert nothing.mean_extras() == {}


@pytest.mark.parametrize("kind", ["classification_multi", "regression"])
def test_an_ensemble_of_batches_of_unlike_sizes_is_that_of_all_items(kind: str) -> None:
    """Split into batches or not, the loss is the mean over items, and over models, and each item's score is its own."""
    sizes, models = (2, 6, 1), 3
    labels = torch.arange(9) % 4
    scores = [torch.randn(9, 4, dtype=torch.float64).log_softmax(-1) for _ in range(models)]
    if kind == "regression":
        scores = [torch.randn(9, dtype=torch.float64) for _ in range(models)]
    losses = torch.rand(models, 9, dtype=torch.float64)  # of each item
    split = [Predictions() for _ in range(models)]
    for found, score, loss in zip(split, scores, losses, strict=True):
        parts = zip(*(values.split(list(sizes)) for values in (labels, score, loss)), strict=True)
        for true, part, each in parts:
            found.add(true, part, float(each.mean()))
        assert found.loss == pytest.approx(float(loss.mean()))
        assert found.loss != pytest.approx(sum(found.losses) / len(sizes)), "a mean of means would do"
    together = ensemble(split, kind)
    assert together.loss == pytest.approx(float(losses.mean()))
    assert together.losses == pytest.approx(
        [sum(found.losses[batch] for found in split) / models for batch in range(len(sizes))]
    )
    assert torch.equal(torch.cat(together.true), labels) and [len(true) for true in together.true] == list(sizes)
    stacked = torch.stack(scores)
    wanted = stacked.mean(0) if kind == "regression" else stacked.exp().mean(0).log()
    torch.testing.assert_close(torch.cat(together.score), wanted)


def test_an_ensemble_of_one_model_is_that_model() -> None:
    alone = Predictions()
    alone.add(torch.tensor([0, 1]), torch.randn(2, 3).log_softmax(-1), 0.5)
    together = ensemble([alone], "classification_multi")
    assert together.losses == [0.5]
    torch.testing.assert_close(together.score, alone.score)


def test_metrics_are_those_of_all_batches() -> None:
    found = Predictions()
    found.add(torch.tensor([0, 1, 1]), torch.eye(2)[[0, 1, 0]], 0.0)  # two of three
    found.add(torch.tensor([1]), torch.eye(2)[[1]], 0.0)
    assert found.metrics("classification_multi") == {"accuracy": 0.75}
