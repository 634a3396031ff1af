"""The tables of a study as they are shown: points beside their controls and placebos, all points, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gkd_plugin.study.points import POINT
from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.report.parts import (
    DASH,
    Cell,
    Column,
    Table,
    count_cell,
    format_p,
    is_missing,
    make_table,
    number_cell,
    text_cell,
    value_cell,
)
from gkd_plugin.study.report.scale import SHARED, Scale, divide_dimensions, list_choices, name_point
from gkd_plugin.study.report.verdict import UNTESTED, judge
from gkd_plugin.study.tables import count_lost

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


def list_compared(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a comparison for which both sides have finished a seed."""
    return [row for row in table.to_dict("records") if row["seeds"]]


def make_comparison(rows: Sequence[Row], scale: Scale, dimensions: Sequence[str], placebo: bool = False) -> Table:
    """Points beside their controls, or beside their placebos.

    Args:
        rows (sequence of dict): Rows of ``tables/comparison.csv`` or ``tables/placebos.csv``.
        scale (Scale): How scores are written.
        dimensions (sequence of str): The columns of the points' choices.
        placebo (bool): Whether the other of each pair is a placebo, which is then named.
    """
    name, other = ("placebos", "placebo") if placebo else ("comparison", "control")
    columns = [
        *_list_choices(rows, dimensions),
        *([Column("placebo", lambda row: text_cell(row["control"]), False)] if placebo else []),
        Column("validation", lambda row: scale.cell(row["val"])),
        Column("test", lambda row: scale.cell(row["test"])),
        Column(f"{other} test", lambda row: scale.cell(row["control_test"])),
        Column("difference", lambda row: scale.cell(row["difference"], sign=True)),
        Column("95 % interval", lambda row: scale.interval_cell(row["low"], row["high"], sign=True)),
        Column("corrected p", lambda row: _p_cell(row["p_holm"])),
        Column("verdict", lambda row: _verdict_cell(row, scale), False),
        Column("win / tie / loss", _count_wins),
        Column("best − best", lambda row: scale.cell(row["best_difference"], sign=True)),
        Column("seeds", lambda row: count_cell(row["seeds"])),
    ]
    tested = sum(not is_missing(row["p_holm"]) for row in rows)
    lost = count_lost(rows) if tested else 0
    more = f" and {lost} that could not be tested" if lost else ""
    caption = (
        f"{scale.metric}: the mean over students, paired over the seeds that both have finished. Corrected p: two-sided "
        f"paired t-test, Holm over the {tested} tested rows{more}. Win / tie / loss: seeds. best − best: the best student by "
        f"validation against the {other}'s. The same and more, unrounded: tables/{name}.csv."
    )
    return make_table(f"{name}-table", f"Paired with the {other}", caption, columns, rows)


def make_points(runs: pd.DataFrame, selected: pd.DataFrame, scale: Scale, dimensions: Sequence[str]) -> Table:
    """Every point, control, teacher and placebo.

    Args:
        runs (DataFrame): ``tables/runs.csv``.
        selected (DataFrame): ``tables/selected.csv``, whose first row is set off.
        scale (Scale): How scores are written.
        dimensions (sequence of str): The columns of the points' choices.
    """
    rows = runs.to_dict("records")
    several = any(row["role"] != POINT for row in rows)
    columns = [
        *_list_choices(rows, dimensions),
        *([Column("role", lambda row: text_cell(str(row["role"]).replace("_", " ")), False)] if several else []),
        Column("state", lambda row: text_cell(row["state"]), False),
        Column("validation", lambda row: scale.cell(row["val"])),
        Column("its sd", lambda row: scale.cell(row["val_sd"])),
        Column("test", lambda row: scale.cell(row["test"])),
        Column("its sd", lambda row: scale.cell(row["test_sd"])),
        Column("95 % interval", lambda row: scale.interval_cell(row["test_low"], row["test_high"])),
        Column("seeds", lambda row: count_cell(row["seeds"])),
        Column("students", lambda row: count_cell(row["students"])),
        Column("parameters", lambda row: count_cell(row["parameters"])),
        Column("seconds", lambda row: number_cell(row["seconds"], 1)),
    ]
    chosen = set(selected["name"])
    strong = [number for number, row in enumerate(rows) if row["name"] in chosen]
    caption = (
        f"{scale.metric}: mean over students and seeds at the epoch that validation selects; sd and interval over seeds; "
        "seconds for each seed. Set off: the point that validation selects, of each data set. The same, unrounded and with the names of the "
        "runs: tables/runs.csv."
    )
    return make_table("points-table", "Scores", caption, columns, rows, strong)


def make_failures(results: StudyResults) -> Table:
    """What has no result, and why.

    Args:
        results (StudyResults): The study.
    """
    points = {point["name"]: point for point in results.points.to_dict("records")}
    columns = [
        Column("run", lambda row: text_cell(_name(points, row["name"], results)), False),
        Column("role", lambda row: text_cell(points.get(row["name"], {}).get("role")), False),
        Column("seed", lambda row: count_cell(row["seed"])),
        Column("reason", lambda row: text_cell(row["reason"]), False),
    ]
    caption = (
        "Runs and seeds without a result, and files that could not be read, from the ledger and the runs' folders. The same: "
        "tables/failures.csv."
    )
    return make_table("failures-table", "What is missing", caption, columns, results.failures.to_dict("records"))


def _name(points: Mapping[str, Row], name: Any, results: StudyResults) -> Any:
    point = points.get(name)
    return name if point is None or point["role"] != POINT else name_point(point, results.dimensions)


def _list_choices(rows: Sequence[Row], dimensions: Sequence[str]) -> list[Column]:
    """A column for each dimension that any row has a value of, or one for many; the name where there is none."""
    alone, shared = divide_dimensions(rows, dimensions)
    if not alone and not shared:
        return [Column("run", lambda row: text_cell(row["name"]), False)]
    columns = [
        Column(alias, lambda row, alias=alias: value_cell(row[alias]), _are_numbers(rows, alias))  # type: ignore[misc]
        for alias in alone
    ]
    if shared:
        columns.append(Column(SHARED, lambda row: text_cell(list_choices(row, shared) or DASH), False))
    return columns


def _are_numbers(rows: Sequence[Row], alias: str) -> bool:
    values = [row[alias] for row in rows if not is_missing(row[alias])]
    return bool(values) and not any(isinstance(value, str) for value in values)


def _p_cell(p: Any) -> Cell:
    return Cell(format_p(p), "" if is_missing(p) else float(p))


def _verdict_cell(row: Row, scale: Scale) -> Cell:
    word = judge(row, scale.sign)
    return text_cell("not tested" if word == UNTESTED else word)


def _count_wins(row: Row) -> Cell:
    return Cell(f"{row['wins']} / {row['ties']} / {row['losses']}", float(row["wins"] - row["losses"]))
