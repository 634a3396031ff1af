"""The small table at the end of ``gkd run``: a cohort beside its control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from gkd_plugin.config.plan import Plan
from gkd_plugin.training.result import RunResult


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
        mean, count = float(gaps.mean()), len(gaps)
        if count < 2:
            return cls(mean, float("nan"), float("nan"), count)
        from scipy import stats  # only here: it is heavy

        half = float(stats.t.ppf(0.975, count - 1) * gaps.std(ddof=1) / count**0.5)
        return cls(mean, mean - half, mean + half, count)

    def text(self, scale: float) -> str:
        """``+0.42 [-0.10, +0.94]``."""
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
            yield self._table()
        for seed, why in self.failures.items():
            yield f"[bold red]seed {seed} failed:[/] {why}"
        yield f"written to {self.folder}"
        if self.control is not None:
            yield f"control in {self.control.folder}"

    def __str__(self) -> str:
        console = Console(width=110, color_system=None)
        with console.capture() as text:
            console.print(self, highlight=False)
        return text.get().rstrip()

    def _table(self) -> Table:
        first = self.results[0]
        scale = 100.0 if first.metric in ("accuracy", "auc", "f1", "f1_micro") else 1.0
        unit = " %" if scale == 100.0 else ""
        seeds = f"{len(self.results)} seed{'s' if len(self.results) > 1 else ''}"
        table = Table(
            title=f"test {first.metric}{unit} at the validation-selected epoch, {seeds}", title_justify="left"
        )
        several = self.plan.students > 1
        table.add_column("run")
        for head in ("mean over students", "best", "ensemble") if several else ("student",):
            table.add_column(head, justify="right")
        table.add_column("parameters", justify="right")
        table.add_column("time", justify="right")
        answers = ("mean", "best", "ensemble") if several else ("first",)
        for report in (self, self.control):
            if report is not None and report.results:
                sizes = sorted(set(report.results[0].parameters))
                table.add_row(
                    report.name,
                    *(spread(report.tests(answer), scale) for answer in answers),
                    " / ".join(f"{size:,}" for size in sizes) + (" each" if several and len(sizes) == 1 else ""),
                    f"{sum(result.seconds for result in report.results) / len(report.results):.1f} s",
                )
        if self.control is not None and self.control.results:
            table.add_section()
            table.add_row("paired difference", *(self.difference(answer).text(scale) for answer in answers), "", "")
        return table


def spread(values: Sequence[float], scale: float) -> str:
    """``81.20 ± 0.45``: mean and standard deviation over seeds."""
    mean = float(np.mean(values)) * scale
    return f"{mean:.2f}" if len(values) < 2 else f"{mean:.2f} ± {float(np.std(values, ddof=1)) * scale:.2f}"
