"""``gkd status DIR``: what of a study is done, what runs, what failed and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from gkd_plugin.commands.lock import is_held
from gkd_plugin.printing import Printable
from gkd_plugin.study.display import format_score, format_seconds
from gkd_plugin.study.ledger import (
    DONE,
    FAILED,
    INTERRUPTED,
    PENDING,
    RUNNING,
    Entry,
    Ledger,
    group_failures,
    read_time,
)
from gkd_plugin.study.points import POINT, Point
from gkd_plugin.study.run_files import DAMAGED, MISSING, read_run
from gkd_plugin.study.study import Study, find_study, read_study_file

_SHOWN = 20


@dataclass(frozen=True, repr=False)
class Status(Printable):
    """The state of a study.

    Args:
        study (Study): The study.
        entries (dict): What is known of each run by name; a finished one that is no more is ``damaged`` or ``missing``.
        held (bool): Whether a command is working on it now.
    """

    study: Study
    entries: dict[str, Entry]
    held: bool

    @property
    def counts(self) -> Counter[str]:
        """How many runs are in each state; a run that nobody works on any more is ``interrupted``."""
        known = Counter(self._state(entry) for entry in self.entries.values())
        known[PENDING] += sum(point.name not in self.entries for point in self.study.points)
        return known

    def _state(self, entry: Entry) -> str:
        return INTERRUPTED if entry.state == RUNNING and not self.held else entry.state

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        counts = self.counts
        order = (DONE, RUNNING, PENDING, INTERRUPTED, FAILED, DAMAGED, MISSING)
        said = ", ".join(f"{counts[state]} {state}" for state in order if counts[state])
        yield f"[bold]{escape(self.study.name)}[/] ({self.study.kind}, begun {self.study.created}): {said or 'no runs'}"
        points = [point.name for point in self.study.points if point.role == POINT and point.epochs is None]
        ranked = [self.entries[name] for name in points if name in self.entries]
        ranked = [entry for entry in ranked if entry.state == DONE and entry.val is not None]
        if ranked:  # of equal ones the first point, as in the tables
            best = max(ranked, key=lambda entry: (1 if entry.better else -1) * (entry.val or 0.0))
            yield f"best validation {format_score(best)}: {escape(best.name)}"
        running = [entry for entry in self.entries.values() if self._state(entry) == RUNNING]
        if running:
            yield _make_table(
                "running", [(e.name, f"{e.host} {e.pid}", _tell_since(e)) for e in running], ("on", "for")
            )
        failed = group_failures(self.entries.values())
        if failed:
            rows = [(f"{e.name} and {more} more" if more else e.name, str(e.reason)) for e, more in failed]
            yield _make_table("failed", rows, ("why",))
            yield "run the same command with --retry-failed to try these again"
        lost = [entry for entry in self.entries.values() if entry.state in (DAMAGED, MISSING)]
        if lost:
            yield _make_table("damaged or missing", [(e.name, str(e.reason)) for e in lost], ("why",))
        if not self.held and counts[PENDING] + counts[INTERRUPTED]:
            yield f"no process is working on it; to continue: {escape(self.study.command)}"


def _make_table(title: str, rows: Sequence[tuple[str, ...]], more: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in (title, *more):
        table.add_column(column, overflow="fold")
    for row in rows[:_SHOWN]:
        table.add_row(*(escape(cell) for cell in row))
    if len(rows) > _SHOWN:
        table.add_row(f"and {len(rows) - _SHOWN} more")
    return table


def _tell_since(entry: Entry) -> str:
    try:
        return format_seconds((datetime.now().astimezone() - read_time(str(entry.started))).total_seconds())
    except ValueError:
        return "-"


def read_status(folder: str | Path) -> Status:
    """What of a study is done.

    Args:
        folder (str or Path): The study's folder, ``results/x`` or ``results/x.gkd``.

    Raises:
        UserError: If there is no study, or its file is damaged.
    """
    beside = find_study(folder)
    study = read_study_file(beside)
    entries = {entry.name: entry for entry in Ledger(study.ledger).entries()}
    for point in study.points:
        if point.name in entries and entries[point.name].state == DONE:
            entries[point.name] = _look(study, point, entries[point.name])
    return Status(study, entries, is_held(beside))


def _look(study: Study, point: Point, entry: Entry) -> Entry:
    """A finished run's entry, once its folder was looked at."""
    found = read_run(study.place(point) / point.name, DONE, max(study.repeat, entry.repeat))
    if found.state == DONE:
        return entry
    return replace(entry, state=found.state, reason=next((why for _, why in found.failures + found.unfinished), None))
