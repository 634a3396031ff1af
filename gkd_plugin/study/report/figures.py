"""Figures of a whole study: differences to controls, ranks, main effects, interactions, accuracy against size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gkd_plugin.study.report.parts import Picture
from gkd_plugin.study.report.scale import Scale
from gkd_plugin.study.report.svg import HALF, INK, SERIES, make_picture, new_figure, paint_cells, shorten, styled

BLUE, ORANGE = SERIES[0], SERIES[4]  # above and below, told apart by every reader
_LONGEST = 26  # characters of a value on an axis


@dataclass(frozen=True)
class Difference:
    """A row of the figure of differences.

    Args:
        label (str): The point.
        mean, low, high (float): The paired difference and its interval; NaN where there is none.
        verdict (str): ``better``, ``worse``, or neither.
    """

    label: str
    mean: float
    low: float
    high: float
    verdict: str


@styled
def draw_differences(rows: Sequence[Difference], head: str, scale: Scale, caption: str) -> Picture:
    """The paired difference of each point to its control, with its interval.

    Args:
        rows (sequence of Difference): The points.
        head (str): What their labels list.
        scale (Scale): How scores are written.
        caption (str): What it shows and from which file.
    """
    labels = [shorten(label, 70) for label in (head, *(row.label for row in rows))]
    figure = new_figure(min(11.9, 4.6 + 0.082 * max(map(len, labels))), 0.95 + 0.235 * len(rows))
    axes = figure.subplots()
    looks = {"better": (BLUE, "o"), "worse": (ORANGE, "s")}
    for number, row in enumerate(rows):
        colour, marker = looks.get(row.verdict, (INK, "D"))
        if row.low == row.low:
            axes.plot(
                [row.low * scale.factor, row.high * scale.factor],
                [number, number],
                color=colour,
                linewidth=1.3,
                alpha=0.75,
            )
        filled = colour if row.verdict in looks else "none"
        axes.plot(row.mean * scale.factor, number, marker, color=colour, markerfacecolor=filled, markersize=4.5)
    axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
    axes.set_yticks(range(-1, len(rows)), labels)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_ylim(len(rows) - 0.4, -1.4)
    axes.set_xlabel(f"difference in test {scale.metric} to the control")
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return make_picture(figure, "differences", "Paired differences to the control", caption)


@styled
def draw_ranks(
    name: str,
    alias: str,
    values: Sequence[str],
    means: Sequence[float],
    ranks: Sequence[Sequence[float]],
    caption: str,
) -> Picture:
    """Average rank and distribution of ranks of each value of a dimension.

    Args:
        name (str): The figure's name.
        alias (str): The dimension.
        values (sequence of str): Its values.
        means (sequence of float): The mean rank of each value.
        ranks (sequence): The ranks of each value in all groups.
        caption (str): What it shows and from which file.
    """
    from matplotlib.ticker import MaxNLocator

    places = range(len(values))
    figure = new_figure(HALF, 0.95 + 0.36 * len(values))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.15))
    best = min(means)
    left.barh(places, means, height=0.62, color=[(BLUE, 1.0 if mean == best else 0.45) for mean in means])
    for place, mean in zip(places, means, strict=True):
        _write_beside(left, mean, place, f"{mean:.2f}")
    left.set_xlim(0, 1.22 * max(means))
    left.set_yticks(places, [shorten(value, _LONGEST) for value in values])
    left.set_ylim(len(values) - 0.5, -0.5)
    left.set_xlabel("average rank (1 is best)")
    for place, each in zip(places, ranks, strict=True):
        if len(set(each)) > 1:
            (body,) = right.violinplot([each], [place], orientation="horizontal", widths=0.8, showextrema=False)[
                "bodies"
            ]
            body.set(facecolor=BLUE, alpha=0.35, linewidth=0)
        levels, counts = np.unique(each, return_counts=True)
        right.scatter(levels, [place] * len(levels), s=8 + 90 * counts / len(each), color=BLUE, linewidths=0)
    right.set_xlim(0.6, len(values) + 0.4)
    right.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    right.set_xlabel("distribution of ranks")
    right.grid(True, axis="x")
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
    return make_picture(figure, name, f"{alias}: rank of each value", caption)


def _write_beside(axes: Any, value: float, place: float, text: str) -> None:
    """Writes beyond the end of a bar."""
    right = value >= 0
    axes.annotate(
        text,
        (value, place),
        xytext=(4 if right else -4, 0),
        textcoords="offset points",
        va="center",
        ha="left" if right else "right",
    )


@dataclass(frozen=True)
class Effect:
    """The main effect of one value of a dimension.

    Args:
        alias (str): The dimension.
        value (str): The value.
        effect (float): Its mean difference to the mean of its group.
    """

    alias: str
    value: str
    effect: float


@styled
def draw_effects(effects: Sequence[Effect], metric: str, scale: Scale, caption: str) -> Picture:
    """The main effect of every value, grouped by dimension."""
    figure = new_figure(HALF, 0.85 + 0.27 * len(effects))
    axes = figure.subplots()
    for number, each in enumerate(effects):
        value = each.effect * scale.factor
        axes.barh(number, value, height=0.6, color=BLUE if value >= 0 else ORANGE, alpha=0.85)
        _write_beside(axes, value, number, scale.write(each.effect, sign=True))
        if number and effects[number - 1].alias != each.alias:
            axes.axhline(number - 0.5, color=INK, alpha=0.25, linewidth=0.7)
    labels = [f"{shorten(each.alias, 18)} = {shorten(each.value, _LONGEST)}" for each in effects]
    axes.set_yticks(range(len(effects)), labels)
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
    axes.margins(x=0.22)
    axes.set_xlabel(f"{metric}, difference to the mean")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return make_picture(figure, "effects", "Main effects", caption)


@dataclass(frozen=True)
class Pair:
    """Two dimensions together.

    Args:
        rows, columns (str): The dimensions.
        row_values, column_values (sequence of str): Their values.
        grids (sequence of array): The difference of each cell to the mean, and where it can be told, the interaction.
    """

    rows: str
    columns: str
    row_values: Sequence[str]
    column_values: Sequence[str]
    grids: Sequence[Any]


@styled
def draw_pair(name: str, pair: Pair, scale: Scale, high: float, caption: str) -> Picture:
    """A pair of dimensions as heat maps.

    Args:
        name (str): The figure's name.
        pair (Pair): The pair.
        scale (Scale): How scores are written.
        high (float): The difference with the full colour.
        caption (str): What it shows and from which file.
    """
    rows, columns = len(pair.row_values), len(pair.column_values)
    longest = max(map(len, pair.column_values))
    broad = max(0.62, 0.085 * min(longest, 12))  # inches of a cell
    crowded = longest > 12 or 1.75 + broad * columns > HALF
    height = len(pair.grids) * (0.45 + 0.32 * rows) + 0.45 + 0.4 * crowded
    figure = new_figure(min(HALF, 1.75 + broad * columns), height)
    grid = figure.subplots(len(pair.grids), 1, sharex=True, squeeze=False).flatten()
    for axes, cells, title in zip(grid, pair.grids, ("difference to the mean", "interaction"), strict=False):
        paint_cells(axes, cells, (BLUE, ORANGE), high)
        for (row, column), value in np.ndenumerate(cells):
            text = scale.write(value, sign=True)
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5 if columns <= 7 else 6.5)
        axes.set_yticks(range(rows), [shorten(value, 18) for value in pair.row_values])
        axes.set_ylabel(pair.rows)
        axes.set_title(title, loc="left")
        axes.tick_params(length=0)
    labels = [shorten(value, 18) for value in pair.column_values]
    grid[-1].set_xticks(range(columns), labels, rotation=30 if crowded else 0, ha="right" if crowded else "center")
    grid[-1].set_xlabel(pair.columns)
    return make_picture(figure, name, f"{pair.rows} and {pair.columns}", caption)


@dataclass(frozen=True)
class Sized:
    """A point of the figure of accuracy against size.

    Args:
        label (str): The point.
        parameters (float): Parameters of one student.
        score (float): Its score.
        kind (str): ``with distillation``, ``without``, ``control``, ...
        front (bool): Whether none is smaller and better.
    """

    label: str
    parameters: float
    score: float
    kind: str
    front: bool


@styled
def draw_pareto(name: str, title: str, points: Sequence[Sized], scale: Scale, caption: str) -> Picture:
    """Score against parameters, with the front.

    Args:
        name (str): The figure's name.
        title (str): Its heading.
        points (sequence of Sized): The points.
        scale (Scale): How scores are written.
        caption (str): What it shows and from which file.
    """
    figure = new_figure(HALF, 3.7)
    axes = figure.subplots()
    for number, kind in enumerate(dict.fromkeys(point.kind for point in points)):
        some = [point for point in points if point.kind == kind]
        axes.scatter(
            [point.parameters for point in some],
            [point.score * scale.factor for point in some],
            s=20,
            marker="os^Dv"[number % 5],
            color=SERIES[number % len(SERIES)],
            alpha=0.75,
            linewidths=0,
            label=kind,
        )
    front = sorted((point for point in points if point.front), key=lambda point: point.parameters)
    if front:
        x, y = [point.parameters for point in front], [point.score * scale.factor for point in front]
        axes.plot(x, y, drawstyle="steps-post", color=INK, linewidth=1, alpha=0.6, label="front")
    sizes = {point.parameters for point in points}
    if max(sizes) > 3 * min(sizes) > 0:
        axes.set_xscale("log")
        _write_sizes(axes, sizes)
    axes.set_xlabel("parameters of one student")
    axes.set_ylabel(f"validation {scale.metric}" + ("" if scale.sign > 0 else ", less is better"))
    axes.grid(True)
    figure.legend(loc="outside upper left", ncols=4, handletextpad=0.4, columnspacing=1.2)
    return make_picture(figure, name, title, caption)


def _write_sizes(axes: Any, sizes: set[float]) -> None:
    """A few ticks at whole numbers on a logarithmic axis: 1k, 2k, 5k, 10k."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    few = max(sizes) < 30 * min(sizes)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if few else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _format_size(size)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _format_size(size: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{size / limit:g}{letter}"
    return f"{size:g}"
