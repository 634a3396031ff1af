"""The points of a grid: its whole product, a random sample, or samples in which one dimension is varied."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gkd_plugin.errors import UserError, nearest
from gkd_plugin.study.grid_file import Grid, Range, Row
from gkd_plugin.study.names import Namer
from gkd_plugin.study.points import Point

LIMIT = 100_000
SAMPLES = 10  # of a dimension that is varied, as the host's generator draws them
_PATIENCE = 1000  # draws in a row that bring nothing new


@dataclass(frozen=True)
class Expansion:
    """The points of a study.

    Args:
        points (list of Point): The points, no two with the same configuration.
        dimensions (dict): The configuration's key of each alias, in the grid's order.
        duplicates (int): How many points had a configuration that was there already.
    """

    points: list[Point]
    dimensions: dict[str, str]
    duplicates: int = 0


def count_points(grid: Grid) -> int:
    """How many points the whole grid has, without making them."""
    return sum(_count(block) for block in grid.blocks)


def expand(
    base_values: Mapping[str, Any],
    base_name: str,
    grid: Grid,
    sample: int | None = None,
    seed: int = 0,
    sample_alias: Sequence[str] = (),
) -> Expansion:
    """The points of a grid over a base configuration.

    Args:
        base_values (mapping): The base configuration; it is left as it is.
        base_name (str): Its name, with which the names of points begin.
        grid (Grid): The grid, without ranges.
        sample (int, optional): So many points at random, the blocks in proportion to their sizes.
        seed (int): Of the random sample.
        sample_alias (sequence of str): Dimensions to be varied: ``sample`` points (10 if not given) are drawn for each, and
            each of them takes all values of the dimension.

    Raises:
        UserError: If there are too many points, a dimension is unknown, or a key cannot be set in the base.
    """
    if sample is not None and sample < 1:
        raise UserError(f"--sample {sample}: nothing would be left. Write a number of at least 1.")
    total = count_points(grid)
    drawn = random.Random(seed)
    if sample_alias:
        _require_dimensions(grid, sample_alias)
        chosen = _perturb(grid, sample_alias, sample or SAMPLES, drawn)
    elif sample is not None and sample < total:
        chosen = _sample(grid, sample, drawn)
    else:
        _require_size(total, grid)
        chosen = [(block, choices) for block in grid.blocks for choices in _multiply(block)]
    _require_size(len(chosen), grid)
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for block, choices in chosen:
        values = apply_choices(base_values, block, choices, grid)
        found.setdefault(make_digest(values), (choices, values))
    namer = Namer(base_name, grid.blocks)
    points = [Point(namer.make_name(choices), values, choices) for choices, values in found.values()]
    repeated = sum(row.repeated for block in grid.blocks for row in block)
    return Expansion(points, grid.dimensions, len(chosen) - len(found) + repeated)


def make_digest(values: Mapping[str, Any]) -> str:
    """The same text for the same configuration, in whatever order it is written; ``1`` and ``1.0`` are not the same."""
    return repr(sort_keys(values))


def sort_keys(value: Any) -> Any:
    """Nested mappings with their keys in order.

    Args:
        value (Any): A mapping, or anything else, which stays as it is.
    """
    if isinstance(value, Mapping):
        return {str(key): sort_keys(value[key]) for key in sorted(value, key=str)}
    return value


def _require_size(count: int, grid: Grid) -> None:
    if count > LIMIT:
        raise UserError(
            f"the grid {grid.path} has {count:,} points; a study may have {LIMIT:,}. Take values out of its lists, or "
            "draw some of the points with --sample N."
        )


def _require_dimensions(grid: Grid, aliases: Sequence[str]) -> None:
    known = list(grid.dimensions)
    for alias in aliases:
        if alias not in known:
            raise UserError(
                f"--sample-alias: no dimension of {grid.path} is called '{alias}'. {nearest(alias, known)}"
                f"There are: {', '.join(known)}."
            )


# ------------------------------------------------------------------------------------------------------------ all points
def _list_values(row: Row) -> tuple[Any, ...]:
    if isinstance(row.values, Range):
        raise UserError(f"line {row.line}: {row.alias} is a range, and a grid needs a list. Write its values in [ ].")
    return row.values


def _multiply(block: Sequence[Row]) -> list[dict[str, Any]]:
    """All choices of a block; the first dimension changes fastest, as in the host's generator."""
    found: list[dict[str, Any]] = [{}]
    for row in block:
        open_ones = [choices for choices in found if row.applies(choices)]
        further = [{**choices, row.alias: value} for value in _list_values(row) for choices in open_ones]
        found = [choices for choices in found if not row.applies(choices)] + further
    return found


def _count(block: Sequence[Row]) -> int:
    """The length of ``_multiply(block)``: only dimensions that a condition names need be told apart."""
    asked = {condition.alias for row in block for condition in row.when}
    counts: list[tuple[dict[str, Any], int]] = [({}, 1)]
    for row in block:
        found = []
        for choices, count in counts:
            if not row.applies(choices):
                found.append((choices, count))
            elif row.alias in asked:
                found += [({**choices, row.alias: value}, count) for value in _list_values(row)]
            else:
                found.append((choices, count * len(_list_values(row))))
        counts = found
    return sum(count for _, count in counts)


# -------------------------------------------------------------------------------------------------------------- samples
def _draw(block: Sequence[Row], drawn: random.Random) -> dict[str, Any]:
    """A value for each dimension, whether it applies or not."""
    return {row.alias: drawn.choice(_list_values(row)) for row in block}


def _restrict(block: Sequence[Row], assigned: Mapping[str, Any]) -> dict[str, Any]:
    """What applies of it."""
    choices: dict[str, Any] = {}
    for row in block:
        if row.applies(choices):
            choices[row.alias] = assigned[row.alias]
    return choices


def _draw_new(make: Callable[[], dict[str, Any] | None], count: int) -> Iterator[dict[str, Any]]:
    """Up to ``count`` different results; fewer where no more turn up."""
    seen: set[str] = set()
    for _ in range(count):
        for _ in range(_PATIENCE):
            one = make()
            if one is not None and (key := make_digest(one)) not in seen:
                seen.add(key)
                yield one
                break
        else:
            return


def _share(sizes: Sequence[int], count: int) -> list[int]:
    """``count`` spread in proportion to the sizes, none above its size: the largest remainders get what is left."""
    total = sum(sizes)
    count = min(count, total)
    shares = [count * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda index: -(count * sizes[index] % total))
    for index in itertools.islice(by_remainder, count - sum(shares)):
        shares[index] += 1
    return shares


def _sample(grid: Grid, count: int, drawn: random.Random) -> list[tuple[Sequence[Row], dict[str, Any]]]:
    shares = _share([_count(block) for block in grid.blocks], count)
    return [
        (block, choices)
        for block, share in zip(grid.blocks, shares, strict=True)
        for choices in _draw_new(lambda block=block: _restrict(block, _draw(block, drawn)), share)  # type: ignore[misc]
    ]


def _perturb(
    grid: Grid, aliases: Sequence[str], count: int, drawn: random.Random
) -> list[tuple[Sequence[Row], dict[str, Any]]]:
    """For each dimension ``count`` samples, each with all values of the dimension."""
    chosen: list[tuple[Sequence[Row], dict[str, Any]]] = []
    for alias in aliases:
        blocks = [block for block in grid.blocks if any(row.alias == alias for row in block)]
        shares = _share([max(_count(block), count) for block in blocks], count)
        for block, share in zip(blocks, shares, strict=True):
            (row,) = (row for row in block if row.alias == alias)

            def draw(block: Sequence[Row] = block, row: Row = row) -> dict[str, Any] | None:
                """A sample with the dimension at its first value, where it applies."""
                found = _restrict(block, {**_draw(block, drawn), row.alias: _list_values(row)[0]})
                return found if row.alias in found else None

            for sample in _draw_new(draw, share):
                rest = {**_draw(block, drawn), **sample}  # what applies only beside other values of the dimension
                for value in _list_values(row):
                    chosen.append((block, _restrict(block, {**rest, alias: value})))
    return chosen


# --------------------------------------------------------------------------------------------------------------- values
def apply_choices(
    base: Mapping[str, Any], block: Iterable[Row], choices: Mapping[str, Any], grid: Grid
) -> dict[str, Any]:
    """The base configuration with the choices in it.

    Args:
        base (mapping): The base; it is left as it is.
        block (iterable of Row): Where the choices' keys stand.
        choices (mapping): The choices by alias.
        grid (Grid): The grid, for messages.

    Raises:
        UserError: If a key cannot be set in the base.
    """
    values = copy.deepcopy(dict(base))
    for row in block:
        if row.alias in choices:
            *groups, leaf = row.key.split(".")
            node = values
            for depth, group in enumerate(groups, 1):
                if node.get(group) is None:
                    node[group] = {}
                node = node[group]
                if not isinstance(node, dict):
                    raise UserError(
                        f"{grid.path}, line {row.line}: {row.key} cannot be set, as {'.'.join(groups[:depth])} is {node!r} "
                        "in the base configuration, not a group."
                    )
            node[leaf] = copy.deepcopy(choices[row.alias])
    return values
