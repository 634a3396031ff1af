"""What each dimension does: ranks as in the design-space paper, main effects and pairwise interactions.

Everything here compares points that differ in one dimension (or two) only. A group is such a set of points; it is
complete where it has every value of the dimension. Where some groups are complete, only these count, so that no value is
judged by other company than the rest; otherwise groups of two or more count, and ``balanced`` is false. Dimensions that
only some values have (keys of one preset, say) do not separate groups: their points are averaged. Points of which a seed is
missing are left out, as in selection: seeds differ, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gkd_plugin.commands.report import EQUAL
from gkd_plugin.study.extras import load_extra
from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.tables import keep_whole, list_candidates, list_data_sets

if TYPE_CHECKING:
    import pandas as pd

Value = tuple[Hashable, ...]  # the values of the dimensions that vary


@dataclass(frozen=True)
class _Groups:
    """The scores of each group by value; ``balanced`` says that every group has every value."""

    values: list[Value]
    groups: list[dict[Value, float]]
    balanced: bool


def rank_groups(results: StudyResults, answer: str = "mean", score: str = "val", tie: float = EQUAL) -> pd.DataFrame:
    """The rank of each value in each group, ``1`` being the best: the distribution behind :func:`rank`.

    "Design Space for Graph Neural Networks", https://arxiv.org/abs/2011.08843.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that counts.
        score (str): ``val`` or ``test``.
        tie (float): Scores that are no further than this below the best of their rank share it.

    Returns:
        DataFrame: ``dimension``, ``value``, ``group``, ``rank``, ``score``, ``balanced``.
    """
    pandas = load_extra("pandas")
    rows, better = [], results.better
    for dimension in _list_varied(results):
        found = _make_groups(results, [dimension], answer, score)
        for number, group in enumerate(found.groups):
            ranks = _rank(group, better, tie)
            for value in found.values:
                if value in group:
                    rows.append((dimension, str(value[0]), number, ranks[value], group[value], found.balanced))
    return pandas.DataFrame(rows, columns=["dimension", "value", "group", "rank", "score", "balanced"])


def rank(results: StudyResults, answer: str = "mean", score: str = "val", tie: float = EQUAL) -> pd.DataFrame:
    """The mean rank of each value of each dimension, and its main effect.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that counts.
        score (str): ``val`` or ``test``.
        tie (float): Scores that are no further than this below the best of their rank share it.

    Returns:
        DataFrame: ``dimension``, ``value``, ``groups`` (their number), ``mean_rank``, ``first`` (the share of groups in
        which it is the best, or shares that rank), ``score`` (its mean), ``effect`` (the mean difference to the mean of
        its group), ``balanced``.
    """
    ranks = rank_groups(results, answer, score, tie)
    means = ranks.groupby(["dimension", "group"])["score"].transform("mean")
    ranks = ranks.assign(first=(ranks["rank"] == 1).astype(float), effect=ranks["score"] - means)
    table = ranks.groupby(["dimension", "value"], sort=False).agg(
        groups=("group", "size"),
        mean_rank=("rank", "mean"),
        first=("first", "mean"),
        score=("score", "mean"),
        effect=("effect", "mean"),
        balanced=("balanced", "first"),
    )
    return _in_order(table.reset_index(), results)


def interact(results: StudyResults, answer: str = "mean", score: str = "val") -> pd.DataFrame:
    """Each pair of dimensions that both vary beside one another: what two values do together.

    ``difference`` is the mean difference of a cell to the mean of its group, and ``interaction`` what is left of it after
    the effects of both values alone. Without a group that has every cell, ``difference`` is the cell's mean less the mean
    of all cells, ``interaction`` is missing, and ``balanced`` is false.

    Args:
        results (StudyResults): The study.
        answer (str): The answer that counts.
        score (str): ``val`` or ``test``.

    Returns:
        DataFrame: ``first``, ``second``, ``first_value``, ``second_value``, ``groups``, ``score``, ``difference``,
        ``interaction``, ``balanced``.
    """
    pandas = load_extra("pandas")
    rows: list[tuple[Any, ...]] = []
    for first, second in itertools.combinations(_list_varied(results), 2):
        found = _make_groups(results, [first, second], answer, score)
        cells = {value: [group[value] for group in found.groups if value in group] for value in found.values}
        means = {value: float(np.mean(scores)) for value, scores in cells.items() if scores}
        if any(len(set(column)) < 2 for column in zip(*means, strict=True)) or not means:
            continue  # a dimension that only one value of the other has, or none
        overall = float(np.mean(list(means.values())))
        for (one, other), mean in means.items():
            # of complete groups, means over groups of differences are differences of means
            row = float(np.mean([part for value, part in means.items() if value[0] == one]))
            column = float(np.mean([part for value, part in means.items() if value[1] == other]))
            left = mean - row - column + overall if found.balanced else float("nan")
            count = len(cells[one, other])
            rows.append((first, second, str(one), str(other), count, mean, mean - overall, left, found.balanced))
    columns = "first second first_value second_value groups score difference interaction balanced".split()
    return pandas.DataFrame(rows, columns=columns)


# --------------------------------------------------------------------------------------------------------------- groups
def _list_varied(results: StudyResults) -> list[str]:
    """The dimensions with two values or more, but for those that choose the data: scores differ between data anyhow."""
    data = list_data_sets(results)
    points = list_candidates(results.points)
    return [name for name in results.dimensions if name not in data and points[name].nunique() > 1]


def _make_groups(results: StudyResults, varied: Sequence[str], answer: str, score: str) -> _Groups:
    """Points that are equal in all dimensions but these, by the values of these."""
    scores = results.scores[results.scores["answer"] == answer].groupby("name")[score].mean()
    points = list_candidates(results.points)
    points = points.assign(_score=points["name"].map(scores))
    points = keep_whole(results, points[points["_score"].notna()])
    points = points[points[list(varied)].notna().all(axis=1)]
    kept = [
        name
        for name in results.dimensions
        if name not in varied and not any(_is_nested(points, name, one) for one in varied)
    ]
    cells: dict[tuple[str, ...], dict[Value, list[float]]] = {}
    for point in points.to_dict("records"):
        place = tuple(str(point[name]) for name in kept)  # as text: missing values are equal
        cells.setdefault(place, {}).setdefault(tuple(point[name] for name in varied), []).append(point["_score"])
    groups = [{value: float(np.mean(found)) for value, found in group.items()} for group in cells.values()]
    axes = [_order(points[name]) for name in varied]
    values = [value for value in itertools.product(*axes) if any(value in group for group in groups)]
    complete = [group for group in groups if len(group) == np.prod([len(axis) for axis in axes])]
    return _Groups(values, complete or [group for group in groups if len(group) > 1], bool(complete))


def _is_nested(points: pd.DataFrame, name: str, varied: str) -> bool:
    """Whether a dimension belongs to some values of another only."""
    there = points[name].notna().groupby(points[varied]).any()
    return bool(there.any() and not there.all())


def _order(column: pd.Series) -> list[Any]:
    """The values of a dimension: numbers by size, text in the order of the study."""
    values = list(dict.fromkeys(column))
    return values if column.dtype == object else sorted(values)


def _rank(group: dict[Value, float], better: bool, tie: float) -> dict[Value, int]:
    """Ranks from 1; equal ones share the lowest, and the next rank is as many further."""
    ranks: dict[Value, int] = {}
    best, rank = float("nan"), 1
    for position, value in enumerate(sorted(group, key=lambda value: group[value], reverse=better), start=1):
        if position == 1 or abs(group[value] - best) > tie:
            best, rank = group[value], position
        ranks[value] = rank
    return ranks


def _in_order(table: pd.DataFrame, results: StudyResults) -> pd.DataFrame:
    """Dimensions in the order of the study, each with its values in their order."""
    points = list_candidates(results.points)
    order = [(name, str(value)) for name in _list_varied(results) for value in _order(points[name].dropna())]
    places = {place: number for number, place in enumerate(order)}
    keys = [places[dimension, value] for dimension, value in zip(table["dimension"], table["value"], strict=True)]
    return table.assign(_place=keys).sort_values("_place").drop(columns="_place").reset_index(drop=True)
