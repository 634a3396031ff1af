"""What the sentences say is what the frames hold; no number of them comes from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gkd_plugin.study.records import read_study
from gkd_plugin.study.report.parts import format_number, format_p, value_cell
from gkd_plugin.study.report.scale import Scale, divide_dimensions, list_choices, list_values, name_point
from gkd_plugin.study.report.verdict import judge, write_verdict
from gkd_plugin.study.tables import compare, select
from tests.study.report.made_studies import write_study

BASE = [0.80, 0.81, 0.82, 0.805]
UP = [0.031, 0.030, 0.029, 0.030]  # nearly the same on every seed


def shift(by: list[float]) -> list[float]:
    return [base + part for base, part in zip(BASE, by, strict=True)]


def say(folder: Path) -> tuple[str, list[str]]:
    results = read_study(folder)
    verdict = write_verdict(results, compare(results), select(results))
    return " ".join(verdict.sentences), list(verdict.lines)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """One design that is better, one worse, one undecided, one that failed."""
    return write_study(
        tmp_path,
        {
            "plain": ({"preset": "supervised"}, None, BASE),
            "up": ({"preset": "lsp"}, "plain", shift(UP)),
            "down": ({"preset": "fitnet"}, "plain", shift([-part for part in UP])),
            "same": ({"preset": "gkd"}, "plain", shift([0.02, -0.03, 0.01, 0.0])),
            "gone": ({"preset": "gsp"}, "plain", []),
        },
        failed={"gone": "RuntimeError: boom"},
    )


def test_the_first_paragraph_counts_what_is_better_worse_and_undecided(mixed: Path) -> None:
    text, lines = say(mixed)
    assert text.startswith("1 of 3 KD designs is better than the control. 1 is worse, 1 is undecided.")
    assert "Holm-corrected over 3 comparisons" in text and "4 seeds" in text
    assert "undecided does not mean equal" in text
    assert "Failed: 1 of 5 runs; the reasons are listed below." in lines


def test_a_better_design_is_named_with_its_difference_interval_and_corrected_p(mixed: Path) -> None:
    (line,) = [line for line in say(mixed)[1] if line.startswith("Better")]
    half = stats.t.ppf(0.975, 3) * np.std(UP, ddof=1) / 2  # by hand, in shares
    mean = np.mean(UP)
    # three comparisons; two have equal p-values in exact arithmetic, the third is far above
    p = 3 * stats.ttest_1samp(UP, 0).pvalue
    low, high = (f"{100 * value:+.2f}" for value in (mean - half, mean + half))
    assert line.replace("\u00a0", " ") == (
        f"Better: preset=lsp: {100 * mean:+.2f} points [{low}, {high}], corrected p {'< 0.001' if p < 0.001 else f'= {p:.4f}'}."
    )


def test_selection_is_by_validation_and_says_its_test(mixed: Path) -> None:
    (line,) = [line for line in say(mixed)[1] if line.startswith("Selected")]
    test = np.mean(shift(UP))
    assert line.startswith("Selected by validation among 4 finished points: preset=lsp,")
    assert f"validation accuracy (%) {100 * test + 1:.2f}, test {100 * test:.2f}" in line
    assert f"Its control: test {100 * np.mean(BASE):.2f}, difference +3.00 points" in line


@pytest.mark.parametrize(
    ("points", "first"),
    [
        ({"a": ({"w": 1}, None, BASE)}, "No design is compared here: no finished point has a finished control."),
        (
            {"c": ({"w": 0}, None, BASE[:2]), "a": ({"w": 1}, "c", [0.9, 0.91])},
            "Nothing is decided: 1 KD design is beside a control, but none could be tested.",
        ),
        (
            {"c": ({"w": 0}, None, BASE), "a": ({"w": 1}, "c", shift([0.02, -0.03, 0.01, 0.0]))},
            "None of 1 KD design is shown to be better than the control.",
        ),
    ],
)
def test_what_cannot_be_decided_is_said(tmp_path: Path, points: dict[str, Any], first: str) -> None:
    text, lines = say(write_study(tmp_path, points))
    assert text.startswith(first)
    assert ("A test needs at least 3 seeds" in text) == ("none could be tested" in first)
    assert not any(line.startswith(("Better", "Worse")) for line in lines)


def test_several_data_sets_are_counted_and_selected_apart(tmp_path: Path) -> None:
    points: dict[str, Any] = {}
    for data, by in (("Cora", UP), ("PubMed", [-part for part in UP])):
        points[f"plain-{data}"] = ({"data": data, "preset": "supervised"}, None, BASE)
        points[f"kd-{data}"] = ({"data": data, "preset": "lsp"}, f"plain-{data}", shift(by))
    folder = write_study(tmp_path, points, dimensions={"data": "dataset.name", "preset": "kd.preset"})
    lines = say(folder)[1]
    assert "Cora: 1 better of 1." in lines and "PubMed: 1 worse of 1." in lines
    assert sum("finished points of Cora: data=Cora, preset=lsp" in line for line in lines) == 1
    assert sum("finished points of PubMed: data=PubMed, preset=supervised" in line for line in lines) == 1


def test_only_a_few_designs_are_named(tmp_path: Path) -> None:
    points: dict[str, Any] = {"plain": ({"w": 0}, None, BASE)}
    points |= {f"kd{n}": ({"w": n}, "plain", shift([part + n / 100 for part in UP])) for n in range(1, 6)}
    lines = [line for line in say(write_study(tmp_path, points))[1] if line.startswith("Better")]
    assert [re.findall(r"w=(\d)", line) for line in lines] == [["5"], ["4"], ["3"], []]
    assert lines[-1] == "Better, too: 2 more, in the table."


@pytest.mark.parametrize(
    ("difference", "p", "sign", "word"),
    [
        (0.1, 0.04, 1, "better"),
        (-0.1, 0.04, 1, "worse"),
        (-0.1, 0.04, -1, "better"),
        (0.1, 0.05, 1, "undecided"),
        (0.1, float("nan"), 1, "untested"),
    ],
)
def test_judging(difference: float, p: float, sign: int, word: str) -> None:
    assert judge({"difference": difference, "p_holm": p}, sign) == word


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00049, "< 0.001"), (0.0123, "0.0123"), (0.049996, "< 0.05"), (0.34, "0.340"), (None, "–")],
)
def test_p_values(value: float | None, text: str) -> None:
    assert format_p(value) == text


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [
        (0.5, False, "50.00"),
        (0.5, True, "+50.00"),
        (-0.00001, True, "0.00"),
        (float("nan"), True, "–"),
        (-0.1, False, "−10.00"),
    ],
)
def test_numbers(value: float, sign: bool, text: str) -> None:
    assert format_number(value, 2, 100.0, sign) == text


def test_points_are_named_by_their_choices() -> None:
    row = {"name": "cora-w=8", "w": 8, "preset": "lsp", "none": None}
    assert name_point(row, ["w", "preset", "none"]) == "w=8, preset=lsp"
    assert name_point(row, []) == "cora-w=8"
    assert list_values(row, ["w", "preset", "none"]) == "8 · lsp · –"
    assert value_cell(0.1).value == 0.1 and value_cell("lsp").value == "lsp" and value_cell(None).value == ""


def test_many_choices_of_few_points_share_a_column() -> None:
    names = ["preset", "w", "a", "b", "c", "d", "e"]
    first = dict(zip(names, ["lsp", 8, 1, None, None, None, 0.5], strict=True))
    second = dict(zip(names, ["gkd", 16, None, True, "last", 3, None], strict=True))
    rows = [first, second]
    assert divide_dimensions(rows, names[:6]) == (names[:6], ())  # few enough
    assert divide_dimensions(rows, [*names, "w"]) == (["preset", "w", "w"], names[2:])
    assert divide_dimensions([first], names) == (["preset", "w", "a", "e"], ())  # no row has the others
    assert divide_dimensions([first, first], names * 2)[1] == []  # every row has them
    assert list_values(first, ["preset", "w"], names[2:]) == "lsp · 8 · a=1, e=0.5"
    assert list_values(second, ["preset", "w"], ["a"]) == "gkd · 16"
    assert list_choices(second, names[2:]) == "b=True, c=last, d=3"


def test_a_metric_that_is_no_share_has_more_digits_and_no_per_cent() -> None:
    scale = Scale("mae", 1.0, 4, -1)
    assert scale.write(0.12344) == "0.1234" and scale.write_interval(float("nan"), 1) == ""
