"""Figures of single runs: validation by epoch, terms, gradients, learned layer maps, over-smoothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gkd_plugin.study.report.parts import Picture
from gkd_plugin.study.report.run_series import LearnedMap, Series
from gkd_plugin.study.report.scale import Scale
from gkd_plugin.study.report.svg import DASHES, HALF, SERIES, make_picture, new_figure, paint_cells, shorten, styled

_LINE = 76  # characters of a legend
_ANNOTATED = 8  # layers up to which a map's weights are written into it


def _count_epochs(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_xlabel("epoch")
    axes.grid(True)


def _draw_line(axes: Any, number: int, label: str, series: Series, scale: float = 1.0) -> None:
    """A series with the band between its smallest and largest seed."""
    colour, dash = SERIES[number % len(SERIES)], DASHES[number % len(DASHES)]
    few = "o" if len(series.epochs) < 15 else None
    y = np.array(series.mean) * scale
    axes.plot(series.epochs, y, color=colour, linestyle=dash, linewidth=1.6, marker=few, markersize=3, label=label)
    if series.seeds > 1:
        low, high = np.array(series.low) * scale, np.array(series.high) * scale
        axes.fill_between(series.epochs, low, high, color=colour, alpha=0.15, linewidth=0)


@styled
def draw_curves(name: str, title: str, lines: Sequence[tuple[str, Series]], scale: Scale, caption: str) -> Picture:
    """Validation by epoch.

    Args:
        name, title (str): The figure's name and heading.
        lines (sequence of tuple): Label and series of each run.
        scale (Scale): How scores are written.
        caption (str): What it shows and from which files.
    """
    labels = [textwrap.fill(label, _LINE) for label, _ in lines]
    figure = new_figure(HALF, 3.1 + 0.19 * sum(label.count("\n") + 1 for label in labels))
    axes = figure.subplots()
    for number, (label, (_, series)) in enumerate(zip(labels, lines, strict=True)):
        _draw_line(axes, number, label, series, scale.factor)
    _count_epochs(axes)
    axes.set_ylabel(f"validation {scale.metric}")
    axes.margins(x=0.01)
    figure.legend(loc="outside upper left", ncols=1, handlelength=2.6)
    return make_picture(figure, name, title, caption)


@styled
def draw_terms(terms: Mapping[str, Mapping[int, Series]], caption: str) -> Picture:
    """The label loss and every term by epoch in training, each on its own axis.

    Args:
        terms (mapping): Series by term and student.
        caption (str): What it shows and from which files.
    """
    columns = 2 if len(terms) == 4 else min(3, len(terms))
    rows = -(-len(terms) // columns)
    several = max(len(students) for students in terms.values()) > 1
    figure = new_figure({1: 3.6, 2: HALF}.get(columns, 8.4), 2.2 * rows + 0.35 * several)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (term, students) in zip(grid, terms.items(), strict=False):
        for number, (student, series) in enumerate(students.items()):
            _draw_line(axes, number, f"student {student}", series)
        axes.set_title("whole loss" if term == "loss" else term)
        _count_epochs(axes)
    for axes in grid[len(terms) :]:
        axes.set_axis_off()
    if several:
        handles, labels = max((axes.get_legend_handles_labels() for axes in grid), key=lambda found: len(found[1]))
        figure.legend(handles, labels, loc="outside upper left", ncols=min(5, len(labels)))
    return make_picture(figure, "terms", "Loss and terms by epoch in training", caption)


@styled
def draw_shares(shares: Mapping[str, Series], caption: str) -> Picture:
    """The share of the gradient of labels and terms by epoch.

    Args:
        shares (mapping): Series by name.
        caption (str): What it shows and from which files.
    """
    figure = new_figure(HALF, 3.2)
    axes = figure.subplots()
    for number, (name, series) in enumerate(shares.items()):
        _draw_line(axes, number, "labels" if name == "task" else name, series, 100.0)
    _count_epochs(axes)
    axes.set_ylabel("share of the gradient, %")
    axes.set_ylim(0, 100)
    figure.legend(loc="outside upper left", ncols=min(4, len(shares)), handlelength=2.6)
    return make_picture(figure, "gradients", "Share of each term in the gradient", caption)


@styled
def draw_maps(name: str, title: str, maps: Sequence[tuple[str, LearnedMap]], caption: str) -> Picture:
    """Learned layer maps as heat maps.

    Args:
        name, title (str): The figure's name and heading.
        maps (sequence of tuple): Label and map.
        caption (str): What it shows and from which files.
    """
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    deepest = max(len(each.weights) for _, each in maps)
    figure = new_figure(max(3.4, 2.5 * columns), rows * (1.3 + 0.24 * min(max(deepest, 3), 12)))
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (label, each) in zip(grid, maps, strict=False):
        paint_cells(axes, each.weights, SERIES[:2], float(each.weights.max()))
        learners, sources = each.weights.shape
        if max(learners, sources) <= _ANNOTATED:
            for (row, column), value in np.ndenumerate(each.weights):
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5)
        axes.set_title(shorten(label, 34))
        axes.set_xlabel("source layer")
        axes.set_ylabel("learner layer")
        step = max(1, learners // 8), max(1, sources // 8)
        axes.set_yticks(range(0, learners, step[0]), [str(n + 1) for n in range(0, learners, step[0])])
        axes.set_xticks(range(0, sources, step[1]), [str(n + 1) for n in range(0, sources, step[1])])
    for axes in grid[len(maps) :]:
        axes.set_axis_off()
    return make_picture(figure, name, title, caption)


@styled
def draw_smoothing(name: str, title: str, lines: Sequence[tuple[str, Mapping[int, float]]], caption: str) -> Picture:
    """The mean average distance of neighbours by layer.

    Args:
        name, title (str): The figure's name and heading.
        lines (sequence of tuple): Label and values by layer.
        caption (str): What it shows and from which files.
    """
    labels = [textwrap.fill(label, _LINE) for label, _ in lines]
    figure = new_figure(HALF, 2.8 + 0.19 * sum(label.count("\n") + 1 for label in labels))
    axes = figure.subplots()
    for number, (label, (_, values)) in enumerate(zip(labels, lines, strict=True)):
        axes.plot(
            list(values),
            list(values.values()),
            color=SERIES[number % len(SERIES)],
            linestyle=DASHES[number % len(DASHES)],
            linewidth=1.6,
            marker="o",
            markersize=3.5,
            label=label,
        )
    layers = sorted({layer for _, values in lines for layer in values})
    axes.set_xticks(layers if len(layers) <= 16 else layers[:: len(layers) // 8])
    axes.set_xlabel("layer")
    axes.set_ylabel("MAD to neighbours")
    axes.set_ylim(bottom=0)
    axes.grid(True)
    figure.legend(loc="outside upper left", ncols=1, handlelength=2.6)
    return make_picture(figure, name, title, caption)
