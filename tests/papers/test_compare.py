"""Rows of recipes: which point answers them, what is paired with what, and the verdict, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy import stats

from gkd_plugin.errors import UserError
from gkd_plugin.papers.compare import (
    FAILS,
    GAIN,
    HOLDS,
    LOSS,
    NO_GAIN,
    NOT_SHOWN,
    SMALLER,
    UNTESTED,
    Comparison,
    compare_study,
    require_rows,
)
from gkd_plugin.papers.recipe import RecipeStudy, Row
from gkd_plugin.study.records import read_study
from gkd_plugin.study.statistics import PairedTest
from tests.study.folders import write_run, write_study

ALONE = {1: (0.60, 0.50), 2: (0.62, 0.52), 3: (0.61, 0.51)}
WEAK = {1: (0.50, 0.90), 2: (0.50, 0.92), 3: (0.50, 0.94)}  # better on test, and not chosen
STRONG = {1: (0.70, 0.60), 2: (0.70, 0.63), 3: (0.70, 0.61)}


def recipe_study(*rows: Row, grid: Path = Path("grid.txt"), config: Path = Path("base.yaml")) -> RecipeStudy:
    return RecipeStudy("first", config, grid, 3, {}, False, "", rows, ())


@pytest.fixture
def results(tmp_path: Path):
    home = tmp_path / "first"
    points = [
        {"name": "alone", "choices": {"preset": "supervised", "students": 2}},
        {"name": "weak", "choices": {"preset": "lsp", "weight": 1, "students": 2}, "control": "alone"},
        {"name": "strong", "choices": {"preset": "lsp", "weight": 10.0, "students": 2}, "control": "alone"},
        {"name": "strong-x", "role": "shuffled_teacher", "of": ["strong"]},
    ]
    write_study(home, points, {"preset": "kd.preset", "weight": "kd_structure.weight", "students": "kd.students"})
    write_run(home / "alone", ALONE, best={seed: (0.9, test + 0.1) for seed, (_, test) in ALONE.items()})
    teacher = {1: 0.8, 2: 0.81, 3: 0.82}
    write_run(home / "weak", WEAK, teacher=teacher)
    write_run(home / "strong", STRONG, teacher=teacher)
    write_run(tmp_path / "wide", {seed: (0.9, test) for seed, test in teacher.items()}, size=77)
    write_run(home.with_name("first.gkd") / "controls" / "strong-x", ALONE)
    return read_study(home)


LABELS = Row("labels", {"preset": "supervised"}, published=50.0)


def test_validation_selects_the_point_of_a_row_and_seeds_are_paired(results):
    lsp = Row("LSP", {"preset": "lsp"}, over=("labels",), published=55.0)
    compared = compare_study(recipe_study(LABELS, lsp), results)
    labels, row = compared.rows
    assert (labels.point, row.point, row.matching) == ("alone", "strong", 2)
    assert row.tests == {1: 0.60, 2: 0.63, 3: 0.61}
    (one,) = compared.comparisons
    gaps = [0.10, 0.11, 0.10]
    assert one.test.difference.mean == pytest.approx(sum(gaps) / 3)
    assert one.p_holm == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)
    assert one.published == pytest.approx(0.05)
    assert one.verdict == HOLDS


def test_rows_may_ask_for_a_missing_dimension_another_answer_and_the_teacher(results):
    none = Row("no weight", {"weight": None})
    best = Row("best", {"preset": "supervised", "students": 2}, answer="best")
    ten = Row("ten", {"weight": 10})
    teacher = Row("teacher", teacher=True)
    scored = {each.row.name: each for each in compare_study(recipe_study(none, best, ten, teacher), results).rows}
    assert scored["no weight"].point == "alone"
    assert scored["best"].tests[1] == pytest.approx(0.60)
    assert scored["ten"].point == "strong"
    assert scored["teacher"].tests == {1: 0.8, 2: 0.81, 3: 0.82} and scored["teacher"].parameters == 77


def test_a_row_stands_beside_the_placebos_of_its_point(results):
    compared = compare_study(recipe_study(LABELS, Row("LSP", {"preset": "lsp"}, over=("labels",))), results)
    (placebo,) = compared.placebos
    assert placebo.name == "LSP" and "shuffled" in placebo.over
    assert placebo.test.difference.mean == pytest.approx(sum([0.10, 0.11, 0.10]) / 3)


def test_holm_counts_every_comparison_of_a_study_once(results):
    rows = [
        LABELS,
        Row("strong", {"weight": 10}, over=("labels",)),
        Row("strong again", {"preset": "lsp"}, over=("labels",)),  # the same point, by validation
        Row("weak", {"weight": 1}, over=("labels", "strong")),
    ]
    strong, again, weak, weaker = compare_study(recipe_study(*rows), results).comparisons
    assert again.test.p == strong.test.p and again.p_holm == strong.p_holm
    tests = sorted((strong, weak, weaker), key=lambda one: one.test.p)
    expected = [3 * tests[0].test.p, 2 * tests[1].test.p, tests[2].test.p]
    expected = [max(expected[: number + 1]) for number in range(3)]
    assert [one.p_holm for one in tests] == pytest.approx(expected)


GAPS = [0.02, 0.03, 0.04, 0.03]  # 3 points, the interval reaches from 1.7 to 4.3
UNSURE = [0.02, -0.03, 0.04, 0.01]


@pytest.mark.parametrize(
    ("gaps", "published", "better", "verdict"),
    [
        (GAPS, math.nan, True, GAIN),
        (GAPS, 0.03, True, HOLDS),
        (GAPS, 0.01, True, HOLDS),  # more than published
        (GAPS, 0.09, True, SMALLER),
        (GAPS, -0.01, True, GAIN),
        ([-gap for gap in GAPS], 0.03, True, FAILS),
        ([-gap for gap in GAPS], math.nan, True, LOSS),
        ([-gap for gap in GAPS], -0.03, True, LOSS),
        ([-gap for gap in GAPS], -0.001, True, LOSS),
        (UNSURE, 0.03, True, NOT_SHOWN),
        (UNSURE, 0.30, True, FAILS),
        (UNSURE, -0.01, True, NO_GAIN),
        (UNSURE, math.nan, True, NOT_SHOWN),
        ([-gap for gap in GAPS], -0.03, False, HOLDS),  # an error: less is better
        (GAPS, -0.03, False, FAILS),
        (GAPS[:2], 0.03, True, UNTESTED),
    ],
)
def test_the_verdict(gaps, published, better, verdict):
    test = PairedTest.of(gaps, [0.0] * len(gaps), better)
    assert Comparison("a", "b", test, ("a", "b"), published, p_holm=test.p, better=better).verdict == verdict


def test_a_gain_that_holms_correction_takes_away_is_none():
    test = PairedTest.of(GAPS, [0.0] * 4)
    assert test.p < 0.05
    assert Comparison("a", "b", test, ("a", "b"), 0.03, p_holm=0.06).verdict == NOT_SHOWN


def test_rows_that_the_grid_does_not_have_are_refused_before_anything_runs(tmp_path):
    (tmp_path / "grid.txt").write_text("kd.students students [2, 3]\n")
    (tmp_path / "base.yaml").write_text("kd: {preset: oc}\n")
    asked = [
        Row("two", {"students": 2}),
        Row("four", {"students": 4}),
        Row("wide", {"width": 4}),
        Row("true", {"students": True}),
        Row("taught", teacher=True),
    ]
    study = recipe_study(*asked, grid=tmp_path / "grid.txt", config=tmp_path / "base.yaml")
    with pytest.raises(UserError) as error:
        require_rows(study)
    assert "four: there is no such point" in str(error.value)
    assert "wide: there is no dimension width; there are students" in str(error.value)
    assert "true: there is no such point" in str(error.value)
    assert "taught: no such point has a teacher" in str(error.value)
    assert "two" not in str(error.value)
