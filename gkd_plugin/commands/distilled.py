"""What ``gkd_plugin.distill`` returns: the small model, and a table that says what it is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from torch import nn

from gkd_plugin.commands.progress import merge_warnings
from gkd_plugin.commands.report import RunReport, format_spread
from gkd_plugin.data.handed import NAME
from gkd_plugin.printing import Printable
from gkd_plugin.training.metrics import PERCENT

_WORDS = {
    f"dataset.name: '{NAME}': ": "data=: ",
    f"dataset.name: '{NAME}' ": "data=: it ",
    f"'{NAME}'": "data=",
    "kd.teacher: module has ": "the teacher has ",
    "kd.teacher: ": "teacher=: ",
    "another --name": "another out=",
    "--repeat ": "seeds=",
    "--fresh": "fresh=True",
}


def say_arguments(text: str) -> str:
    """A message about a configuration in words of the arguments that it was made of."""
    for key, word in _WORDS.items():
        text = text.replace(key, word)
    return text


@dataclass(frozen=True, repr=False)
class Distilled(Printable):
    """A small model and how it compares.

    Args:
        student (nn.Module): The trained module, in evaluation mode; ``student(x, edge_index)`` gives logits.
        report (RunReport): Every seed, with the control beside it.
        seed (int): The seed of ``student``: the best on validation.
        number (int): Which of several students of that seed it is.
        task (str): What is predicted.
        student_name (str): What was trained.
        preset (str): How.
        teacher_parameters (int, optional): Of a teacher that is a module.
        seconds (float): Of everything.
        kept (bool): Whether the folder of ``report`` is still there.
    """

    student: nn.Module
    report: RunReport
    seed: int
    number: int
    task: str
    student_name: str
    preset: str
    teacher_parameters: int | None
    seconds: float
    kept: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first = self.report.results[0]
        count = len(self.report.results)
        seeds = f"{count} seeds (mean ± standard deviation)" if count > 1 else "1 seed"
        unit = " %" if self._scale == 100.0 else ""
        less = "" if first.better else " (less is better)"
        yield f"test {first.metric}{unit}{less} at the validation-selected epoch, {seeds}; {escape(self.task)}"
        yield self._make_table()
        answer = self._answer
        if self.report.compared:
            gap = self.report.difference(answer)
            interval = " [95 %]" if gap.low == gap.low else ""
            yield escape(f"with the teacher less without, paired over seeds{interval}: {gap.text(self._scale)}")
        alike = [share for share in self.report.agreement(answer) if not math.isnan(share)]
        if alike:
            what = "labels of the test items" if "multilabel" in self.task else "test items"
            yield f"decides as the teacher does on {format_spread(alike, 100.0)} % of the {what}"
        yield f"preset {escape(self.preset)}; {self.seconds:.1f} s in all" + (
            f"; .student is that of seed {self.seed}, the best on validation" if count > 1 else ""
        )
        for report in (self.report, self.report.control):
            for seed, why in (report.failures if report is not None else {}).items():
                yield f"seed {seed} failed: {escape(why)}"
        for text in merge_warnings({result.seed: result.warnings for result in self.report.results}):
            yield f"warning: {escape(say_arguments(text))}"
        if self._many:
            yield escape(self._tell_which())
        if self.kept:
            yield f"written to {escape(str(self.report.folder))}"

    @property
    def _scale(self) -> float:
        return 100.0 if self.report.results[0].metric in PERCENT else 1.0

    @property
    def _many(self) -> bool:
        return self.report.plan.students > 1

    @property
    def _answer(self) -> str:
        return "mean" if self._many else "first"

    def _tell_which(self) -> str:
        """Which of several students ``.student`` is; the table has their mean."""
        result = next(each for each in self.report.results if each.seed == self.seed)
        own = result.answers[f"s{self.number}"].test * self._scale
        count = self.report.plan.students
        return f".student is student {self.number} of {count} (test {own:.2f}); the table has the mean over students"

    def _make_table(self) -> Table:
        report, control = self.report, self.report.control
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        for name in ("", f"test {report.results[0].metric}", "parameters", "seconds"):
            table.add_column(name, overflow="fold")
        tests = [test for test in report.teacher_tests() if not math.isnan(test)]
        size = "-" if self.teacher_parameters is None else f"{self.teacher_parameters:,}"
        table.add_row("teacher", format_spread(tests, self._scale) if tests else "-", size, "-")
        table.add_row(f"student ({escape(self.student_name)})", *self._describe(report))
        if control is not None and control.results:
            table.add_row("the same without a teacher", *self._describe(control))
        return table

    def _describe(self, report: RunReport) -> Sequence[str]:
        sizes = " / ".join(f"{size:,}" for size in sorted(set(report.results[0].parameters)))
        seconds = float(np.mean([result.seconds for result in report.results]))
        return format_spread(report.tests(self._answer), self._scale), sizes, f"{seconds:.1f}"
