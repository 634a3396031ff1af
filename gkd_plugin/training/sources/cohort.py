"""Source ``cohort``: what all students believe together, the learner included."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from gkd_plugin.models.sample import Sample
from gkd_plugin.plan import Plan
from gkd_plugin.space.answers import Source
from gkd_plugin.space.observation import Observation, Outline
from gkd_plugin.space.sources import SourceModel

NAME = "cohort"


def mean_probability(logits: Sequence[Tensor], kind: str) -> Tensor:
    r"""Logits whose probabilities are the mean of several models' probabilities.

    .. math::
        t_c = \log \frac{1}{M} \sum_{m=1}^{M} \mathrm{softmax}(\mathbf{z}_m)_c

    for several classes, as the log-sum-exp of log-softmaxes; for several labels and for two classes as one logit the
    logit of the mean of sigmoids, as the difference of two such means; for regression the mean.

    Args:
        logits (sequence of Tensor): Each model's logits of the same items, ``[N, C]`` or ``[N]``.
        kind (str): The task's kind: ``multiclass``, ``binary``, ``multilabel`` or ``regression``.
    """
    if len(logits) == 1:
        return logits[0]
    stacked = torch.stack(list(logits))
    if kind == "regression":
        return stacked.mean(0)
    if kind == "multiclass":
        return stacked.log_softmax(-1).logsumexp(0) - math.log(len(logits))
    positive, negative = torch.nn.functional.logsigmoid(stacked), torch.nn.functional.logsigmoid(-stacked)
    return positive.logsumexp(0) - negative.logsumexp(0)


class Cohort(SourceModel):
    """All students of a run, read in evaluation mode; each is run once for all that listen."""

    symbol: ClassVar[str] = "C"
    layered: ClassVar[bool] = False

    def outline(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Outline:
        return Outline.of(self.observe(member, learner, sample, taps), 0)

    def observe(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Observation:
        seen = [self.run.readings.read_evaluated(number, sample) for number in self.run.readings.models]
        mean = mean_probability([each.logits for each in seen], sample.task.kind)
        return Observation(mean, {}, seen[0].graph, seen[0].labels)

    @classmethod
    def describe(cls, plan: Plan) -> str:
        return f"the mean probability of all {plan.students} students, read in evaluation mode, no gradient"


SOURCE = Source(
    lambda learner, students: (NAME,),
    "the mean probability of all students, the learner included",
    "gkd_plugin; without the learner: Deep Mutual Learning (arXiv 1706.00384)",
    needs_students=2,
    model=Cohort,
    advice="One student alone is source: self; or write kd.students: 2 or more.",
)
