"""A grid file read as the space of a search: lists are choices, ranges are numbers, conditions decide what there is to choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gkd_plugin.errors import UserError
from gkd_plugin.study.expand import apply_choices, count_points
from gkd_plugin.study.grid_file import Grid, Range, Row
from gkd_plugin.study.names import Namer
from gkd_plugin.study.points import Point

BLOCK = "block"  # the parameter that says which block of the file a point is from
_DIGITS = 6  # of a number from a range: names hold as many
# scores of different data or in different metrics cannot be ranked together
_APART = ("dataset.", "splits.", "metric_best", "metric_agg", "seed")


class Trial(Protocol):
    """What is asked for one value after the other; Optuna's trials are."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


class Space:
    """The points that a search may try.

    Args:
        base (mapping): The base configuration.
        name (str): Its name, with which the names of points begin.
        grid (Grid): The file, read with ranges.

    Raises:
        UserError: If there is nothing to choose, or scores of its points cannot be compared.
    """

    def __init__(self, base: Mapping[str, Any], name: str, grid: Grid) -> None:
        self.base, self.grid = base, grid
        self.rows = {row.alias: row for block in grid.blocks for row in block}
        apart = [row for row in self.rows.values() if row.key.startswith(_APART)]
        if apart:
            raise UserError(
                f"{grid.path}, line {apart[0].line}: {apart[0].key} cannot be searched: scores under different values of it "
                "cannot be compared. Make a search for each."
            )
        if self.size == 1:
            raise UserError(
                f"the space {grid.path} has a single point, so there is nothing to search. Write lists of several values or "
                "ranges, such as 'optim.base_lr lr 0.001~0.1 log', or train it with gkd run."
            )
        self._namer = Namer(name, grid.blocks)

    @property
    def size(self) -> int | None:
        """How many points there are; ``None`` for more than can be counted."""
        if any(isinstance(row.values, Range) for block in self.grid.blocks for row in block):
            return None
        return count_points(self.grid)

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """The choices of one point, by alias.

        Args:
            trial (Trial): Is asked for a block where there are several, then for each dimension that applies.
        """
        blocks, number = self.grid.blocks, 0
        if len(blocks) > 1:
            number = int(trial.suggest_categorical(BLOCK, [str(each) for each in range(1, len(blocks) + 1)])) - 1
        choices: dict[str, Any] = {}
        for row in blocks[number]:
            if row.applies(choices):
                choices[row.alias] = _suggest_value(trial, self._name_parameter(row, number), row)
        return choices

    def _name_parameter(self, row: Row, block: int) -> str:
        """The alias; with the block where another one has other values for it: a parameter has one set of values."""
        same = [each.values for rows in self.grid.blocks for each in rows if each.alias == row.alias]
        return row.alias if all(repr(values) == repr(row.values) for values in same) else f"{row.alias} ({block + 1})"

    def make_point(self, choices: Mapping[str, Any]) -> Point:
        """The point with these choices; equal choices have one name.

        Args:
            choices (mapping): What :meth:`suggest` returned, or what was read from a file.

        Raises:
            UserError: If a key cannot be set in the base.
        """
        values = apply_choices(self.base, self.rows.values(), choices, self.grid)
        return Point(self._namer.make_name(choices), values, dict(choices))

    def list_ends(self, choices: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The same choices with each range at its ends.

        Args:
            choices (mapping): The choices.
        """
        spans = {alias: self.rows[alias].values for alias in choices}
        return [
            {**choices, alias: end}
            for alias, span in spans.items()
            if isinstance(span, Range)
            for end in (span.low, span.high)
        ]


def _suggest_value(trial: Trial, name: str, row: Row) -> Any:
    span = row.values
    if isinstance(span, Range):
        if isinstance(span.low, int) and isinstance(span.high, int):
            return int(trial.suggest_int(name, span.low, span.high, log=span.log))
        value = float(trial.suggest_float(name, float(span.low), float(span.high), log=span.log))
        return min(max(float(f"{value:.{_DIGITS}g}"), float(span.low)), float(span.high))
    values = [_as_list(value) for value in span]
    if len(values) == 1:
        return values[0]
    texts = [repr(value) for value in values]  # Optuna takes 1, 1.0 and true for one value, and no lists
    return values[texts.index(trial.suggest_categorical(name, texts))]


def _as_list(value: Any) -> Any:
    """Lists as JSON gives them back."""
    return [_as_list(part) for part in value] if isinstance(value, (list, tuple)) else value


def describe_changes(before: Grid, now: Grid) -> str:
    """How the dimensions of two files differ; empty where they do not, whatever their comments and lines.

    Args:
        before (Grid): The file as it was.
        now (Grid): As it is.
    """
    theirs, ours = _list_rows(before), _list_rows(now)
    changes = []
    for place in dict.fromkeys([*theirs, *ours]):
        was, is_now = theirs.get(place, "nothing"), ours.get(place, "nothing")
        if was != is_now:
            block, alias = place
            where = f" (block {block})" if max(len(before.blocks), len(now.blocks)) > 1 else ""
            changes.append(f"{alias}{where}: was {was}, now {is_now}")
    return "; ".join(changes)


def _list_rows(grid: Grid) -> dict[tuple[int, str], str]:
    found = {}
    for number, block in enumerate(grid.blocks, 1):
        for row in block:
            values = str(row.values) if isinstance(row.values, Range) else str([_as_list(each) for each in row.values])
            when = "".join(f" when {each.alias} {', '.join(map(str, each.values))}" for each in row.when)
            found[number, row.alias] = f"{row.key} {values}{when}"
    return found
