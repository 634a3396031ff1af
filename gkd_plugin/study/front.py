"""The runs of a study by what they cost: which are better than all that are as small, and than all that are as fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from torch_geometric.data import Data

from gkd_plugin.commands.results import load_student
from gkd_plugin.deploy.chosen import choose_seed
from gkd_plugin.deploy.cost import Timing, time_in_turns
from gkd_plugin.deploy.graphs import choose_graph, read_graphs
from gkd_plugin.errors import UserError
from gkd_plugin.models.sample import infer_task
from gkd_plugin.models.trained import TrainedStudent
from gkd_plugin.printing import Printable
from gkd_plugin.study.records import StudyResults, read_study
from gkd_plugin.study.tables import list_data_sets, pareto
from gkd_plugin.training.metrics import PERCENT
from gkd_plugin.training.result import replace_nan


@dataclass(frozen=True)
class Costed:
    """One run of a study.

    Args:
        name (str): Its name.
        data (tuple): The values of the dimensions that choose the data; fronts are drawn within each.
        parameters (float): Of one student.
        val, test, low, high (float): Scores over seeds: means, and the 95 % interval of the test score.
        latency (Timing): One pass over the whole graph.
        small, fast (bool): Whether no run that is as small (as fast) is as good by validation.
    """

    name: str
    data: tuple[str, ...]
    parameters: float
    val: float
    test: float
    low: float
    high: float
    latency: Timing
    small: bool = False
    fast: bool = False


@dataclass(frozen=True, repr=False)
class StudyCard(Printable):
    """What ``gkd card DIR`` shows of a study.

    Args:
        name (str): The study.
        metric (str): The metric of the scores.
        runs (tuple of Costed): Its runs, the smallest first; no controls.
        device (str): Where they were timed.
        threads (int): Threads on the CPU.
        notes (tuple of str): What was left out, and why.
    """

    name: str
    metric: str
    runs: tuple[Costed, ...]
    device: str
    threads: int
    notes: tuple[str, ...]

    @property
    def front(self) -> tuple[Costed, ...]:
        """The runs on a front."""
        return tuple(run for run in self.runs if run.small or run.fast)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``--out`` writes them."""
        found: dict[str, Any] = replace_nan(asdict(self))
        return found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        scale, unit = (100.0, " %") if self.metric in PERCENT else (1.0, "")
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.device == "cpu" else ""
        yield escape(
            f"{self.name}: {len(self.front)} of {len(self.runs)} runs are on a front; validation decides, and the test score stands "
            "beside it"
        )
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        heads = (
            "run",
            f"validation {self.metric}{unit}",
            f"test{unit} [95 %]",
            "parameters",
            f"time ({self.device}{threads})",
            "best of",
        )
        for head in heads:
            table.add_column(escape(head), overflow="fold")
        for run in self.front:
            interval = f" [{run.low * scale:.2f}, {run.high * scale:.2f}]" if run.low == run.low else ""
            best = " and ".join(word for word, on in (("its size", run.small), ("its speed", run.fast)) if on)
            row = (
                run.name,
                f"{run.val * scale:.2f}",
                f"{run.test * scale:.2f}{interval}",
                f"{run.parameters:,.0f}",
                f"{run.latency.median * 1e3:.3g} ms",
                best,
            )
            table.add_row(*map(escape, row))
        yield table
        for note in self.notes:
            yield escape(note)


def make_study_card(folder: str | Path) -> StudyCard:
    """Measures one pass of every run of a study, in turns, and finds the fronts.

    Args:
        folder (str or Path): The folder of the study, or one that contains runs.

    Raises:
        UserError: If there is no finished run in it, or pandas is not installed.
    """
    results = read_study(folder)
    table = pareto(results).to_dict("records")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = list_data_sets(results)
    notes: list[str] = []
    if not table:
        raise UserError(f"{folder} has no finished run with a validation score. gkd status says what there is.")
    runs: list[Costed] = []
    for place in dict.fromkeys(tuple(str(row[name]) for name in data) for row in table):
        rows = [row for row in table if tuple(str(row[name]) for name in data) == place]
        times = _time(results, [str(row["name"]) for row in rows], device, notes)
        made = [
            Costed(
                str(row["name"]),
                place,
                float(row["parameters"]),
                val=float(row["val"]),
                test=float(row["test"]),
                low=float(row["test_low"]),
                high=float(row["test_high"]),
                latency=times[row["name"]],
            )
            for row in rows
            if row["name"] in times
        ]
        small = find_front([(run.parameters, run.val) for run in made], results.better)
        fast = find_front([(run.latency.median, run.val) for run in made], results.better)
        runs += [replace(run, small=small[n], fast=fast[n]) for n, run in enumerate(made)]
    return StudyCard(results.name, results.metric, tuple(runs), device.type, torch.get_num_threads(), tuple(notes))


def _time(results: StudyResults, names: Sequence[str], device: torch.device, notes: list[str]) -> dict[str, Timing]:
    """The time of one pass of each run on the same graph."""
    folders = dict(zip(results.points["name"], results.points["folder"], strict=True))
    students: dict[str, TrainedStudent] = {}
    graph: Data | None = None
    for name in names:
        try:
            chosen = choose_seed(folders[name])
            student = load_student(chosen.folder)
            if graph is None:
                graphs = read_graphs(student.kd_cfg, chosen.result.seed, chosen.run)
                graph = choose_graph(graphs, infer_task(student.kd_cfg).level)[0].to(device)
        except UserError as error:
            notes.append(f"{name} is left out: {error}")
            continue
        students[name] = student.to(device)
    return time_in_turns({name: partial(student, graph) for name, student in students.items()}, device)


def find_front(points: Sequence[tuple[float, float]], better: bool) -> list[bool]:
    """Whether nothing is as good for less, or better for as much.

    Args:
        points (sequence): Cost and score of each.
        better (bool): Whether more of the score is better.
    """
    sign = 1 if better else -1
    return [
        not any(
            price <= cost and sign * other >= sign * score and (price < cost or other != score)
            for price, other in points
        )
        for cost, score in points
    ]
