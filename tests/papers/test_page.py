"""The report of a recipe: its sentences and tables, from rows that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gkd_plugin.papers.compare import compare_study
from gkd_plugin.papers.page import make_page, make_section
from gkd_plugin.papers.recipe import Recipe, RecipeStudy, Row
from gkd_plugin.study.records import read_study
from gkd_plugin.study.report.markdown import write_markdown
from tests.study.folders import write_run, write_study


@pytest.fixture
def compared(tmp_path: Path):
    home = tmp_path / "first"
    points = [{"name": name, "choices": {"preset": name}} for name in ("supervised", "lsp")]
    write_study(home, points, {"preset": "kd.preset"})
    write_run(home / "supervised", {1: (0.6, 0.50), 2: (0.6, 0.52), 3: (0.6, 0.51)}, size=1234)
    write_run(home / "lsp", {1: (0.6, 0.60), 2: (0.6, 0.63), 3: (0.6, 0.61)}, size=1234)
    rows = (
        Row("labels", {"preset": "supervised"}, published=50.0, spread=1.0),
        Row("LSP", {"preset": "lsp"}, over=("labels",), published=52.0),
        Row("LSP again, for the ensemble's sake", {"preset": "lsp"}, over=("labels",)),
    )
    study = RecipeStudy("first", Path("base.yaml"), Path("grid.txt"), 3, {}, False, "Table 7", rows, ("It is small.",))
    return compare_study(study, read_study(home))


def find(section, name):
    return next(part for part in section.parts if part.name == name)


def test_scores_stand_beside_what_was_printed_and_once(compared):
    section = make_section(compared)
    assert section.text == "Published: Table 7. It is small."
    table = find(section, "first-rows")
    cells = [[cell.text for cell in row] for row in table.rows]
    assert table.columns == ["row", "seeds", "test accuracy (%)", "published", "parameters", "s a run"]
    assert cells == [
        ["labels", "3", "51.00 ± 1.00", "50.00 ± 1.00", "1,234", "2"],
        ["LSP", "3", "61.33 ± 1.53", "52.00", "1,234", "2"],
    ]


def test_differences_have_interval_published_difference_and_verdict(compared):
    row, again = find(make_section(compared), "first-differences").rows
    assert [cell.text for cell in row][:2] == ["LSP", "labels"]
    assert row[2].text.replace("\u00a0", " ") == "+10.33 [+8.90, +11.77]"  # 1.4342 = 4.3027 * 0.57735 / sqrt 3
    assert [cell.text for cell in row][4:] == ["+2.00", "holds"]
    assert again[-1].text == "gain"


RECIPE = Recipe(
    "mine", Path("mine"), "A title", "https://example.org", "It helps.", ("the loss",), ("the rest",), (), 1, {}
)


def test_the_first_sentence_counts_verdicts(compared):
    report = make_page(RECIPE, [compared], {"second": "no data"}, False, "Made today.")
    assert report.verdict[0] == (
        "Of 2 comparisons: in 1 the published gain holds; in 1 there is a gain where none was published or no number is known."
    )
    text = write_markdown(report)
    for part in ("It helps.", "the loss", "the rest", "second: no data", "Made today.", "https://example.org"):
        assert part in text
    assert ("seeds", "3") in report.facts and ("training", "9.0 s") in report.facts  # six runs of 1.5 s


def record(compared, name, number, **origin):
    (place,) = (Path(each) for each in compared.results.points["folder"] if Path(each).name == name)
    file = place / str(number) / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **origin}))


def test_the_page_states_what_the_runs_recorded(compared):
    versions = {"gkd_plugin": "0.1.0", "torch": "2.4", "torch-geometric": "2.7", "numpy": "2"}
    for name in ("supervised", "lsp"):
        for number in range(3):
            record(compared, name, number, versions=versions)
    facts = dict(make_page(RECIPE, [compared], {}, False, "").facts)
    assert facts["trained with"] == "gkd_plugin 0.1.0, torch 2.4, torch-geometric 2.7"
    assert facts["commit of the runs"] == "none was recorded, so the versions are all that is known of the program"
    for number in range(3):
        record(compared, "lsp", number, commit="a1b2")
    record(compared, "supervised", 0, commit="a1b2", versions={**versions, "torch": "2.5"})
    facts = dict(make_page(RECIPE, [compared], {}, False, "").facts)
    first, second = facts["trained with"].split("; ")
    assert first.endswith("torch 2.4, torch-geometric 2.7 (5 seeds)") and second.endswith(
        "torch-geometric 2.7 (1 seed)"
    )
    said = "a1b2 (4 seeds); none (2 seeds), of the repository that they were started in"
    assert facts["commit of the runs"] == said


@pytest.mark.parametrize(
    ("values", "head", "shown"),
    [
        ({"dataset": {"task_type": "classification"}}, "test score (%)", "52.00"),
        ({"dataset": {"task_type": "regression"}}, "test score", "52.0000"),
        ({"metric_best": "f1_micro", "custom_metrics": ["f1_micro"]}, "test f1_micro (%)", "52.00"),
        ({"metric_best": "mae"}, "test mae", "52.0000"),
        ({}, "test score", "52.0000"),
    ],
)
def test_a_study_whose_runs_all_failed_keeps_the_unit(compared, values, head, shown):
    home = compared.results.folder.parent / "second"
    folder = write_study(home, [{"name": name, "choices": {"preset": name}} for name in ("supervised", "lsp")])
    file = folder / "study.json"
    said = {**json.loads(file.read_text()), "dimensions": {"preset": "kd.preset"}, "base": {"values": values}}
    file.write_text(json.dumps(said))
    table = find(make_section(compare_study(compared.study, read_study(home))), "first-rows")
    assert table.columns[2] == head and table.rows[1][3].text == shown


def test_a_quick_run_proves_nothing(compared):
    report = make_page(RECIPE, [compared], {}, True, "")
    assert report.title == "mine (quick)" and "nothing of its numbers" in report.verdict[0] and len(report.verdict) == 1


def test_nothing_to_compare_is_said():
    assert make_page(RECIPE, [], {"second": "no data"}, False, "").verdict == ("Nothing is compared.",)


def test_comparisons_with_a_teacher_are_counted_apart(compared):
    one, other = compared.comparisons
    apart = replace(compared, comparisons=(one, replace(other, teacher=True)))
    first, second, _ = make_page(RECIPE, [apart], {}, False, "").verdict
    assert first == "Of 1 comparison: in 1 the published gain holds."
    assert second.startswith("Of 1 comparison with a teacher: in 1 there is a gain")
