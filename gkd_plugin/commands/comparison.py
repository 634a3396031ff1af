"""``comparison.json``: a run beside its control, over all seeds that both have finished."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from gkd_plugin.commands.report import COMPARISON, RunReport
from gkd_plugin.training.result import read_result, replace_nan
from gkd_plugin.training.run_folder import finished_seeds, write_text

ANSWERS = ("mean", "best", "first", "ensemble")


def make_comparison(report: RunReport) -> dict[str, Any]:
    """A report with its control as plain values; lists are in the order of ``seeds``.

    Args:
        report (RunReport): The report of a run with its control.
    """
    seeds = report.compared
    assert report.control is not None
    ours = {result.seed: result for result in report.results}
    theirs = {result.seed: result for result in report.control.results}
    first = ours[seeds[0]]
    values: dict[str, Any] = {
        "run": report.name,
        "control": report.control.folder.name,
        "metric": first.metric,
        "better": first.better,
        "seeds": seeds,
    }
    if any(ours[seed].teacher for seed in seeds):
        tests = [ours[seed].teacher.get("test") for seed in seeds]
        values["teacher"] = {"name": first.teacher.get("name"), "test": tests}
    values["answers"] = {}
    for answer in ANSWERS:
        row: dict[str, Any] = {
            "test": [ours[seed].answers[answer].test for seed in seeds],
            "control": [theirs[seed].answers[answer].test for seed in seeds],
            "difference": asdict(report.difference(answer)),
        }
        if "teacher" in values:
            by_seed = [report.gap_closed(answer, seed) for seed in seeds]
            row["gap_closed"] = {"overall": report.gap_closed(answer), "by_seed": by_seed}
            row["agreement"] = [ours[seed].agreement.get(answer) for seed in seeds]
        values["answers"][answer] = row
    return values


def write_comparison(report: RunReport) -> None:
    """Writes it into the run's folder, once a seed is finished in the run and in its control.

    Args:
        report (RunReport): The report of a run with its control; seeds that it leaves out but the folders hold count.
    """
    assert report.control is not None
    whole = replace(_read_all_seeds(report), control=_read_all_seeds(report.control))
    if whole.compared:
        text = json.dumps(replace_nan(make_comparison(whole)), indent=1)
        write_text(report.folder / COMPARISON, text + "\n")


def _read_all_seeds(report: RunReport) -> RunReport:
    results = [result for folder in finished_seeds(report.folder) if (result := read_result(folder)) is not None]
    return replace(report, results=results)
