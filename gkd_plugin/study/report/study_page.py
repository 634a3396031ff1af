"""The report of a study: its verdict, its tables, its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gkd_plugin.study.records import StudyResults
from gkd_plugin.study.report.dimension_figures import list_dimension_sections
from gkd_plugin.study.report.facts import list_study_facts, read_group
from gkd_plugin.study.report.figures import Difference, Sized, draw_differences, draw_pareto
from gkd_plugin.study.report.parts import (
    Picture,
    Report,
    Section,
    Text,
)
from gkd_plugin.study.report.run_choice import draw_runs
from gkd_plugin.study.report.scale import SHARED, Scale, divide_dimensions, list_values, name_point
from gkd_plugin.study.report.study_tables import list_compared, make_comparison, make_failures, make_points
from gkd_plugin.study.report.verdict import judge, write_verdict
from gkd_plugin.study.tables import list_data_sets

if TYPE_CHECKING:
    import pandas as pd

Tables = Mapping[str, "pd.DataFrame"]
SHOWN_DIFFERENCES = 40


def make_study_report(results: StudyResults, tables: Tables, made: str) -> Report:
    """The report of a study, or of a folder of runs.

    Args:
        results (StudyResults): The study.
        tables (mapping): Its tables, as :func:`~gkd_plugin.study.table_files.make_tables` gives them.
        made (str): When and by which version it is written.
    """
    scale, dimensions = Scale.of(results), list(results.dimensions)
    curves, layers = draw_runs(results, tables["runs"], scale)
    verdict = write_verdict(results, tables["comparison"], tables["selected"])
    metric = f"test {scale.metric} at the validation-selected epoch, mean over students"
    sections = [
        _compare(tables, scale, dimensions),
        _compare_placebos(tables, scale, dimensions),
        Section("points", "All points", parts=(make_points(tables["runs"], tables["selected"], scale, dimensions),)),
        *list_dimension_sections(results, tables, scale),
        Section("size", "Size and curves", parts=(*_draw_sizes(results, tables, scale), *curves)),
        Section("layers", "Layers", parts=layers),
        Section("failures", "Failures", parts=(make_failures(results),) if len(results.failures) else ()),
        Section("files", "What was run", parts=tuple(_list_texts(results.meta))),
    ]
    return Report(
        title=results.name,
        subtitle=f"{_name_kind(results)}: {metric}",
        verdict=verdict.sentences,
        points=verdict.lines,
        facts=list_study_facts(results),
        sections=[section for section in sections if section.parts],
        made=made,
    )


def _name_kind(results: StudyResults) -> str:
    return {"grid": "Grid", "search": "Search"}.get(results.kind, "Runs")


def _compare(tables: Tables, scale: Scale, dimensions: Sequence[str]) -> Section:
    text = (
        "Each design beside the same students without distillation, on the same seeds. The designs stand in the order of "
        "their validation score."
    )
    rows = list_compared(tables["comparison"])
    if not rows:
        return Section("comparison", "Comparison with controls")
    shown = rows[:SHOWN_DIFFERENCES]
    alone, shared = divide_dimensions(rows, dimensions)
    differences = [
        Difference(list_values(row, alone, shared), row["difference"], row["low"], row["high"], judge(row, scale.sign))
        for row in shown
    ]
    left_out = f" The first {len(shown)} of {len(rows)} by validation." if len(rows) > len(shown) else ""
    lines = (
        "; lines are 95 % intervals over seeds, uncorrected" if any(row.low == row.low for row in differences) else ""
    )
    caption = (
        f"Test score of the mean over students minus that of the control{lines}. "
        "Filled: corrected p below 0.05 (circles better, squares worse); hollow: undecided or not tested."
        f"{left_out} From tables/comparison.csv."
    )
    picture = draw_differences(differences, " · ".join([*alone, *([SHARED] if shared else [])]), scale, caption)
    return Section("comparison", "Comparison with controls", text, (make_comparison(rows, scale, dimensions), picture))


def _compare_placebos(tables: Tables, scale: Scale, dimensions: Sequence[str]) -> Section:
    rows = list_compared(tables["placebos"])
    text = (
        "Each design beside a placebo of itself: a teacher whose answers are shuffled among the items, or smoothed labels in "
        "its place. A design that is no better than its placebo does not show that what its teacher knows matters."
    )
    return Section(
        "placebos", "Placebos", text, (make_comparison(rows, scale, dimensions, placebo=True),) if rows else ()
    )


def _draw_sizes(results: StudyResults, tables: Tables, scale: Scale) -> Iterator[Picture]:
    """One figure for each data set."""
    data, sizes = list_data_sets(results), tables["pareto"]
    compared = set(tables["comparison"]["name"])
    dimensions = [alias for alias in results.dimensions if alias not in data]
    groups = list(sizes.groupby(data, sort=False, dropna=False)) if data else [((), sizes)]
    for number, (values, group) in enumerate(groups, 1):
        known = group[group["parameters"] > 0]
        if known["parameters"].nunique() < 2:
            continue
        points = [
            Sized(
                name_point(row, dimensions),
                row["parameters"],
                row["val"],
                "with a control (KD)" if row["name"] in compared else "without a control",
                bool(row["front"]),
            )
            for row in known.to_dict("records")
        ]
        front = [f"{point.label} ({point.parameters:,.0f})" for point in points if point.front]
        caption = (
            "Each point by the parameters of one student and its validation score, mean over students and seeds. On the "
            f"front, where no smaller one is better: {'; '.join(front[:6])}{'; …' if len(front) > 6 else ''}. "
            "From tables/pareto.csv."
        )
        title = f"Score against size{''.join(f', {value}' for value in values)}"
        yield draw_pareto(f"pareto-{number}", title, points, scale, caption)


def _list_texts(meta: Mapping[str, Any]) -> Iterator[Text]:
    grid, base = read_group(meta, "grid"), read_group(meta, "base")
    if grid.get("text"):
        yield Text("grid", f"Grid: {Path(str(grid.get('file', ''))).name}", str(grid["text"]))
    if base.get("values"):
        text = yaml.safe_dump(base["values"], sort_keys=False)
        yield Text("base", f"Base configuration: {Path(str(base.get('file', ''))).name}", text)
