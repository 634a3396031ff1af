"""Which runs of a study are drawn one by one: the best by validation, its control, the median; learned maps; depths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gkd_plugin.study.points import POINT
from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.report import run_figures, run_series
from gkd_plugin.study.report.parts import Picture, format_count
from gkd_plugin.study.report.scale import Scale, name_point
from gkd_plugin.study.tables import list_data_sets

if TYPE_CHECKING:
    import pandas as pd

Point = Mapping[str, Any]
SHOWN_MAPS, SHOWN_DEPTHS = 6, 6


def draw_runs(results: StudyResults, runs: pd.DataFrame, scale: Scale) -> tuple[list[Picture], list[Picture]]:
    """The figures of single runs, for each data set.

    Args:
        results (StudyResults): The study.
        runs (DataFrame): Every run, the best by validation first.
        scale (Scale): How scores are written.

    Returns:
        tuple: Curves; and what is by layer, learned maps and over-smoothing.
    """
    points = {point["name"]: point for point in results.points.to_dict("records")}
    known = runs[(runs["role"] == POINT) & runs["val"].notna()]
    data = list_data_sets(results)
    dimensions = [alias for alias in results.dimensions if alias not in data]
    groups = known.groupby(data, sort=False, dropna=False) if data else [((), known)]
    curves: list[Picture] = []
    layers: list[Picture] = []
    for number, (values, group) in enumerate(groups, 1):
        order = [points[name] for name in group["name"]]
        place = _Place(str(number), "".join(f", {value}" for value in values), dimensions)
        curves += _draw_curves(results, points, order, scale, place)
        layers += (*_draw_maps(order, place), *_draw_smoothing(order, place))
    return curves, layers


@dataclass(frozen=True)
class _Place:
    """Which data set a figure is of: the end of its name and title; and the other dimensions."""

    number: str
    title: str
    dimensions: Sequence[str]


def _draw_curves(
    results: StudyResults, points: Mapping[str, Point], order: Sequence[Point], scale: Scale, place: _Place
) -> Iterator[Picture]:
    if not order:
        return
    best = next((point for point in order if point["control"] in points), order[0])
    chosen = [("best", best)]
    if best["control"] in points:
        chosen.append(("its control", points[best["control"]]))
    median = order[len(order) // 2]
    if all(median["name"] != point["name"] for _, point in chosen):
        chosen.append(("median", median))
    found = [
        (f"{word}: {name_point(point, place.dimensions)}", series)
        for word, point in chosen
        if (series := run_series.read_validation(Path(point["folder"]), results.metric)) is not None
    ]
    if found:
        kind = "point with a control" if best["control"] in points else "point"
        caption = (
            f"The best {kind} by validation, its control and the median point, as far as there are. Mean over students and "
            "seeds; the band lies between the lowest and the highest seed. From <run>/<seed>/val/stats.json."
        )
        title = f"Validation by epoch{place.title}"
        yield run_figures.draw_curves(f"curves-{place.number}", title, found, scale, caption)


def _draw_maps(order: Sequence[Point], place: _Place) -> Iterator[Picture]:
    """The maps of the best points that learned one; the first student's, from the first member."""
    with_maps = [point for point in order if run_series.has_maps(Path(point["folder"]))]
    read = [(point, run_series.read_maps(Path(point["folder"]))) for point in with_maps[:SHOWN_MAPS]]
    found = [(point, maps[0]) for point, maps in read if maps]
    if not found:
        return
    several = f"the first {len(found)} of {len(with_maps)}" if len(with_maps) > len(found) else f"{len(found)}"
    named = "; ".join(f"({number}) {name_point(point, place.dimensions)}" for number, (point, _) in enumerate(found, 1))
    caption = (
        f"Points with a learned map, {several} by validation: {named}. Weights at the last epoch, mean over "
        f"{format_count(max(each.seeds for _, each in found), 'seed')}: rows listen, columns teach. "
        "From <run>/<seed>/attention.json."
    )
    labelled = [
        (f"({number}) student {each.student} to {each.source}", each) for number, (_, each) in enumerate(found, 1)
    ]
    title = f"Learned layer maps{place.title}"
    yield run_figures.draw_maps(f"maps-{place.number}", title, labelled, caption)


def _draw_smoothing(order: Sequence[Point], place: _Place) -> Iterator[Picture]:
    """The best point of each depth that recorded it."""
    by_depth: dict[int, tuple[str, dict[int, float]]] = {}
    for point in order:
        layers = run_series.read_smoothing(Path(point["folder"]))
        if len(layers) > 1:
            by_depth.setdefault(len(layers), (name_point(point, place.dimensions), layers))
    chosen = [by_depth[depth] for depth in sorted(by_depth)][:SHOWN_DEPTHS]
    if chosen:
        caption = (
            "Mean average cosine distance of a node to its neighbours in each layer, at the last epoch, over students and "
            "seeds: near 0, neighbours have become alike. The best point by validation of each depth that recorded it. "
            "From the columns *_mad of <run>/<seed>/val/stats.json."
        )
        title = f"Over-smoothing by depth{place.title}"
        yield run_figures.draw_smoothing(f"smoothing-{place.number}", title, chosen, caption)
