"""The small table at the end of ``gkd run``: a cohort beside its control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from gkd_plugin.config.plan import Plan
from gkd_plugin.training.result import RunResult

PERCENT = ("accuracy", "auc", "f1", "f1_micro", "precision", "recall")


@dataclass(frozen=True)
class Paired:
    """A paired difference over seeds.

    Args:
        mean (float): Mean of the differences.
        low, high (float): Its 95 % t-interval; NaN below two seeds.
        count (int): Number of pairs.
    """

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Paired:
        """The difference ``ours - theirs`` of values in the order of their seeds."""
        gaps = np.subtract(ours, theirs)
        count = len(gaps)
        mean = float(gaps.mean()) if count else float("nan")
        if count < 2:
            return cls(mean, float("nan"), float("nan"), count)
        from scipy import stats  # only here: it is heavy

        half = float(stats.t.ppf(0.975, count - 1) * gaps.std(ddof=1) / count**0.5)
        return cls(mean, mean - half, mean + half, count)

    def text(self, scale: float) -> str:
        """``+0.42 [-0.10, +0.94]``."""
        if self.count == 0:
            return "-"
        if self.low != self.low:
            return f"{self.mean * scale:+.2f}"
        return f"{self.mean * scale:+.2f} [{self.low * scale:+.2f}, {self.high * scale:+.2f}]"


@dataclass(frozen=True)
class RunReport:
    """What ``gkd run`` returns: one result for each seed, the folder, and the control's report where there is one.

    Args:
        name (str): The run's name.
        folder (Path): Where everything was written.
        plan (Plan): The plan.
        results (list of RunResult): Finished seeds, in order.
        failures (dict): What ended the others, by seed.
        control (RunReport, optional): The same cohort without distillation.
    """

    name: str
    folder: Path
    plan: Plan
    results: list[RunResult]
    failures: dict[int, str] = field(default_factory=dict)
    control: RunReport | None = None

    def tests(self, answer: str) -> list[float]:
        """Test scores of an answer (``mean``, ``best``, ``first``, ``ensemble``, ``s1``) by seed."""
        return [result.answers[answer].test for result in self.results]

    def difference(self, answer: str = "mean") -> Paired:
        """The paired difference to the control over the seeds that both finished.

        Raises:
            ValueError: If there is no control.
        """
        if self.control is None:
            raise ValueError("this report has no control; run with control=True")
        ours = {result.seed: result.answers[answer].test for result in self.results}
        theirs = {result.seed: result.answers[answer].test for result in self.control.results}
        seeds = sorted(ours.keys() & theirs.keys())
        return Paired.of([ours[s] for s in seeds], [theirs[s] for s in seeds])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.results:
            yield self._title()
            yield self._table()
        for name, report in (("", self), ("control ", self.control)):
            for seed, why in (report.failures if report is not None else {}).items():
                yield f"[bold red]{name}seed {seed} failed:[/] {escape(why)}"
        yield f"written to {escape(str(self.folder))}"
        if self.control is not None:
            yield f"control in {escape(str(self.control.folder))}"

    def __str__(self) -> str:
        console = Console(width=110, color_system=None)
        with console.capture() as text:
            console.print(self, highlight=False, soft_wrap=True)
        return "\n".join(line.rstrip() for line in text.get().rstrip().splitlines())

    @property
    def _scale(self) -> float:
        return 100.0 if self.results[0].metric in PERCENT else 1.0

    def _title(self) -> str:
        seeds = f"{len(self.results)} seed{'s' if len(self.results) > 1 else ''}"
        unit = " %" if self._scale == 100.0 else ""
        return f"test {self.results[0].metric}{unit} at the validation-selected epoch, {seeds}"

    def _table(self) -> Table:
        first, scale = self.results[0], self._scale
        several = self.plan.students > 1
        beside = self.control if self.control is not None and self.control.results else None
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        table.add_column("")
        table.add_column(escape(self.name), overflow="fold")
        if beside is not None:
            table.add_column("control", overflow="fold")
            table.add_column("paired difference [95 %]", no_wrap=True)
        names = {"mean": "mean over students", "best": "best", "first": "first", "ensemble": "ensemble"}
        for answer, name in names.items() if several else (("first", "student"),):
            row = [spread(report.tests(answer), scale) for report in (self, beside) if report is not None]
            if beside is not None:
                row.append(self.difference(answer).text(scale).replace("[", "\\["))
            table.add_row(name, *row)
        sizes = sorted(set(first.parameters))
        each = " each" if several and len(sizes) == 1 else ""
        table.add_row("parameters", *[" / ".join(f"{size:,}" for size in sizes) + each] * (2 if beside else 1))
        times = [np.mean([r.seconds for r in report.results]) for report in (self, beside) if report is not None]
        table.add_row("time for each seed", *(f"{seconds:.1f} s" for seconds in times))
        return table


def spread(values: Sequence[float], scale: float) -> str:
    """``81.20 ± 0.45``: mean and standard deviation over seeds."""
    mean = float(np.mean(values)) * scale
    return f"{mean:.2f}" if len(values) < 2 else f"{mean:.2f} ± {float(np.std(values, ddof=1)) * scale:.2f}"
