"""What distillation does to a student: how large each term's gradient is, and whether it pulls with the labels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gkd_plugin.host import cfg
from gkd_plugin.plan import GroupPlan, Plan
from gkd_plugin.printing import tell
from gkd_plugin.space import schedules
from gkd_plugin.training.checkpoint import write_atomically
from gkd_plugin.training.recorders.base import Recorder
from gkd_plugin.training.rows import read_rows
from gkd_plugin.training.students import Student

EVERY = 20  # epochs between two records; each costs a backward pass for every term
FILE = "diagnostics.json"
FELT = 0.5  # a schedule's factor from which on a term should be felt
FAINT = 1e-3  # share of the gradient under which a term hardly counts


def compare(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """Norms and shares of the gradients of a student's network.

    Args:
        gradients (mapping): The gradient of each weighted term, and of the label loss (``task``) where it counts.

    Returns:
        dict: ``<name>_norm`` and ``<name>_share`` (of the sum of all norms) for each, and ``cosine`` between the label
        gradient and the sum of the terms' (NaN where either is 0).
    """
    norms = {name: float(vector.norm()) for name, vector in gradients.items()}
    total = sum(norms.values())
    row = {f"{name}_norm": norm for name, norm in norms.items()}
    row |= {f"{name}_share": norm / total if total > 0 else math.nan for name, norm in norms.items()}
    distilled = [vector for name, vector in gradients.items() if name != "task"]
    if "task" in gradients and distilled:
        pull = torch.stack(distilled).sum(0)
        product = norms["task"] * float(pull.norm())
        row["cosine"] = float(gradients["task"] @ pull) / product if product > 0 else math.nan
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
        self._epochs: dict[str, set[int]] = {}
        self._untold = False
        groups = plan.active if plan is not None else ()
        self._hints = {part.label(g.name): _suggest(g) for g in groups for part in g.active_parts}
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
        self, epoch: int, student: Student, gradients: Mapping[str, Tensor], values: Mapping[str, float]
    ) -> None:
        """Writes a row."""
        self._written.add((epoch, student.number))
        self._untold = True
        row = {"epoch": epoch, "student": student.number, **values, **compare(gradients)}
        self._note(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            file.write(
                json.dumps({key: round(value, 8) if math.isfinite(value) else None for key, value in row.items()})
                + "\n"
            )

    def see_evaluation(self, epoch: int, students: Sequence[Student]) -> None:
        """Says of a faint term as soon as two records show it: hundreds of epochs may follow."""
        if self._untold:
            self._untold = False
            for name in self.find_faint():
                if len(self._epochs[name]) > 1:
                    tell(self._describe_faint(name))

    def warnings(self) -> Iterator[str]:
        yield from (self._describe_faint(name) for name in self.find_faint())
        for name, counted in self.counted.items():
            if max(counted) == 0:
                yield f"{name}: no item reached {name}.confidence in any record of diagnostics.json: the term taught nothing."

    def _describe_faint(self, name: str) -> str:
        return (
            f"{name}: its gradient stayed under 0.1 % of the whole. A larger weight may help, or what makes the term "
            f"so small: see diagnostics.json.{self._hints.get(name, '')}"
        )

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
                self._epochs.setdefault(name, set()).add(int(row["epoch"]))

    def _rows(self) -> list[dict[str, float]]:
        return [row for _, row in read_rows(self.path)]


def _suggest(group: GroupPlan) -> str:
    """What most often makes a structure faint: similarities that hardly differ, of rows that are short beside the scale."""
    scale = group.get("kernel_scale")
    if not isinstance(scale, float):
        return ""
    also = ", or gnn.l2norm: false" if cfg.gnn.get("l2norm") else ""
    return f" Its kernel_scale {scale:g} may be too wide for these hidden states: try kernel_scale: median{also}."
