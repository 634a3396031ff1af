"""What each dimension of a study does: ranks as in the design-space paper, main effects, pairs of dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.report.figures import Effect, Pair, draw_effects, draw_pair, draw_ranks
from gkd_plugin.study.report.parts import Picture, Section, format_count
from gkd_plugin.study.report.scale import Scale

if TYPE_CHECKING:
    import pandas as pd

SHOWN_PAIRS, SHOWN_VALUES = 8, 16  # beyond, a figure is no longer read


def list_dimension_sections(
    results: StudyResults, tables: Mapping[str, pd.DataFrame], scale: Scale
) -> Iterator[Section]:
    """The sections on dimensions and on pairs of them.

    Args:
        results (StudyResults): The study.
        tables (mapping): Its tables, as :func:`~gkd_plugin.study.table_files.make_tables` gives them.
        scale (Scale): How scores are written.
    """
    text = (
        "Points that differ in one dimension only are compared with one another, by validation. An effect is the mean "
        "difference to the mean of such a group; it says what happened in this study, on its data and seeds."
    )
    alone = [*_draw_ranks(tables["ranks"], tables["rank_groups"]), *_draw_effects(tables["ranks"], scale)]
    yield Section("dimensions", "Design dimensions", text, alone)
    text = (
        "Points that differ in two dimensions only are compared with one another, by validation. Above: the mean difference "
        "of a cell to the mean of its group. Below: what is left of it after the effects of both values alone."
    )
    yield Section("pairs", "Pairs of dimensions", text, list(_draw_pairs(results, tables["interactions"], scale)))


def _draw_ranks(ranks: pd.DataFrame, groups: pd.DataFrame) -> Iterator[Picture]:
    for number, (alias, rows) in enumerate(ranks.groupby("dimension", sort=False), 1):
        if not 2 <= len(rows) <= SHOWN_VALUES:
            continue
        own = groups[groups["dimension"] == alias]
        values = [str(value) for value in rows["value"]]
        found = [own.loc[own["value"] == value, "rank"].tolist() for value in values]
        compared = format_count(int(own["group"].nunique()), "group")
        of = "that has every value" if rows["balanced"].all() else "of two or more (none has every value)"
        caption = (
            f"Rank of each value among points that differ in {alias} only, in each {compared.partition(' ')[2].rstrip('s')} "
            f"{of}: {compared}. Left the mean, right the distribution (the area of a dot is the share of groups). "
            "Equal scores share a rank. From tables/ranks.csv and tables/rank_groups.csv."
        )
        yield draw_ranks(f"rank-{number}", str(alias), values, rows["mean_rank"].tolist(), found, caption)


def _draw_effects(ranks: pd.DataFrame, scale: Scale) -> Iterator[Picture]:
    effects = [
        Effect(str(row["dimension"]), str(row["value"]), float(row["effect"]))
        for _, rows in ranks.groupby("dimension", sort=False)
        if 2 <= len(rows) <= SHOWN_VALUES
        for row in rows.to_dict("records")
    ]
    if effects:
        caption = (
            "Mean difference in validation score to the mean of the points that differ in this dimension only. "
            "From the column effect of tables/ranks.csv."
        )
        yield draw_effects(effects, f"validation {scale.metric}", scale, caption)


def _draw_pairs(results: StudyResults, table: pd.DataFrame, scale: Scale) -> Iterator[Picture]:
    """The pairs that interact most, those of KD keys first."""
    pairs = [
        (first, second, rows)
        for (first, second), rows in table.groupby(["first", "second"], sort=False)
        if max(rows["first_value"].nunique(), rows["second_value"].nunique()) <= SHOWN_VALUES
    ]

    def place(pair: tuple[str, str, pd.DataFrame]) -> tuple[bool, float]:
        distils = any(results.dimensions.get(name, name).startswith("kd") for name in pair[:2])
        sizes = pair[2]["interaction"].abs() if pair[2]["balanced"].all() else pair[2]["difference"].abs() * 0
        return not distils, -float(sizes.max())

    pairs.sort(key=place)
    high = max((float(rows["difference"].abs().max()) for _, _, rows in pairs), default=0.0)
    for number, (first, second, rows) in enumerate(pairs[:SHOWN_PAIRS], 1):
        balanced = bool(rows["balanced"].all())
        groups = format_count(int(rows["groups"].max()), "group")
        more = f" {SHOWN_PAIRS} of {len(pairs)} pairs are drawn." if number == 1 and len(pairs) > SHOWN_PAIRS else ""
        why = (
            f"Over {groups} with every cell."
            if balanced
            else "No group has every cell: cells are means over different points, and there is no interaction."
        )
        caption = f"Validation {scale.metric}. {why} The colours have the same scale in all pairs.{more} From tables/interactions.csv."
        yield draw_pair(f"pair-{number}", _make_pair(first, second, rows, balanced), scale, high, caption)


def _make_pair(first: str, second: str, rows: pd.DataFrame, balanced: bool) -> Pair:
    one, other = (list(dict.fromkeys(rows[f"{name}_value"])) for name in ("first", "second"))
    # the wide side across
    along, down, across, below = (other, one, second, first) if len(other) >= len(one) else (one, other, first, second)
    grids = []
    for column in ("difference", *(["interaction"] if balanced else [])):
        grid = np.full((len(down), len(along)), np.nan)
        for row in rows.to_dict("records"):
            values = {first: row["first_value"], second: row["second_value"]}
            grid[down.index(values[below]), along.index(values[across])] = row[column]
        grids.append(grid)
    return Pair(below, across, down, along, grids)
