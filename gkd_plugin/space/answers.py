"""The records of answers on the smaller axes: each holds what a name means and one function."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeAlias

from torch import Tensor, nn

from gkd_plugin.errors import UserError, describe_error
from gkd_plugin.ops.edges import EdgeSet
from gkd_plugin.schema import Key, show

if TYPE_CHECKING:
    from gkd_plugin.space.observation import Outline, Task
    from gkd_plugin.space.sources import SourceModel


@dataclass(frozen=True)
class Kernel:
    """Similarity of two nodes.

    Args:
        function (callable): ``function(x, y, scale)`` of rows ``[P, d]``, ``[P, d]`` and a scalar gives ``[P]``. It
            draws nothing at random: large edge sets are computed again for the gradient.
        summary, reference (str): For ``gkd list``.
        scaled (bool): Whether ``kernel_scale`` applies.
        norm (int): ``kernel_scale: median`` takes the median of these distances, 1 (Manhattan) or 2 (Euclidean).
        symmetric (bool): Whether (u, v) and (v, u) have one value, so that it is computed once.
        on_edges (callable, optional): ``on_edges(rows, pairs, scale)`` of ``[N, d]`` and an
            :class:`~gkd_plugin.ops.edges.EdgeSet` of P pairs gives ``[P]``, where there is a faster way.
        dense (callable, optional): ``dense(rows, scale)`` gives all pairs ``[n, n]`` of ``[n, d]`` at once, likewise.
        factors (callable, optional): ``factors(rows)`` gives rows ``[n, d]`` whose inner products are the kernel's values,
            where it is no more than that.
    """

    function: Callable[[Tensor, Tensor, Any], Tensor]
    summary: str
    reference: str
    scaled: bool = False
    norm: int = 2
    symmetric: bool = False
    on_edges: Callable[[Tensor, EdgeSet, Any], Tensor] | None = None
    dense: Callable[[Tensor, Any], Tensor] | None = None
    factors: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Divergence:
    """What a pair of nodes adds to the distance of two structures.

    Args:
        function (callable): ``function(learner, source)`` gives each pair's share, of the arguments' shape. Arguments
            are log-probabilities; where ``raw``, plain values instead (probabilities, or kernel values for
            ``distribution: none``).
        summary, reference (str): For ``gkd list``.
        raw (bool): Whether it compares plain values, and so raw kernel values too.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    summary: str
    reference: str
    raw: bool = False


@dataclass(frozen=True)
class LayerMap:
    """Which learner layer listens to which source layer, how strongly: a fixed map (``weights``) or a learned one
    (``module``).

    Args:
        summary, reference (str): For ``gkd list``.
        weights (callable, optional): ``weights(L, K, values, own)`` gives the ``[L, K]`` matrix; ``values`` are the
            group's keys, ``own`` is true where the source is the learner itself. Raises ``ValueError`` where depths do
            not allow the map.
        module (callable, optional): For learned maps: ``module(values, learner, source, tap, own)`` gives a module whose
            ``forward(learner, source)`` of two observations returns the matrix; ``values`` are the map's own keys.
        keys (tuple of Key): Keys that only this map reads. Those of a fixed map join each group that uses it
            (``shift``, ``pairs``); those of a learned map, which all groups share, in a group ``kd_<map>`` of its own.
            A key of a fixed map without a default must be given.
        allows_self (bool): Whether a network's own deeper layers may be the source.
        check (callable, optional): ``check(values, own)`` returns what is wrong with a fixed map's keys at any
            depth, and what is allowed; or ``None``.
    """

    summary: str
    reference: str
    weights: Callable[[int, int, Mapping[str, Any], bool], Tensor] | None = None
    module: Callable[[Mapping[str, Any], Outline, Outline, str, bool], nn.Module] | None = None
    keys: tuple[Key, ...] = ()
    allows_self: bool = True
    check: Callable[[Mapping[str, Any], bool], tuple[str, str] | None] | None = None

    @property
    def learned(self) -> bool:
        """Whether its weights are trained."""
        return self.weights is None

    def describe(self, values: Mapping[str, Any]) -> str:
        """What a learned map's weights are, with the numbers of a plan; the module's own ``describe`` where it has one."""
        own = getattr(self.module, "describe", None)
        if own is not None:
            return str(own(values))
        keys = ", ".join(f"{key} {show(value)}" for key, value in values.items())
        return f"{self.summary}{f' ({keys})' if keys else ''}"

    @property
    def key(self) -> str:
        """The key of the group that decides which layers are meant."""
        return self.keys[0].name if self.keys and not self.learned else "layer_map"


Member: TypeAlias = int | str
"""Who teaches: a student's number from 1, or the name of a source that has a model of its own."""


@dataclass(frozen=True)
class Source:
    """Who teaches.

    Args:
        members (callable): ``members(learner, students)`` names the models that teach student ``learner`` (both from 1):
            a student's number, or the name of a source with a ``model``, such as ``"teacher"`` or ``"self"``. The value
            of a term is the mean over them.
        summary, reference (str): For ``gkd list``.
        needs_students (int): The smallest number of students with which it has members.
        keys (tuple of Key): Keys of its own; they join the group ``kd``.
        model (type, optional): The :class:`~gkd_plugin.space.sources.SourceModel` behind the member that has the
            source's own name.
        named (callable, optional): ``named(kd)`` tells whether the scheme's keys name this source. Then it is what
            groups listen to by default; to listen to it where nothing names it is a mistake.
        advice (str): What to write where it is not named, or where there are too few students for it.
        check (callable, optional): ``check(values, task)`` of the keys of a group that listens to it, and of the task
            where it is known, returns what is wrong and what is allowed; or ``None``.
    """

    members: Callable[[int, int], tuple[Member, ...]]
    summary: str
    reference: str
    needs_students: int = 1
    keys: tuple[Key, ...] = ()
    model: type[SourceModel] | None = None
    named: Callable[[Mapping[str, Any]], bool] | None = None
    advice: str = ""
    check: Callable[[Mapping[str, Any], Task | None], tuple[str, str] | None] | None = None


@dataclass(frozen=True)
class Schedule:
    """How a weight moves with the epoch (from 0).

    Args:
        pattern (str): Regular expression of the whole word; its groups are whole numbers.
        factor (callable): ``factor(epoch, *numbers)``.
        summary, reference (str): For ``gkd list``.
        valid (callable, optional): ``valid(*numbers)`` returns what is wrong with the numbers, or ``None``.
    """

    pattern: str
    factor: Callable[..., float]
    summary: str
    reference: str
    valid: Callable[..., str | None] | None = None

    def numbers(self, word: str) -> tuple[int, ...] | None:
        """The numbers in ``word``, or ``None`` where it is not of this schedule."""
        match = re.fullmatch(self.pattern, word)
        try:
            return tuple(int(part) for part in match.groups()) if match else None
        except (TypeError, ValueError):  # a group that took something else than a number
            return None

    def measure(self, epoch: int, numbers: tuple[int, ...]) -> float:
        """The factor in one epoch.

        Raises:
            UserError: If it is no number of at least 0, or the function fails.
        """
        try:
            found = self.factor(epoch, *numbers)
        except Exception as error:  # a plugin's own function
            raise UserError(f"the factor in epoch {epoch} cannot be computed: {describe_error(error)}") from error
        if not isinstance(found, SupportsFloat) or not 0 <= float(found) < math.inf:
            raise UserError(f"the factor in epoch {epoch} is {found!r}, and not a number of at least 0")
        return float(found)


@dataclass(frozen=True)
class Preset:
    """A published method as a point of the space.

    Args:
        summary, reference (str): For ``gkd list``.
        groups (mapping): Keys by group as YAML names it (``kd``, ``kd_structure``, ...).
        source (str, optional): The source that its groups listen to, unless they name another.
        multilabel (mapping): Keys that differ where each item may have several labels, by group.
    """

    summary: str
    reference: str
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str | None = None
    multilabel: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
