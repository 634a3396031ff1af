"""The small table at the end of ``gkd run``: a cohort beside its control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from gkd_plugin.plan import Plan
from gkd_plugin.printing import Printable
from gkd_plugin.training.metrics import PERCENT
from gkd_plugin.training.result import RunResult

COMPARISON = "comparison.json"
INTERVAL_SEEDS = 3  # of two, the interval is 12.7 times as wide as their difference, or nothing at all
EQUAL = 1e-9  # differences of equal scores differ in their last digits


@cache
def _quantile(count: int) -> float:
    """The quantile of the t-distribution for a 95 % interval of a mean."""
    from scipy import stats  # only here: it is heavy

    return float(stats.t.ppf(0.975, count - 1))


@dataclass(frozen=True)
class Paired:
    """A paired difference over seeds.

    Args:
        mean (float): Mean of the differences.
        low, high (float): Its 95 % t-interval; NaN below three seeds, and where all differences are equal:
            neither shows how other seeds vary.
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
        if count < INTERVAL_SEEDS or np.ptp(gaps) < EQUAL:
            return cls(mean, float("nan"), float("nan"), count)
        half = float(_quantile(count) * gaps.std(ddof=1) / count**0.5)
        return cls(mean, mean - half, mean + half, count)

    def text(self, scale: float) -> str:
        """``+0.42 [-0.10, +0.94]``, or ``+0.42 (no interval: 2 seeds)``."""
        if self.count == 0 or self.mean != self.mean:
            return "-"
        if self.low != self.low:
            why = f"{self.count} seed{'s' if self.count > 1 else ''}"
            why = why if self.count < INTERVAL_SEEDS else f"{why}, all equal"
            return f"{self.mean * scale:+.2f} (no interval: {why})"
        return f"{self.mean * scale:+.2f} [{self.low * scale:+.2f}, {self.high * scale:+.2f}]"


@dataclass(frozen=True, repr=False)
class RunReport(Printable):
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

    def __repr__(self) -> str:
        count = f"{len(self.results)} seed{'s' if len(self.results) != 1 else ''}"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"<RunReport {self.name}: {count}{failed}, in {self.folder}>"

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
        return Paired.of([ours[s] for s in self.compared], [theirs[s] for s in self.compared])

    @property
    def compared(self) -> list[int]:
        """The seeds that both this run and its control have finished."""
        control = self.control.results if self.control is not None else []
        return sorted({result.seed for result in self.results} & {result.seed for result in control})

    def teacher_tests(self) -> list[float]:
        """The teacher's test scores by seed, in the metric that selects the students; NaN where there is none."""
        return [float(result.teacher.get("test", math.nan)) for result in self.results]

    def agreement(self, answer: str = "mean") -> list[float]:
        """The share of test items on which an answer decides as the teacher does, by seed; NaN where there is none."""
        return [result.agreement.get(answer, math.nan) for result in self.results]

    def gap_closed(self, answer: str = "mean", seed: int | None = None) -> float | None:
        r"""The share of the gap to its teacher that a student closes by distillation.

        .. math::
            \frac{\bar s_{\text{KD}} - \bar s_{\text{control}}}{\bar s_{\text{teacher}} - \bar s_{\text{control}}}

        with means of test scores over the seeds that run and control have finished. The ratio of means is steadier than
        the mean of ratios, in which one seed with a small gap outweighs all others.

        Args:
            answer (str): ``mean``, ``best``, ``first``, ``ensemble`` or ``s1`` ...
            seed (int, optional): Takes this seed alone.

        Returns:
            float: ``None`` where the teacher has no test score or is no better than the control.

        Raises:
            ValueError: If there is no control.
        """
        means = self._average(answer, self.compared if seed is None else [seed])
        if means is None:
            return None
        ours, control, teacher = means
        ahead = (teacher - control) * (1 if self.results[0].better else -1)
        return (ours - control) / (teacher - control) if ahead > 1e-9 else None  # equal scores differ when averaged

    def _average(self, answer: str, seeds: Sequence[int]) -> tuple[float, float, float] | None:
        """Mean test scores of run, control and teacher over the seeds for which there are all three."""
        if self.control is None:
            raise ValueError("this report has no control; run with control=True")
        control = {result.seed: result for result in self.control.results}
        scores = [
            (result.answers[answer].test, control[result.seed].answers[answer].test, taught)
            for result, taught in zip(self.results, self.teacher_tests(), strict=True)
            if result.seed in seeds and result.seed in control
        ]
        known = [row for row in scores if not any(map(math.isnan, row))]
        if not known:
            return None
        ours, without, teacher = np.mean(known, axis=0).tolist()
        return ours, without, teacher

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.results:
            yield self._write_title()
            yield self._make_table()
            if about := self.results[0].protocol:
                yield (
                    f"splits.protocol {about['name']}: {about['held_out']:,} nodes were held out of training and validation, "
                    f"{about['tested']:,} were tested on the whole graph"
                )
            answer = "mean" if self.plan.students > 1 else "first"
            if self.compared and self._average(answer, self.compared) and self.gap_closed(answer) is None:
                yield "no gap to close: the teacher is no better than the control"
        for name, report in (("", self), ("control ", self.control)):
            for seed, why in (report.failures if report is not None else {}).items():
                yield f"[bold red]{name}seed {seed} failed:[/] {escape(why)}"
        yield f"written to {escape(str(self.folder))}"
        if self.control is not None:
            yield f"control in {escape(str(self.control.folder))}"
        if self.compared:
            yield f"compared in {escape(str(self.folder / COMPARISON))}"

    @property
    def _scale(self) -> float:
        return 100.0 if self.results[0].metric in PERCENT else 1.0

    def _write_title(self) -> str:
        seeds = f"{len(self.results)} seed{'s' if len(self.results) > 1 else ''}"
        unit = " %" if self._scale == 100.0 else ""
        spread = " (mean ± standard deviation)" if len(self.results) > 1 else ""
        return f"test {self.results[0].metric}{unit} at the validation-selected epoch, {seeds}{spread}"

    def _make_table(self) -> Table:
        first, scale = self.results[0], self._scale
        several = self.plan.students > 1
        beside = self.control if self.control is not None and self.control.results else None
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        table.add_column("", overflow="fold")
        table.add_column(escape(self.name), overflow="fold")
        if beside is not None:
            table.add_column("control", overflow="fold")
            table.add_column("paired difference [95 %]", overflow="fold")
        names = {"mean": "mean over students", "best": "best", "first": "first", "ensemble": "ensemble"}
        for answer, name in names.items() if several else (("first", "student"),):
            row = [format_spread(report.tests(answer), scale) for report in (self, beside) if report is not None]
            if beside is not None:
                row.append(self.difference(answer).text(scale).replace("[", "\\["))
            table.add_row(name, *row)
        self._add_parts(table, "mean" if several else "first")
        self._add_teacher(table, "mean" if several else "first", ", mean" if several else "")
        sizes = sorted(set(first.parameters))
        each = " each" if several and len(sizes) == 1 else ""
        table.add_row("parameters", *[" / ".join(f"{size:,}" for size in sizes) + each] * (2 if beside else 1))
        times = [np.mean([r.seconds for r in report.results]) for report in (self, beside) if report is not None]
        table.add_row("time for each seed", *(f"{seconds:.1f} s" for seconds in times))
        return table

    def _add_parts(self, table: Table, answer: str) -> None:
        """The scores of nodes that training saw and of those held out of it, where both are tested (``splits.protocol``)."""
        for part in self.results[0].protocol.get("parts", {}).get(answer, {}):
            row = [
                format_spread([result.part(answer, part) for result in report.results], self._scale)
                for report in (self, self.control)
                if report is not None and report.results
            ]
            table.add_row(f"{part} nodes", *row)

    def _add_teacher(self, table: Table, answer: str, which: str) -> None:
        """The rows about the teacher, where there is one with a score."""
        tests = [test for test in self.teacher_tests() if not math.isnan(test)]
        if tests:
            table.add_row("teacher", format_spread(tests, self._scale))
        alike = [share for share in self.agreement(answer) if not math.isnan(share)]
        if alike:
            table.add_row(f"agreement{which}", f"{format_spread(alike, 100.0)} %")
        if tests and self.compared:
            closed = self.gap_closed(answer)
            table.add_row(f"gap closed{which}", "-" if closed is None else f"{100 * closed:.1f} %")


def format_spread(values: Sequence[float], scale: float) -> str:
    """``81.20 ± 0.45``: mean and standard deviation over seeds."""
    mean = float(np.mean(values)) * scale
    return f"{mean:.2f}" if len(values) < 2 else f"{mean:.2f} ± {float(np.std(values, ddof=1)) * scale:.2f}"
