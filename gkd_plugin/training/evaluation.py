"""One evaluation pass for all splits of each student."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gkd_plugin import host
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.knowledge.base import Judged
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.metrics import measure
from gkd_plugin.training.selection import mean_score


@dataclass
class Predictions:
    """What one model answered on one split, batch by batch.

    Args:
        true, score (list of Tensor): Labels and scores.
        losses (list of float): The task loss of each batch.
        extras (list of dict): Further numbers of each batch, and answers that are scored over all batches.
    """

    true: list[Tensor] = field(default_factory=list)
    score: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    extras: list[dict[str, float | Judged]] = field(default_factory=list)

    def add(self, true: Tensor, score: Tensor, loss: float, extras: Mapping[str, float | Judged] | None = None) -> None:
        """Adds one batch."""
        self.true.append(true.detach().cpu())
        self.score.append(score.detach().cpu())
        self.losses.append(loss)
        self.extras.append(dict(extras or {}))

    @property
    def loss(self) -> float:
        """Mean loss over items, as the host's logger weighs batches."""
        sizes = [len(true) for true in self.true]
        return sum(loss * size for loss, size in zip(self.losses, sizes, strict=True)) / max(sum(sizes), 1)

    def metrics(self, kind: str) -> dict[str, float]:
        """The split's metrics."""
        return measure(self.true, self.score, kind)

    def mean_extras(self) -> dict[str, float]:
        """Further numbers, averaged by size over the batches that have them; answers are scored over all batches at once.

        A number that no batch has (the distance to neighbours in a graph without edges) is left out: readers of a row
        may refuse NaN, and the host's aggregation a value that is no number.
        """
        found = {}
        for name in self.extras[0] if self.extras else ():
            value = self._combine([extra[name] for extra in self.extras])
            if not math.isnan(value):
                found[name] = value
        return found

    def _combine(self, values: Sequence[float | Judged]) -> float:
        judged = [value for value in values if isinstance(value, Judged)]
        if judged:
            first = judged[0]
            return measure([j.true for j in judged], [j.score for j in judged], first.kind).get(first.metric, math.nan)
        numbers = [value for value in values if not isinstance(value, Judged)]
        sizes = [0 if math.isnan(value) else len(true) for value, true in zip(numbers, self.true, strict=True)]
        total = sum(v * size for v, size in zip(numbers, sizes, strict=True) if size)
        return total / sum(sizes) if sum(sizes) else math.nan


def score(model: ObservedModel, sample: Sample, seen: Observation, split: str) -> tuple[Tensor, Tensor, float]:
    """Labels, scores and task loss of a split's items in an observation."""
    pred, true = sample.answers(seen, split)
    with torch.no_grad(), host.scoped(model.own):
        loss, scores = host.task_loss(pred, true)
    return true.squeeze(-1) if true.ndim > 1 else true, scores, float(loss)


def evaluate(
    model: ObservedModel,
    samples: Iterable[Sample],
    splits: Sequence[str],
    beside: Callable[[Sample, Observation], None] | None = None,
) -> dict[str, Predictions]:
    """Reads a model on the samples of some splits in evaluation mode, leaving no trace in it.

    Args:
        model (ObservedModel): The model.
        samples (iterable of Sample): Batches.
        splits (sequence of str): The splits whose items count.
        beside (callable, optional): ``beside(sample, seen)`` after every reading.
    """
    outcomes = {split: Predictions() for split in splits}
    with model.untouched():
        for sample in samples:
            for split, seen in model.observe_splits(sample, (), splits).items():
                outcomes[split].add(*score(model, sample, seen, split))
                if beside is not None:
                    beside(sample, seen)
    return outcomes


def ensemble(outcomes: Sequence[Predictions], kind: str) -> Predictions:
    """What several models answered together on one split: the mean of their probabilities."""
    together = Predictions()
    for batch, true in enumerate(outcomes[0].true):
        mean = mean_score([outcome.score[batch] for outcome in outcomes], kind)
        together.add(true, mean, sum(outcome.losses[batch] for outcome in outcomes) / len(outcomes))
    return together
