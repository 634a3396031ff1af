"""A knowledge: one way to compare a learner with a source, as a small module that returns one scalar.

Student first, source second, structure third, options by keyword. A new knowledge subclasses :class:`Term` (logits) or
:class:`LayerTerm` (layers) in a file of its own and is registered through ``gkd_register_knowledge``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gkd_plugin.errors import Problem, UserError
from gkd_plugin.plan import GroupPlan, Part
from gkd_plugin.schema import Key, show
from gkd_plugin.space.observation import Graph, Observation, Outline, Task


@dataclass(frozen=True)
class Symbols:
    """How the parts of a term are named in the formula that ``gkd explain`` prints.

    Args:
        me (str): Index of the learner: empty, or ``_m`` where several students learn.
        other (str): Index of the source.
        mean (str): The mean over members in front of a term, such as ``1/3 Σ_n``; empty for one member.
        label (str): The label loss.
        depth (int, optional): Number of the learner's layers where it is known.
        pairs (callable): ``pairs(group, source)`` gives front, row, column and listing of a layer term's pairs.
    """

    me: str
    other: str
    mean: str
    label: str
    depth: int | None
    pairs: Callable[[GroupPlan, str], tuple[str, str, str, str]]


@dataclass(frozen=True)
class Judged:
    """What logits answer in one batch of a split; its batches are scored together, as a network's own answers are.

    Args:
        true, score (Tensor): Labels and scores of the batch's items.
        kind (str): The host's task type.
        metric (str): The number that is wanted.
    """

    true: Tensor
    score: Tensor
    kind: str
    metric: str


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
    parts: ClassVar[tuple[Part, ...]] = (Part(),)  # what it adds to the loss, each under a weight of its own
    per_source: ClassVar[bool] = True  # one module for each source model, or one for all of a learner's
    changes: ClassVar[str] = ""  # what to write so that logits may teach themselves
    evaluated_taps: ClassVar[tuple[str, ...]] = ()  # what :meth:`measure` reads at validation
    marked: ClassVar[Mapping[str, Any]] = {}  # values where layers are marked (aux_*) and the user wrote nothing

    def __init__(self, group: GroupPlan, learner: Outline, source: Outline, task: Task) -> None:
        super().__init__()
        self.group, self.task = group, task
        self.reported: dict[str, Tensor] = {}

    # ---------------------------------------------------------------------------------------------- configuration
    @classmethod
    def check(cls, values: Mapping[str, Any], task: Task | None) -> Iterable[Problem]:
        """Mistakes in combinations of keys, or of keys and the task where it is known."""
        return ()

    @classmethod
    def settle(cls, values: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
        """Values that the task decides where they are still open."""
        return {}

    @classmethod
    def learns_from_itself(cls, values: Mapping[str, Any]) -> bool:
        """Whether logits may learn from the same forward pass: only where the target is changed first."""
        return False

    @classmethod
    def warn(cls, group: GroupPlan, within: bool) -> Iterator[str]:
        """What is legal, but probably a mistake; ``within``: whether the learner itself is the source."""
        return iter(())

    @classmethod
    def reports(cls, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of further numbers that :meth:`forward` leaves in ``reported``, for the rows of a run."""
        return ()

    @classmethod
    def source_taps(cls, group: GroupPlan) -> tuple[str, ...]:
        """The taps at which it reads its source."""
        return (str(group["tap"]),) if cls.layered else ()

    @classmethod
    def taps(cls, group: GroupPlan) -> tuple[str, ...]:
        """The taps at which it reads the learner."""
        return cls.source_taps(group)

    # ------------------------------------------------------------------------------------------------ explanation
    @classmethod
    def describe(cls, group: GroupPlan) -> str:
        """What it compares, in one sentence with the numbers of a plan."""
        own = ", ".join(f"{key.name} {show(group.values[key.name])}" for key in cls.keys if key.name in group.values)
        return f"{cls.summary}{f' ({own})' if own else ''}"

    @classmethod
    def write(cls, group: GroupPlan, part: Part, symbols: Symbols) -> str:
        """One part of it as ``gkd explain`` prints it, behind weight and schedule."""
        return f"{symbols.mean}D_{group.name}(z{symbols.me}, z{symbols.other})"

    @classmethod
    def explain(cls, group: GroupPlan, label: str) -> Iterator[tuple[str, str]]:
        """The symbols in the text of :meth:`write`, each with its meaning."""
        yield f"D_{group.name}", cls.describe(group)

    # --------------------------------------------------------------------------------------------------- training
    def require(self, graph: Graph) -> None:
        """Called once before training, with a graph of the training data; raises where the data lack what it needs.

        Raises:
            UserError: If they do.
        """

    def forward(
        self, learner: Observation, source: Observation, weights: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        """The value of the term; a mapping from weight keys to values where it has several :attr:`parts`."""
        raise UserError(f"knowledge '{self.group.name}': {type(self).__name__} defines no forward.")

    def measure(
        self, seen: Observation, judge: Callable[[Tensor], Mapping[str, Judged]]
    ) -> Mapping[str, float | Judged]:
        """Columns that it adds to the rows of validation.

        Args:
            seen (Observation): The learner in evaluation mode, on one batch.
            judge (callable): ``judge(logits)`` gives what the selecting metric takes, by the metric's name.

        Returns:
            dict: Numbers, which are averaged over batches by items, and what ``judge`` gave, which is scored over all of them.
        """
        return {}


class LayerTerm(Term):
    r"""A comparison of layers: :math:`\sum_{l,k} w_{lk} D_{lk}` over the layer map's weight matrix.

    Subclasses give :meth:`distance`, or :meth:`distances` where many pairs go faster together; ``weights`` has the learner's layers as rows and the source's as columns.
    """

    layered: ClassVar[bool] = True

    @property
    def tap(self) -> str:
        """Where the layers are read."""
        return str(self.group["tap"])

    @classmethod
    def write(cls, group: GroupPlan, part: Part, symbols: Symbols) -> str:
        front, row, column, over = symbols.pairs(group, str(group[str(part.source)]))
        return f"{symbols.mean}{front}D_{group.name}(h{symbols.me}[{row}], h{symbols.other}[{column}]){over}"

    def require_same_nodes(self, learner: Observation, source: Observation, row: int, column: int) -> None:
        """Raises where a layer of the source has hidden states of other nodes than one of the learner.

        Raises:
            UserError: If their numbers differ.
        """
        ours, theirs = (seen.layer(self.tap, layer).size(0) for seen, layer in ((learner, row), (source, column)))
        if theirs != ours:
            raise UserError(
                f"kd_{self.name}.source: the source has hidden states of {theirs} nodes, the student of "
                f"{ours}. They are compared node by node: both must see the same nodes."
            )

    def distance(self, learner: Observation, source: Observation, row: int, column: int) -> Tensor:
        """The distance between layer ``row`` of the learner and layer ``column`` of the source (both from 1), a scalar."""
        raise UserError(f"knowledge '{self.group.name}': {type(self).__name__} defines no distance.")

    def distances(self, learner: Observation, source: Observation, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """The distances of some layer pairs, ``[len(pairs)]``; terms that know a faster way than one by one give it."""
        found = [self.distance(learner, source, row, column) for row, column in pairs]
        for value in found:
            self._require_shape("distance", value, ())
        return torch.stack(found)

    def _require_shape(self, method: str, value: object, shape: tuple[int, ...]) -> None:
        """Anything else would be multiplied by the layer map's weights as far as it can be broadcast."""
        if not isinstance(value, Tensor) or value.shape != shape:
            what = f"the shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            asked = (
                "one number for a pair of layers: a tensor without dimensions"
                if not shape
                else f"{list(shape)}, one a pair"
            )
            raise UserError(
                f"knowledge '{self.group.name}': {method} gives {what}. It must give {asked} (a mean or a sum over nodes and "
                "channels)."
            )

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Tensor:
        assert weights is not None
        weights = weights.to(learner.logits)
        used = torch.nonzero(weights.detach())
        if not len(used):
            return learner.logits.new_zeros(())
        found = self.distances(learner, source, [(row + 1, column + 1) for row, column in used.tolist()])
        self._require_shape("distances", found, (len(used),))
        total = (weights[used[:, 0], used[:, 1]] * found).sum()
        return total / weights.sum() if self.group["layer_reduction"] == "mean" else total
