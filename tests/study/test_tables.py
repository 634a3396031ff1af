"""The tables of a study whose scores are known."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from gkd_plugin.study.records import StudyResults, read_study
from gkd_plugin.study.statistics import correct_holm
from gkd_plugin.study.tables import compare, compare_placebos, pareto, select, summarise
from tests.study.folders import write_run, write_study

A = {1: (0.70, 0.81), 2: (0.72, 0.79), 3: (0.74, 0.84), 4: (0.76, 0.80)}
B = {1: (0.80, 0.71), 2: (0.80, 0.70), 3: (0.80, 0.75)}  # the best by validation, not by test
CONTROL = {1: (0.60, 0.78), 2: (0.60, 0.80), 3: (0.60, 0.80)}
TEACHER = {1: 0.9, 2: 0.9, 3: 0.9, 4: 0.9}


@pytest.fixture
def results(tmp_path: Path) -> StudyResults:
    home = tmp_path / "s"
    points: list[dict[str, Any]] = [
        {"name": "a", "choices": {"width": 8}, "control": "c"},
        {"name": "b", "choices": {"width": 16}, "control": "c"},
        {"name": "short", "choices": {"width": 32}, "control": "c", "epochs": 5},
        {"name": "broken", "choices": {"width": 64}, "control": "c"},
        {"name": "plain", "choices": {"width": 1}},
        {"name": "c", "role": "control"},
        {"name": "a-shuffled", "role": "shuffled_teacher", "of": ["a"], "control": "c"},
    ]
    folder = write_study(home, points, {"width": "gnn.dim_inner"})
    write_run(
        home / "a", A, best={seed: (val, test + 0.1) for seed, (val, test) in A.items()}, size=20, teacher=TEACHER
    )
    write_run(home / "b", B, size=30)
    write_run(home / "short", {seed: (0.99, 0.99) for seed in A}, size=5)
    write_run(home / "plain", {1: (0.5, 0.5)}, size=10)
    write_run(folder / "controls" / "c", CONTROL, best={seed: (0.6, 0.85) for seed in CONTROL})
    write_run(folder / "controls" / "a-shuffled", {seed: (0.6, 0.7) for seed in A})
    return read_study(home)


def test_every_point_has_a_row_sorted_by_validation(results: StudyResults) -> None:
    runs = summarise(results).set_index("name")
    assert runs.index.tolist() == ["short", "b", "a", "c", "a-shuffled", "plain", "broken"]
    a = runs.loc["a"]
    assert (a["seeds"], a["students"], a["width"], a["parameters"], a["state"]) == (4, 2, 8, 20, "done")
    assert (a["val"], a["test"]) == pytest.approx((0.73, 0.81))
    low, high = stats.t.interval(0.95, 3, loc=0.81, scale=stats.sem([test for _, test in A.values()]))
    assert (a["test_low"], a["test_high"]) == pytest.approx((low, high))
    assert runs.loc["broken", "seeds"] == 0 and math.isnan(runs.loc["broken", "val"])
    best = summarise(results, "best").set_index("name")
    assert best.loc["a", "test"] == pytest.approx(0.91)


def test_points_beside_their_control_on_equal_seeds(results: StudyResults) -> None:
    table = compare(results).set_index("name")
    assert table.index.tolist() == ["b", "a", "broken"]  # neither controls, nor fewer epochs than the control
    a = table.loc["a"]
    ours, theirs = [0.81, 0.79, 0.84], [0.78, 0.80, 0.80]  # seed 4 has no control
    assert (a["control"], a["seeds"], a["wins"], a["ties"], a["losses"]) == ("c", 3, 2, 0, 1)
    assert (a["test"], a["control_test"], a["difference"]) == pytest.approx((2.44 / 3, 2.38 / 3, 0.02))
    assert a["p"] == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (a["low"], a["high"]) == pytest.approx((interval.low, interval.high))
    assert a["best_difference"] == pytest.approx(2.44 / 3 + 0.1 - 0.85)
    assert a["gap_closed"] == pytest.approx(0.02 / (0.9 - 2.38 / 3))
    assert table["p_holm"].tolist() == pytest.approx(correct_holm(table["p"].tolist(), 1), nan_ok=True)
    assert table.loc["b", "p_holm"] == pytest.approx(3 * table.loc["b", "p"])  # of three, one of which failed
    assert table.loc["broken", "seeds"] == 0 and math.isnan(table.loc["broken", "p"])


def test_points_beside_their_placebos(results: StudyResults) -> None:
    table = compare_placebos(results)
    assert table[["name", "control", "seeds", "wins"]].to_numpy().tolist() == [["a", "a-shuffled", 4, 4]]
    assert table["difference"].tolist() == pytest.approx([0.81 - 0.7])


def test_validation_selects_and_not_test(results: StudyResults) -> None:
    (row,) = select(results).to_dict("records")
    assert row["name"] == "b" and row["test"] == pytest.approx(0.72)


def test_the_front_has_what_no_smaller_point_beats(results: StudyResults) -> None:
    table = pareto(results)
    assert table[["name", "parameters", "front"]].to_numpy().tolist() == [
        ["plain", 10.0, True],
        ["a", 20.0, True],
        ["b", 30.0, True],
    ]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(10, 0.5), (10, 0.6), (20, 0.6), (30, 0.55), (40, 0.7)], {(10, 0.6), (40, 0.7)}),
        ([(10, 0.5)], {(10, 0.5)}),
        ([], set()),
    ],
)
@pytest.mark.parametrize("metric", ["accuracy", "mae"])
def test_the_front_of_an_error_goes_down(
    tmp_path: Path, points: list[tuple[int, float]], front: set[tuple[int, float]], metric: str
) -> None:
    sign = 1 if metric == "accuracy" else -1
    home = tmp_path / "s"
    for number, (size, score) in enumerate(points):
        write_run(home / str(f"p{number}"), {1: (sign * score, 0.0)}, size=size, metric=metric)
    write_study(home, [{"name": f"p{number}"} for number in range(len(points))])
    results = read_study(home)
    table = pareto(results)
    assert {(row["parameters"], sign * row["val"]) for row in table.to_dict("records") if row["front"]} == front
    assert len(select(results)) == bool(points)
    if points:
        assert sign * select(results)["val"].iloc[0] == max(score for _, score in points)


def test_each_data_set_has_its_own_selection_and_front(tmp_path: Path) -> None:
    home = tmp_path / "s"
    scores = {("cora", 8): 0.8, ("cora", 16): 0.7, ("pubmed", 8): 0.5, ("pubmed", 16): 0.6}
    points = []
    for (data, width), score in scores.items():
        points.append({"name": f"{data}-{width}", "choices": {"data": data, "width": width}})
        write_run(home / f"{data}-{width}", {1: (score, score)}, size=width)
    write_study(home, points, {"data": "dataset.name", "width": "gnn.dim_inner"})
    results = read_study(home)
    assert select(results)["name"].tolist() == ["cora-8", "pubmed-16"]
    table = pareto(results)
    assert table[table["front"]]["name"].tolist() == ["cora-8", "pubmed-8", "pubmed-16"]


def test_a_study_without_results_has_empty_tables(tmp_path: Path) -> None:
    write_study(tmp_path / "s", [])
    results = read_study(tmp_path / "s")
    for table in (summarise, compare, compare_placebos, select, pareto):
        assert len(table(results)) == 0


def test_a_point_that_lost_its_worst_seeds_is_not_selected(tmp_path: Path) -> None:
    home = tmp_path / "s"
    points = [{"name": name, "choices": {"width": width}} for name, width in (("a", 8), ("b", 16))]
    folder = write_study(home, points, {"width": "gnn.dim_inner"})
    meta = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**meta, "repeat": 3}))
    write_run(home / "a", {seed: (0.7, 0.7) for seed in (1, 2, 3)})
    write_run(home / "b", {1: (0.5, 0.5), 2: (0.5, 0.5), 3: (0.8, 0.8)})
    assert select(read_study(home))["name"].tolist() == ["a"]
    for seed in (0, 1):
        shutil.rmtree(home / "b" / str(seed))
    lost = read_study(home)
    assert summarise(lost)["name"].tolist() == ["b", "a"]
    assert select(lost)["name"].tolist() == ["a"] == pareto(lost)["name"].tolist()
    shutil.rmtree(home / "a")
    assert select(read_study(home))["name"].tolist() == ["b"]  # nobody is whole


def test_a_comparison_whose_scores_are_no_numbers_still_counts_in_the_correction(tmp_path: Path) -> None:
    home = tmp_path / "s"
    names = ("a", "b")
    points = [{"name": name, "choices": {"act": name}, "control": "plain"} for name in names]
    write_study(home, [*points, {"name": "plain", "role": "control"}], {"act": "gnn.act"})
    scores = {1: (0.5, 0.50), 2: (0.5, 0.52), 3: (0.5, 0.51)}
    write_run(tmp_path / "s.gkd" / "controls" / "plain", scores)
    for name in names:
        write_run(home / name, {seed: (val, test + 0.1 * seed) for seed, (val, test) in scores.items()})
    both = compare(read_study(home)).set_index("name")
    shutil.rmtree(home / "b")
    write_run(home / "b", {**{seed: (0.5, 0.6) for seed in (2, 3)}, 1: (0.5, float("nan"))})
    lost = compare(read_study(home)).set_index("name")
    assert math.isnan(lost.loc["b", "p"]) and lost.loc["b", "seeds"] == 3
    assert lost.loc["a", "p_holm"] == pytest.approx(both.loc["a", "p_holm"]) == pytest.approx(2 * lost.loc["a", "p"])
