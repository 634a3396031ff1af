"""How scores and points are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.report.facts import read_group
from gkd_plugin.study.report.parts import DASH, Cell, format_number, format_value, is_missing, number_cell
from gkd_plugin.training.metrics import PERCENT

NO_BREAK = "\u00a0"
SHARED = "further choices"  # the column of those that share one
MOST_COLUMNS = 6  # of choices; more leave no room for scores in the window of a laptop


@dataclass(frozen=True)
class Scale:
    """How scores of a metric are written.

    Args:
        metric (str): Its name with its unit.
        factor (float): 100 for shares, which are written in per cent.
        digits (int): Digits after the point.
        sign (int): 1 where more is better, otherwise -1.
    """

    metric: str
    factor: float
    digits: int
    sign: int

    @classmethod
    def of(cls, results: StudyResults) -> Scale:
        """The scale of a study's metric; where no run has a score, that of its base, as far as the base tells."""
        metric, percent = results.metric, results.metric in PERCENT
        if not metric:
            metric, percent = _guess_metric(results.meta)
        name = f"{metric} (%)" if percent else metric
        return cls(name, 100.0 if percent else 1.0, 2 if percent else 4, 1 if results.better else -1)

    def write(self, value: Any, sign: bool = False) -> str:
        """A score or a difference."""
        return format_number(value, self.digits, self.factor, sign)

    def write_interval(self, low: Any, high: Any, sign: bool = False) -> str:
        """``[+0.10, +0.94]``; nothing where there is no interval."""
        return (
            ""
            if is_missing(low) or is_missing(high)
            else f"[{self.write(low, sign)},{NO_BREAK}{self.write(high, sign)}]"
        )

    def cell(self, value: Any, sign: bool = False) -> Cell:
        """A score or a difference as a cell."""
        return number_cell(value, self.digits, self.factor, sign)

    def interval_cell(self, low: Any, high: Any, sign: bool = False) -> Cell:
        """An interval as a cell, sorted by its lower end."""
        text = self.write_interval(low, high, sign)
        return Cell(text or DASH, float(low) if text else "")


def _guess_metric(meta: Mapping[str, Any]) -> tuple[str, bool]:
    """What would have been measured, and whether in per cent: of classes it is a share, but only data tell which."""
    values = read_group(read_group(meta, "base"), "values")
    named = values.get("metric_best", "auto")
    if named != "auto":
        return str(named), named in PERCENT
    kind = read_group(values, "dataset").get("task_type", "classification") if values else ""
    return "score", str(kind).startswith("classification") and not values.get("custom_metrics")


def divide_dimensions(
    rows: Sequence[Mapping[str, Any]], dimensions: Iterable[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """The dimensions that have a column each, and those that share one.

    Of a grid of several blocks most points have no value of most dimensions; many such columns would push the scores out of
    sight. Where few dimensions have values, each has a column.

    Args:
        rows (sequence of dict): Rows with the points' choices.
        dimensions (iterable of str): All columns of choices.
    """
    shown = [alias for alias in dimensions if any(not is_missing(row[alias]) for row in rows)]
    if len(shown) <= MOST_COLUMNS:
        return shown, ()
    shared = [alias for alias in shown if any(is_missing(row[alias]) for row in rows)]
    return [alias for alias in shown if alias not in shared], shared


def list_choices(row: Mapping[str, Any], dimensions: Iterable[str]) -> str:
    """What a point has chosen, ``width=8, preset=lsp``."""
    return ", ".join(f"{alias}={format_value(row[alias])}" for alias in dimensions if not is_missing(row.get(alias)))


def name_point(row: Mapping[str, Any], dimensions: Iterable[str]) -> str:
    """A point by its choices; by its name where it has none."""
    return list_choices(row, dimensions) or str(row["name"])


def list_values(row: Mapping[str, Any], dimensions: Iterable[str], shared: Iterable[str] = ()) -> str:
    """The choices of a point without their names, ``8 · lsp``, and those of shared columns with them: what fits on an axis."""
    further = list_choices(row, shared)
    return " · ".join([*(format_value(row[alias]) for alias in dimensions), *([further] if further else [])]) or str(
        row["name"]
    )
