"""What distillation does to a student: how large each term's gradient is, and whether it pulls with the labels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gkd_plugin.plan import Plan
from gkd_plugin.space import schedules
from gkd_plugin.training.checkpoint import write_atomically
from gkd_plugin.training.recorders.base import Recorder
from gkd_plugin.training.rows import read_rows
from gkd_plugin.training.students import Student

EVERY = 20  # epochs between two records; each costs a backward pass for every term
FILE = "diagnostics.json"
FELT = 0.5  # a schedule's factor from which on a term should be felt
LOST = 1e-2  # a remainder this much smaller than the whole has lost digits, and is computed by itself
FAINT = 1e-3  # share of the gradient under which a term hardly counts


def gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The gradient of a loss as one vector, 0 where it does not reach."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    flat = [torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, found, strict=True)]
    return torch.cat(flat)


def compare(
    task: Tensor | None, terms: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], summed: bool = False
) -> dict[str, float]:
    """Norms and shares of the gradients of a student's network.

    Args:
        task (Tensor, optional): The weighted label loss; ``None`` where its weight is 0.
        terms (mapping): The weighted terms by name.
        parameters (sequence): The network's parameters; heads and projections are not asked.
        summed (bool): Whether their ``grad`` is the gradient of the sum of all; the label loss's is what the terms leave of
            it, which saves a backward pass.

    Returns:
        dict: ``<name>_norm`` and ``<name>_share`` (of the sum of all norms) for ``task`` and every term, and ``cosine``
        between the label gradient and the sum of the terms' (NaN where either is 0).
    """
    trained = [p for p in parameters if p.requires_grad]
    found = {name: gradients(loss, trained) for name, loss in terms.items() if loss.requires_grad}
    if task is not None and task.requires_grad:
        whole = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trained] if summed else []
        own = torch.cat(whole) - sum(found.values()) if summed else None
        if own is None or float(own.norm()) < LOST * float(torch.cat(whole).norm()):
            own = gradients(task, trained)
        found = {"task": own, **found}
    norms = {name: float(vector.norm()) for name, vector in found.items()}
    total = sum(norms.values())
    row = {f"{name}_norm": norm for name, norm in norms.items()}
    row |= {f"{name}_share": norm / total if total > 0 else math.nan for name, norm in norms.items()}
    distilled = [vector for name, vector in found.items() if name != "task"]
    if "task" in found and distilled:
        pull = torch.stack(distilled).sum(0)
        product = norms["task"] * float(pull.norm())
        row["cosine"] = float(found["task"] @ pull) / product if product > 0 else math.nan
    return row


class Diagnostics(Recorder):
    """Writes a row for each student every 20 epochs into ``diagnostics.json`` of the seed's folder.

    Args:
        folder (Path): The seed's folder.
        plan (Plan, optional): The plan, whose schedules say when a term should be felt.
    """

    def __init__(self, folder: Path, plan: Plan | None = None) -> None:
        self.path = folder / FILE
        self._written: set[tuple[int, int]] = set()
        self.shares: dict[str, list[float]] = {}
        self.counted: dict[str, list[float]] = {}
        groups = plan.active if plan is not None else ()
        self._schedules = {part.label(g.name): str(g["schedule"]) for g in groups for part in g.active_parts}

    def resume(self, done: int) -> None:
        """Drops the rows of epochs that will be trained again."""
        kept = [row for row in self._rows() if row["epoch"] < done]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        if self.path.is_file() and self.path.read_text(errors="replace") != text:  # also a row that was torn
            write_atomically(self.path, lambda file: file.write(text.encode()))
        for row in kept:
            self._note(row)

    def asks_step(self, epoch: int, student: Student) -> bool:
        """The first step of every 20th epoch."""
        return epoch % EVERY == 0 and (epoch, student.number) not in self._written

    def see_step(
        self,
        epoch: int,
        student: Student,
        task: Tensor | None,
        terms: Mapping[str, Tensor],
        values: Mapping[str, float],
        summed: bool = False,
    ) -> None:
        """Writes a row; accumulated gradients are not touched."""
        if not self.asks_step(epoch, student):
            return
        self._written.add((epoch, student.number))
        parameters = list(student.model.module.parameters())
        row = {"epoch": epoch, "student": student.number, **values, **compare(task, terms, parameters, summed)}
        self._note(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            file.write(
                json.dumps({key: round(value, 8) if value == value else None for key, value in row.items()}) + "\n"
            )

    def warnings(self) -> Iterator[str]:
        for name in self.find_faint():
            yield (
                f"{name}: its gradient stayed under 0.1 % of the whole. A larger weight may help, or what makes the term "
                "so small: see diagnostics.json."
            )

        for name, counted in self.counted.items():
            if max(counted) == 0:
                yield f"{name}: no item reached {name}.confidence in any record of diagnostics.json: the term taught nothing."

    def find_faint(self) -> list[str]:
        """Terms whose gradient stayed under 0.1 % of the whole in every record in which they counted."""
        return [name for name, shares in self.shares.items() if name != "task" and shares and max(shares) < FAINT]

    def _note(self, row: Mapping[str, float]) -> None:
        """Remembers a row's shares; not of terms that their schedule still fades in, or that compared nothing."""
        for key, value in row.items():
            if key.endswith("_counted"):
                self.counted.setdefault(key.removesuffix("_counted"), []).append(value)
            name = key.removesuffix("_share")
            if name == key or value is None or value != value or row.get(f"{name}_counted") == 0:
                continue
            word = self._schedules.get(name, "constant")
            if schedules.factor(word, int(row["epoch"])) >= FELT:
                self.shares.setdefault(name, []).append(value)

    def _rows(self) -> list[dict[str, float]]:
        return [row for _, row in read_rows(self.path)]
