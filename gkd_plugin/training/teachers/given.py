"""What a caller hands over as a teacher, as the one module that the loop asks: a module of any origin, or rows of logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gkd_plugin.data.tasks import LabelKind
from gkd_plugin.errors import UserError, quote
from gkd_plugin.models.own import call_module, join_logits, match_parts
from gkd_plugin.space.observation import TAPS, Graph, Observation
from gkd_plugin.training.teachers.file import SUFFIXES, StoredTeacher

ALLOWED = f"Allowed: a torch.nn.Module, a tensor of logits [nodes, classes], or a file of them ({', '.join(SUFFIXES)})."


class GivenTeacher(nn.Module):
    """A teacher in the form that the loop asks for: logits of every item, with hidden states where it has them.

    Args:
        module (nn.Module, optional): A module; it is run on its own device.
        logits (Tensor, optional): Logits by node, instead of a module.
        layers (sequence of Tensor): Hidden states by node beside them.
        pattern (str, optional): Names of the module's parts whose outputs are its hidden states.
        kind (LabelKind): What the labels ask for.
        needs_layers (str, optional): What an error says where there are no hidden states; without it they are not needed.
    """

    def __init__(
        self,
        module: nn.Module | None,
        *,
        logits: Tensor | None = None,
        layers: Sequence[Tensor] = (),
        kind: LabelKind,
        pattern: str | None = None,
        needs_layers: str | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.title = type(module).__name__ if module is not None else "logits"
        self.register_buffer("logits", logits)
        self.stored = len(layers)
        for number, states in enumerate(layers, 1):  # buffers, which are part of what tells one teacher from another
            self.register_buffer(f"layer_{number}", states)
        self.kind, self.needs_layers = kind, needs_layers
        self.parts = (
            match_parts(module, pattern, "teacher_layers=", "the teacher")
            if module is not None and pattern is not None
            else []
        )

    def forward(self, batch: Any) -> Observation:
        device = batch.edge_index.device
        graph = Graph(
            batch.edge_index,
            int(batch.num_nodes),
            train_mask=batch.get("train_mask"),
            batch=batch.get("batch"),
            node_id=batch.get("n_id"),
        )
        if self.module is None:
            rows = slice(None) if graph.node_id is None else graph.node_id
            found: Any = self.get_buffer("logits").to(device)[rows]
            seen = [self.get_buffer(f"layer_{number}").to(device)[rows] for number in range(1, self.stored + 1)]
        else:
            its = next((each.device for each in [*self.module.parameters(), *self.module.buffers()]), device)
            with _watching(self.parts) as seen:
                found = call_module(self.module, batch if its == device else batch.clone().to(its), self.kind.level)
            if isinstance(found, Observation) and found.hidden and not self.parts:
                return replace(found, logits=self._require_fit(found.logits.to(device), batch))
        found = found.logits if isinstance(found, Observation) else found
        found = found[0] if isinstance(found, (tuple, list)) and found else found
        if not isinstance(found, Tensor):
            raise UserError(f"teacher=: the module returned {type(found).__name__}. It must give logits of every item.")
        states = tuple(state.to(device) for state in seen)
        if self.needs_layers is not None and not states:
            raise UserError(self.needs_layers)
        logits = self._require_fit(found.to(device), batch)
        return Observation(logits, {tap: states for tap in TAPS} if states else {}, graph)

    def _require_fit(self, logits: Tensor, batch: Any) -> Tensor:
        """The logits as the students give theirs."""
        items = int(batch.num_graphs if self.kind.level == "graph" else batch.num_nodes)
        rows = 0 if logits.dim() == 0 else len(logits)
        if rows != items:
            raise UserError(
                f"teacher=: it gives {rows} rows of logits for {items} {self.kind.level}s; every {self.kind.level} needs one."
            )
        columns = 1 if logits.dim() == 1 else int(logits.size(1)) if logits.dim() == 2 else 0
        fitting = {self.kind.width, 1} if self.kind.binary else {self.kind.width}
        if columns not in fitting:
            shape = list(logits.shape)
            asked = f"{self.kind.width} classes" if self.kind.width > 1 else "one number for each"
            raise UserError(
                f"teacher=: it gives logits {shape} for {items} {self.kind.level}s, but data.y has {asked}."
            )
        if not logits.is_floating_point():
            raise UserError(
                f"teacher=: it gives {logits.dtype}, such as predicted classes. Logits are floats, before any softmax."
            )
        if self.kind.binary and columns == 2:
            logits = join_logits(logits)
        return logits.float()


def make_teacher(
    teacher: Any, kind: LabelKind, *, pattern: str | None = None, needs_layers: str | None = None
) -> GivenTeacher:
    """A teacher that a caller hands over.

    Args:
        teacher (nn.Module or Tensor or str or Path): A module, logits by node, or a file of them.
        kind (LabelKind): What the labels ask for.
        pattern (str, optional): Names of a module's parts whose outputs are its hidden states.
        needs_layers (str, optional): As for :class:`GivenTeacher`.

    Raises:
        UserError: If it is something else.
    """
    if isinstance(teacher, nn.Module):
        return GivenTeacher(teacher, kind=kind, pattern=pattern, needs_layers=needs_layers)
    if pattern is not None:
        raise UserError(
            "teacher_layers= names parts of a module, and the teacher is none. A file holds its hidden states itself."
        )
    if isinstance(teacher, np.ndarray):
        teacher = torch.from_numpy(np.array(teacher))
    layers: tuple[Tensor, ...] = ()
    if isinstance(teacher, (str, Path)):
        stored = _read_file(Path(teacher))
        teacher, layers = stored.logits, stored.layers
    if not isinstance(teacher, Tensor):
        raise UserError(f"teacher=: {type(teacher).__name__} {quote(teacher)}. {ALLOWED}")
    if kind.level == "graph":
        raise UserError(
            "teacher=: rows of logits teach node tasks only, and the data have a label for each graph. Give the module."
        )
    if needs_layers is not None and not layers:
        raise UserError(needs_layers)
    return GivenTeacher(None, logits=teacher.detach().cpu(), layers=layers, kind=kind)


def _read_file(path: Path) -> StoredTeacher:
    if path.suffix not in SUFFIXES:
        raise UserError(f"teacher=: '{path}' is not a file of logits. {ALLOWED}")
    if not path.is_file():
        raise UserError(f"teacher=: there is no file {path}.")
    return StoredTeacher(path)


@contextmanager
def _watching(parts: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The outputs of a module's parts during one forward pass; its hooks go with it."""
    seen: list[Tensor] = []

    def keep(_part: nn.Module, _args: Any, output: Any) -> None:
        while isinstance(output, (tuple, list)):
            output = output[0]
        seen.append((output if isinstance(output, Tensor) else output.x).clone())

    handles = [part.register_forward_hook(keep) for part in parts]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
