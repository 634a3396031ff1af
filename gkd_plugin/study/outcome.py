"""The end of a study: its tables, its report, and a few lines on the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from gkd_plugin.commands.report import Paired
from gkd_plugin.errors import describe_error
from gkd_plugin.printing import Printable
from gkd_plugin.study.host_tables import write_host_tables
from gkd_plugin.study.ledger import DONE, FAILED, Entry, group_failures
from gkd_plugin.study.records import StudyResults, read_study
from gkd_plugin.study.report.write import write_report
from gkd_plugin.study.run_files import DAMAGED, MISSING
from gkd_plugin.study.study import Study
from gkd_plugin.study.tables import compare, list_candidates, summarise
from gkd_plugin.training.metrics import PERCENT

_SHOWN = 10


@dataclass(frozen=True, repr=False)
class Outcome(Printable):
    """What ``gkd grid`` and ``gkd search`` return.

    Args:
        study (Study): The study.
        entries (list of Entry): The state of each run.
        rows (list of dict): The best points by validation, whole ones first: ``name``, ``val``, ``test``, ``seeds_known``
            and, beside a control, ``difference``, ``low``, ``high`` and ``seeds``.
        metric (str): The metric that selects; empty where nothing is finished.
        total (int): How many points have scores.
        page (Path, optional): The report.
        warnings (tuple of str): What is legal, but probably a mistake, and what could not be written.
    """

    study: Study
    entries: list[Entry]
    rows: list[dict[str, Any]]
    metric: str
    total: int
    page: Path | None
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> list[Entry]:
        """The runs that failed, or are damaged or gone."""
        return [entry for entry in self.entries if entry.state in (FAILED, DAMAGED, MISSING)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from (f"[yellow]warning:[/] {escape(warning)}" for warning in self.warnings)
        counts = Counter(entry.state for entry in self.entries)
        said = ", ".join(f"{counts[state]} {state}" for state in sorted(counts, key=lambda state: state != DONE))
        yield f"[bold]{escape(self.study.name)}[/]: {said or 'nothing to run'}"
        if self.rows:
            yield self._make_table()
        groups = group_failures(self.entries)
        for entry, more in groups[:_SHOWN]:
            others = f" and {more} more" if more else ""
            yield f"[bold red]failed[/] {escape(entry.name)}{others}: {escape(str(entry.reason))}"
        if len(groups) > _SHOWN:
            yield f"and for {len(groups) - _SHOWN} more reasons (gkd status {escape(str(self.study.folder))})"
        if groups:
            yield "the same command with --retry-failed trains again what failed"
        lost = [entry for entry in self.failed if entry.state != FAILED]
        for entry in lost[:_SHOWN]:
            yield f"[bold red]{entry.state}[/] {escape(entry.name)}: {escape(str(entry.reason))}"
        if lost:
            yield "remove the folder of a damaged seed, and the same command trains it again"
        if len(lost) > _SHOWN:
            yield f"and {len(lost) - _SHOWN} more (gkd status {escape(str(self.study.folder))})"
        yield f"runs in {escape(str(self.study.folder))}, tables in {escape(str(self.study.beside / 'tables'))}"
        if self.page is not None:
            yield f"report in {escape(str(self.page))}"

    def _make_table(self) -> Table:
        scale, unit = (100.0, " %") if self.metric in PERCENT else (1.0, "")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False)
        best = (
            f"best {len(self.rows)} of {self.total} by validation" if self.total > len(self.rows) else "by validation"
        )
        table.add_column(best, overflow="fold")
        table.add_column(f"val {self.metric}{unit}", justify="right")
        table.add_column("test", justify="right")
        controlled = any("difference" in row for row in self.rows)
        if controlled:
            table.add_column("difference to its control [95 %]", min_width=24)
        for row in self.rows:
            some = (
                f" ({row['seeds_known']} of {self.study.repeat} seeds)"
                if row["seeds_known"] < self.study.repeat
                else ""
            )
            cells = [f"{escape(str(row['name']))}{some}", *(_format(row[key], scale) for key in ("val", "test"))]
            if controlled:
                cells.append(_describe_difference(row, scale))
            table.add_row(*cells)
        return table


def _format(value: float, scale: float) -> str:
    return "-" if math.isnan(value) else f"{value * scale:.2f}"


def _describe_difference(row: dict[str, Any], scale: float) -> str:
    if "difference" not in row:
        return ""
    paired = Paired(row["difference"], row["low"], row["high"], int(row["seeds"]))
    return escape(paired.text(scale))


def summarize(study: Study, entries: Sequence[Entry], warnings: Sequence[str] = ()) -> Outcome:
    """Writes the tables and the report of a study, as far as it has come.

    Args:
        study (Study): The study.
        entries (sequence of Entry): The state of each run.
        warnings (sequence of str): What is legal, but probably a mistake.
    """
    told = Counter(note for entry in entries for note in entry.notes)
    found = [*warnings, *(f"{text} ({count} run{'s' if count > 1 else ''})" for text, count in told.most_common())]
    rows: list[dict[str, Any]] = []
    metric, total, page = "", 0, None
    results = read_study(study.beside)
    entries = [_look(entry, results) for entry in entries]
    if len(results.scores):  # a run of which one seed failed has others
        metric = results.metric
        problem = write_host_tables(study.folder, results.metric, results.better)
        if problem is not None:
            found.append(problem)
        scored = list_candidates(summarise(results))
        scored = scored[scored["val"].notna()]
        scored = scored.sort_values("state", key=lambda states: states != DONE, kind="stable")
        total = len(scored)
        differences = {row["name"]: row for row in compare(results).to_dict("records")}
        keys = ("difference", "low", "high", "seeds")
        for row in scored.head(_SHOWN).to_dict("records"):
            beside = differences.get(row["name"])
            more = {key: beside[key] for key in keys} if beside is not None else {}
            rows.append({key: row[key] for key in ("name", "val", "test")} | {"seeds_known": int(row["seeds"])} | more)
    try:
        page = write_report(study.beside).page
    except Exception as error:  # the runs are finished: what they say is still to be told
        found.append(
            f"the report could not be written ({describe_error(error)}); gkd report {study.folder} tries again"
        )
    return Outcome(study, entries, rows, metric, total, page, tuple(found))


def _look(entry: Entry, results: StudyResults) -> Entry:
    """The entry of a finished run as its folder shows it: what was finished once may be damaged by now."""
    points = results.points
    state = points.loc[points["name"] == entry.name, "state"]
    if entry.state != DONE or not state.isin([DAMAGED, MISSING]).any():
        return entry
    reasons = results.failures.loc[results.failures["name"] == entry.name, "reason"]
    return replace(entry, state=str(state.iloc[0]), reason=next(iter(reasons), None))
