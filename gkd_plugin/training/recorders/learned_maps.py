"""Learned layer maps over time: a row for every map and evaluation epoch, and heat maps at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gkd_plugin.training.checkpoint import write_atomically
from gkd_plugin.training.recorders.base import Recorder
from gkd_plugin.training.result import RunResult
from gkd_plugin.training.rows import read_rows
from gkd_plugin.training.students import Student

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE, FIGURE, VECTOR = "attention.json", "attention.png", "attention.pdf"


def measure_entropy(module: Any, weights: Tensor) -> float:
    """The entropy (nats) of a map's weights: by its own method where it has one."""
    if hasattr(module, "entropy"):
        return float(module.entropy())
    share = weights.flatten().double() / weights.sum().clamp(min=1e-12)
    return float(torch.special.entr(share).sum())


class LearnedMaps(Recorder):
    """Keeps the learned layer maps of a run in ``attention.json`` of the seed's folder.

    Args:
        folder (Path): The seed's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def columns(self, student: Student) -> dict[str, float]:
        """The entropy of each map; 0 before a schedule first computes it."""
        last = student.objective.last_weights
        return {
            f"{name}_{member}_entropy": measure_entropy(module, last[name, member]) if (name, member) in last else 0.0
            for (name, member), module in student.objective.learned_maps().items()
        }

    def see_evaluation(self, epoch: int, students: Sequence[Student]) -> None:
        """Adds a row for every map: ``weights`` has a learner layer in each row."""
        lines = []
        for student in students:
            for (name, member), module in student.objective.learned_maps().items():
                last = student.objective.last_weights.get((name, member))
                if last is not None:
                    weights = [[round(float(w), 6) for w in row] for row in last.tolist()]
                    row = {"epoch": epoch, "student": student.number, "map": name, "source": member, "weights": weights}
                    lines.append(json.dumps({**row, "entropy": round(measure_entropy(module, last), 6)}) + "\n")
        if lines:
            with open(self.folder / FILE, "a") as file:
                file.writelines(lines)

    def resume(self, done: int) -> None:
        """Drops the rows of epochs that will be trained again."""
        path = self.folder / FILE
        if path.is_file():
            text = "".join(json.dumps(row) + "\n" for row in self.rows() if row["epoch"] < done)
            write_atomically(path, lambda file: file.write(text.encode()))

    def rows(self) -> list[dict[str, Any]]:
        """All whole rows."""
        return [row for _, row in read_rows(self.folder / FILE)]

    def warnings(self) -> Iterator[str]:
        if self.rows() and find_spec("matplotlib") is None:
            yield f"{FIGURE} and {VECTOR} are not drawn, matplotlib is not installed: pip install 'gkd_plugin[plot]'. {FILE} has the maps."

    def finish(self, result: RunResult) -> None:
        self.draw()

    def draw(self) -> Path | None:
        """The last map of every student and source as pixels and as vectors; nothing without rows or matplotlib."""
        rows = self.rows()
        if not rows or find_spec("matplotlib") is None:
            return None
        from matplotlib import rc_context  # heavy, and an extra

        with rc_context({"text.parse_math": False}):  # a name may have dollars in it
            figure = draw_maps(rows, f"{self.folder.resolve().parent.name}, seed folder {self.folder.name}")
            figure.savefig(self.folder / FIGURE, dpi=120)
            figure.savefig(self.folder / VECTOR, metadata={"CreationDate": None})  # the same maps, the same file
        return self.folder / FIGURE


def draw_maps(rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """A heat map for the last row of every student and source: learner layers downwards, source layers to the right.

    Args:
        rows (sequence): What ``attention.json`` holds.
        title (str): What stands above.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    last = {(row["student"], row.get("map", ""), row["source"]): row for row in rows}
    deepest = max(len(row["weights"][0]) for row in last.values())
    figure = Figure(figsize=(max(5.5, 1.5 + 0.16 * deepest), 2.4 * len(last)), layout="constrained")
    axes = figure.subplots(len(last), 1, squeeze=False)[:, 0]
    for axis, ((student, _, source), row) in zip(axes, sorted(last.items(), key=str), strict=True):
        depth, columns = len(row["weights"]), len(row["weights"][0])
        edges = ([layer + 0.5 for layer in range(count + 1)] for count in (columns, depth))
        # cells of their own: an image would be pixels in the vector file, too. Their edges hide seams between them.
        cells = axis.pcolormesh(*edges, row["weights"], cmap="viridis", vmin=0, edgecolors="face", linewidth=0.2)
        axis.invert_yaxis()
        name = f"student {source}" if source.isdigit() else source
        axis.set_title(
            f"student {student} listening to {name}, epoch {row['epoch']}, entropy {row['entropy']:.2f}", fontsize=9
        )
        axis.set_xlabel("source layer")
        axis.set_ylabel("learner layer")
        for line in (axis.xaxis, axis.yaxis):  # whole layers, also where there is only one
            line.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        figure.colorbar(cells, ax=axis, label="weight")
    figure.suptitle(title, fontsize=10)
    return figure
