"""Modules of a user's own: called as PyG's models are, and as a network of the host for as long as a run lasts."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch_geometric.graphgym import register

from gkd_plugin.errors import UserError, nearest, quote
from gkd_plugin.printing import HANDED

OWN = "own_"
"""How ``model.type`` begins for a module that was handed over in Python; only the call that was given it can build it."""


def name_network(type: str) -> str:
    """How a reader is told a ``model.type``: ``Small (handed over in Python)`` for a module of the user's own."""
    return f"{type.removeprefix(OWN).rpartition('_')[0]} ({HANDED})" if type.startswith(OWN) else type


def call_module(module: nn.Module, batch: Any, level: str, what: str = "teacher=") -> Any:
    """What a module of any origin returns on a batch.

    A module whose forward starts with ``x``, or asks for more than one argument, is called as PyG's models are: each
    argument is what the batch holds under its name. torch's own (``nn.Linear``, ``nn.Sequential``) get ``x``, and any other
    the batch itself.

    Args:
        module (nn.Module): The module.
        batch (Batch): The batch; it is left as it is.
        level (str): What is predicted: ``node``, ``edge`` or ``graph``.
        what (str): How an error names the module.

    Raises:
        UserError: If it asks for something that the batch does not have.
    """
    batch = copy.copy(batch)
    module = module.module if isinstance(module, nn.DataParallel) else module
    if type(module).__module__.startswith("torch.nn.") and "forward" not in vars(module):
        return module(batch.x)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [each for each in inspect.signature(module.forward).parameters.values() if each.kind in kinds]
    needed = [each.name for each in named if each.default is each.empty]
    if not named or (named[0].name != "x" and len(needed) < 2):
        return module(batch)
    missing = [name for name in needed if name not in batch]
    if missing:
        raise UserError(
            f"{what}: forward of the module asks for {', '.join(missing)}, but the data have {', '.join(sorted(batch.keys()))}. "
            "Its arguments are named as the data are (x, edge_index, ...), or it takes the batch as its only one."
        )
    graphs = ("batch",) if level == "graph" else ()  # elsewhere nothing is pooled
    optional = [
        e.name for e in named if e.name in ("edge_index", "edge_weight", "edge_attr", *graphs) and e.name in batch
    ]
    return module(**{name: batch[name] for name in dict.fromkeys([*needed, *optional])})


def join_logits(logits: Tensor) -> Tensor:
    """The one logit of two classes that the host reads, from one for each: their softmax is its sigmoid."""
    return logits[:, 1:] - logits[:, :1]


class TwoLogits(nn.Module):
    """Two logits for two classes from a network that gives one, as a user's own code expects them.

    Args:
        student (nn.Module): Gives one logit of every item.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, *args: Any, **further: Any) -> Tensor:
        half = self.student(*args, **further).reshape(-1, 1) / 2
        return torch.cat([-half, half], dim=1)


class OwnNetwork(nn.Module):
    """A user's module as a network of the host.

    Args:
        model (nn.Module): The module, whose weights are trained.
        level (str): ``node`` or ``graph``.
        binary (bool): Whether two logits mean two classes.
        dim_out (int): Logits of each item that the host reads.
    """

    def __init__(self, model: nn.Module, level: str, binary: bool, dim_out: int) -> None:
        super().__init__()
        self.model, self.level, self.binary, self.dim_out = model, level, binary, dim_out

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        found = call_module(self.model, batch, self.level, "student=")
        logits = found[0] if isinstance(found, (tuple, list)) and found else found
        items = batch.num_graphs if self.level == "graph" else batch.num_nodes
        if not isinstance(logits, Tensor) or logits.dim() == 0 or len(logits) != items:
            got = f"a tensor {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise UserError(
                f"student=: the module returned {got} for {items} {self.level}s. It must give logits of every one."
            )
        if self.binary and logits.dim() == 2 and logits.size(1) == 2:
            logits = join_logits(logits)
        width = 1 if logits.dim() == 1 else int(logits.size(1)) if logits.dim() == 2 else 0
        if width != self.dim_out:
            raise UserError(
                f"student=: the module returned {list(logits.shape)} for {items} {self.level}s, but data.y asks for "
                f"{max(self.dim_out, 2 if self.binary else 1)} logits each."
            )
        return logits, batch.y


def find_lasting(module: nn.Module) -> list[str]:
    """The names of the parameters that no part of a module can give new values (:func:`reset`)."""
    done = {id(each) for part in _list_renewable(module) for each in part.parameters()}
    return [name for name, each in module.named_parameters() if id(each) not in done]


def reset(module: nn.Module) -> None:
    """Gives a module new weights by ``reset_parameters``: its own, else that of each of its parts."""
    for part in _list_renewable(module):
        part.reset_parameters()


def _list_renewable(module: nn.Module) -> list[Any]:
    """The outermost parts that have ``reset_parameters``, which takes care of what is inside them."""
    if callable(getattr(module, "reset_parameters", None)):
        return [module]
    return [part for child in module.children() for part in _list_renewable(child)]


def match_parts(module: nn.Module, pattern: str, argument: str, whose: str) -> list[nn.Module]:
    """The parts of a module whose names a pattern means, in the order in which they stand in it.

    Args:
        module (nn.Module): The module.
        pattern (str): Such as ``convs.*``; it means the entries of ``convs``, not everything below them.
        argument (str): How an error begins.
        whose (str): How it names the module.

    Raises:
        UserError: If there is none.
    """
    names = {name: part for name, part in module.named_modules() if name}
    found = [
        part for name, part in names.items() if name.count(".") == pattern.count(".") and fnmatchcase(name, pattern)
    ]
    if not found:
        raise UserError(
            f"{argument}: no part of {whose} is called {quote(pattern)}. {nearest(pattern, names)}There are: {', '.join(names)}."
        )
    return found


def require_whole(module: nn.Module) -> None:
    """Refuses a student whose parameters have no size yet, or that has none.

    Args:
        module (nn.Module): The student.

    Raises:
        UserError: If so.
    """
    lazy = [name for name, each in module.named_parameters() if isinstance(each, UninitializedParameter)]
    if lazy:
        raise UserError(
            f"student=: {', '.join(lazy[:3])} have no size yet. Run the module once before: student(data.x, data.edge_index)."
        )
    if not any(each.requires_grad for each in module.parameters()):
        raise UserError(f"student=: {type(module).__name__} has no parameter to train.")


def find_cached(module: nn.Module) -> list[str]:
    """The parts of a module that keep what they derived from the first graph they saw (PyG's ``cached=True``)."""
    return [
        name or type(part).__name__ for name, part in module.named_modules() if getattr(part, "cached", None) is True
    ]


@contextmanager
def keeping_caches(module: nn.Module) -> Iterator[None]:
    """Within, parts of a module may keep what they derive from a graph; afterwards it is as before."""
    before = [
        (part, name, value)
        for part in module.modules()
        for name, value in vars(part).items()
        if name.startswith("_cached_")
    ]
    try:
        yield
    finally:
        for part, name, value in before:
            setattr(part, name, value)


@contextmanager
def offering(name: str, model: nn.Module, level: str, binary: bool) -> Iterator[None]:
    """Within, ``model.type: <name>`` is a copy of a user's module with new weights.

    Args:
        name (str): The name.
        model (nn.Module): The module; it is left as it is.
        level, binary: As for :class:`OwnNetwork`.
    """

    def build(dim_in: int, dim_out: int, **_: Any) -> OwnNetwork:
        own = copy.deepcopy(model).cpu()
        own.train()
        own.zero_grad(set_to_none=True)
        reset(own)
        return OwnNetwork(own, level, binary, dim_out)

    register.network_dict[name] = build
    try:
        yield
    finally:
        del register.network_dict[name]
