"""A knowledge: one way to compare a learner with a source, as a small module that returns one scalar.

Student first, source second, structure third, options by keyword. A new knowledge subclasses :class:`Term` (logits) or
:class:`LayerTerm` (layers) in a file of its own and is registered through ``gkd_register_knowledge``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gkd_plugin.errors import Problem
from gkd_plugin.plan import GroupPlan
from gkd_plugin.schema import Key
from gkd_plugin.space.observation import Observation, Outline, Task


class Term(nn.Module):
    r"""One comparison of a learner with one source.

    Args:
        group (GroupPlan): The resolved ``kd_<name>`` group.
        learner (Outline): Depth, widths and logits of the learner.
        source (Outline): The same of the source.
        task (Task): What is predicted.

    Shapes:
        - **input:** two observations of the same nodes
        - **output:** a scalar; the loop multiplies it by ``weight`` and ``schedule``
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str]
    keys: ClassVar[tuple[Key, ...]] = ()
    layered: ClassVar[bool] = False  # whether layer maps and taps apply
    sourced: ClassVar[bool] = True  # whether the group has a key ``source``
    per_source: ClassVar[bool] = True  # one module for each source model, or one for all of a learner's

    def __init__(self, group: GroupPlan, learner: Outline, source: Outline, task: Task) -> None:
        super().__init__()
        self.group, self.task = group, task
        self.reported: dict[str, Tensor] = {}

    @classmethod
    def check(cls, values: Mapping[str, Any], task: Task | None) -> Iterable[Problem]:
        """Mistakes that only several keys (or the task, where it is known) show together."""
        return ()

    @classmethod
    def learns_from_itself(cls, values: Mapping[str, Any]) -> bool:
        """Whether logits may be taught by the very same forward pass: only where the target is changed first."""
        return False

    @classmethod
    def reports(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of further numbers that :meth:`forward` leaves in ``reported``, for the rows of a run."""
        return ()

    def forward(
        self, learner: Observation, source: Observation, weights: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """The value of the term; a mapping where parts have weights of their own (its keys name them)."""
        raise NotImplementedError


class LayerTerm(Term):
    r"""A comparison of layers: :math:`\sum_{l,k} w_{lk} D_{lk}` over the layer map's weight matrix.

    Subclasses give :meth:`distance`, or :meth:`distances` where many pairs go faster together; ``weights`` has the learner's layers as rows and the source's as columns.
    """

    layered: ClassVar[bool] = True

    @property
    def tap(self) -> str:
        """Where the layers are read."""
        return str(self.group["tap"])

    def distance(self, learner: Observation, source: Observation, row: int, column: int) -> Tensor:
        """The distance between layer ``row`` of the learner and layer ``column`` of the source (both from 1)."""
        raise NotImplementedError

    def distances(self, learner: Observation, source: Observation, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """The distances of some layer pairs, ``[len(pairs)]``; terms that know a faster way than one by one give it."""
        return torch.stack([self.distance(learner, source, row, column) for row, column in pairs])

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Tensor:
        assert weights is not None
        weights = weights.to(learner.logits)
        used = torch.nonzero(weights.detach())
        if not len(used):
            return learner.logits.new_zeros(())
        found = self.distances(learner, source, [(row + 1, column + 1) for row, column in used.tolist()])
        total = (weights[used[:, 0], used[:, 1]] * found).sum()
        return total / weights.sum() if self.group["layer_reduction"] == "mean" else total
