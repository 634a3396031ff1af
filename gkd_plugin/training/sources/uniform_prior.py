"""Source ``uniform_prior``: all classes alike, whatever the item. It knows nothing: label smoothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch

from gkd_plugin.models.sample import Sample
from gkd_plugin.plan import Plan
from gkd_plugin.space.answers import Source
from gkd_plugin.space.observation import Observation, Outline, Task
from gkd_plugin.space.sources import SourceModel

NAME = "uniform_prior"


def _count_items(sample: Sample) -> int:
    if sample.task.level == "graph":
        return int(sample.batch.num_graphs)
    graph = sample.graph("train")
    return graph.num_nodes if graph.pairs is None else graph.pairs.size(1)


class UniformPrior(SourceModel):
    r"""The uniform prior :math:`u` over classes, for label smoothing as in the `"Rethinking the Inception Architecture for
    Computer Vision" <https://arxiv.org/abs/1512.00567>`_ paper.

    All its logits are 0: the probability :math:`1/C` for each of :math:`C` classes, 1/2 for each of several labels. It
    reads no labels. Smoothed labels :math:`(1 - \epsilon) y + \epsilon u` are two losses (section 7 of the paper),

    .. math::
        H((1 - \epsilon) y + \epsilon u, p) = (1 - \epsilon) H(y, p) + \epsilon H(u, p),

    so they are ``kd.label_weight`` :math:`1 - \epsilon` and a ``kd_response`` of weight :math:`\epsilon` that listens to
    this source. :math:`H(u, p)` and the term :math:`\mathrm{KL}(u \,\|\, p)` differ by a constant, the entropy of
    :math:`u`.

    .. code-block:: yaml

        kd: {students: 1, label_weight: 0.9}
        kd_response: {weight: 0.1, source: uniform_prior, nodes: train}
    """

    symbol: ClassVar[str] = "U"
    layered: ClassVar[bool] = False

    def __init__(self, name: str, run: Any) -> None:
        super().__init__(name, run)
        self._shapes: dict[int, torch.Size] = {}  # of one item's logits, by learner

    def outline(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Outline:
        self._shapes[learner] = self.run.readings.read_evaluated(learner, sample).logits.shape[1:]
        return Outline.of(self.observe(member, learner, sample, taps), 0)

    def observe(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Observation:
        shape = (_count_items(sample), *self._shapes[learner])
        graph = sample.graph("train")
        return Observation(torch.zeros(shape, device=graph.edge_index.device), {}, graph)

    @classmethod
    def describe(cls, plan: Plan) -> str:
        return "the uniform prior, all logits 0: no teacher, the labels are smoothed"


def _check(values: Mapping[str, Any], task: Task | None) -> tuple[str, str] | None:
    if task is not None and task.kind == "regression":
        return "numbers have no uniform prior (a regression task)", "Choose a source that predicts them."
    for key, word in (("target", "hard"), ("loss", "bce_hard")):
        if values.get(key) == word:
            return f"it decides for no class, but {key} is {word}", f"Remove {key}, or choose another source."
    return None


SOURCE = Source(
    lambda learner, students: (NAME,),
    "all classes alike: no teacher, but smoothed labels",
    "Szegedy et al. (arXiv 1512.00567)",
    model=UniformPrior,
    check=_check,
)
