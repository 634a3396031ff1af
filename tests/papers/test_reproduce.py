"""``gkd reproduce``, from the command line to the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import gkd_cli
from tests import toy
from tests.running import break_seeds

RECIPE = {
    "title": "A paper",
    "link": "https://example.org",
    "claim": "It helps.",
    "quick": {"seeds": 2, "overrides": {"optim.max_epoch": 1}},
    "studies": {
        "first": {
            "config": "base.yaml",
            "grid": "grid.txt",
            "seeds": 3,
            "source": "Table 1",
            "rows": [
                {"name": "a teacher", "teacher": True, "published": 90},
                {"name": "labels", "where": {"preset": "supervised"}, "published": 60.0},
                {
                    "name": "soft",
                    "where": {"preset": "soft_target"},
                    "over": "labels",
                    "published": 65.0,
                    "spread": 0.5,
                },
            ],
        },
        "second": {"config": "base.yaml", "grid": "grid.txt", "seeds": 1, "needs": "no_such_package", "rows": []},
    },
}


@pytest.fixture
def recipe(work_folder: Path) -> Path:
    """A recipe of one's own in the working folder."""
    folder = Path("mine")
    folder.mkdir()
    base = toy.values(
        Path("results"), optim={"max_epoch": 2}, kd={"preset": "soft_target", "teacher_cfg": "large.yaml"}
    )
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    teacher = toy.values(Path("results"), optim={"max_epoch": 2}, kd={"preset": "supervised"})
    (folder / "large.yaml").write_text(yaml.safe_dump(teacher))
    (folder / "grid.txt").write_text(
        "kd.preset preset [soft_target]\n\nkd.preset preset [supervised]\nkd.teacher_cfg teacher [none]\n"
    )
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


def gkd(*words: str) -> Result:
    return CliRunner().invoke(gkd_cli.main, ["reproduce", *words])


def test_a_recipe_runs_as_a_study_and_stands_beside_what_was_printed(recipe: Path) -> None:
    done = gkd("mine", "--workers", "0", "--only", "first")
    assert done.exit_code == 0, done.output
    for text in ("A paper", "labels", "60.00", "65.00 ± 0.50", "+5.00", "Table 1", "Of 1 comparison"):
        assert text in done.stdout, text
    runs = sorted(path.name for path in Path("results/first").iterdir() if path.is_dir())
    assert runs == ["agg", "base-preset=soft_target", "base-preset=supervised-teacher=none"]
    assert len(list(Path("results/large").glob("*/result.json"))) == 3
    page, markdown = Path("results/mine.html").read_text(), Path("results/mine.md").read_text()
    score = json.loads(Path("results/first/base-preset=supervised-teacher=none/0/result.json").read_text())
    assert "<html" in page and "| labels | 3 |" in markdown and score["answers"]["mean"]["test"] >= 0
    assert "https://example.org" in markdown and "gkd\\_plugin" in markdown


def test_the_same_command_continues_and_trains_nothing_twice(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gkd("mine", "--workers", "0", "--only", "first").exit_code == 0
    first = Path("results/mine.md").read_text().splitlines()
    begun = break_seeds(monkeypatch, RuntimeError("trained again"), seeds=(1, 2, 3))
    assert gkd("mine", "--workers", "0", "--only", "first").exit_code == 0
    assert Path("results/mine.md").read_text().splitlines()[:-1] == first[:-1]  # the last line has the time
    assert begun == []


def test_quick_shortens_teachers_too_and_lies_elsewhere(recipe: Path) -> None:
    done = gkd("mine", "--quick", "--workers", "0", "--only", "first")
    assert done.exit_code == 0, done.output
    assert "Quick: few epochs and seeds" in done.stdout
    folder = Path("results/quick")
    results = [*folder.glob("first/*/*/result.json"), *folder.glob("large/*/result.json")]
    assert len(results) == 6 and all(json.loads(path.read_text())["epochs"] == 1 for path in results)
    assert not Path("results/first").exists()
    assert yaml.safe_load((recipe / "large.yaml").read_text())["optim"]["max_epoch"] == 2, "the recipe stays as it is"


def test_like_runs_are_stacked(recipe: Path) -> None:
    assert gkd("mine", "--quick", "--workers", "0", "--only", "first", "--stack", "2").exit_code == 0
    (soft,) = Path("results/quick/first").glob("*soft_target")
    assert [json.loads(path.read_text())["stacked"] for path in sorted(soft.glob("*/result.json"))] == [2, 2]


def test_what_cannot_run_is_said_and_the_rest_runs(recipe: Path) -> None:
    done = gkd("mine", "--workers", "0", "--repeat", "1")
    assert done.exit_code == 1
    assert "second: its data need the package no_such_package" in done.stdout
    assert "labels" in done.stdout and "–" in done.stdout  # one seed: no test


def test_a_dry_run_trains_nothing(recipe: Path) -> None:
    done = gkd("mine", "--dry-run", "--only", "first")
    assert done.exit_code == 0, done.output
    assert "2 configurations" in done.stdout and "in all about" in done.stdout
    assert not list(Path("results").glob("**/result.json"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["glnm"], "Did you mean 'glnn'?"),
        (["mine", "--only", "frist"], "mine has no such study. Did you mean 'first'?"),
        (["mine", "optim.max_epoch"], "has no value"),
        (["mine", "--only", "first", "optim.max_epok", "3"], "optim.max_epok"),
        (["mine", "--repeat", "0"], "--repeat"),
        (["mine", "--sead", "1"], "No such option: --sead"),
    ],
)
def test_a_mistake_is_one_message(recipe: Path, words: list[str], told: str) -> None:
    done = gkd(*words)
    assert done.exit_code == 2 and told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_row_without_a_point_is_refused_before_training(recipe: Path) -> None:
    values = yaml.safe_load((recipe / "recipe.yaml").read_text())
    values["studies"]["first"]["rows"][1]["where"] = {"preset": "oc"}
    (recipe / "recipe.yaml").write_text(yaml.safe_dump(values))
    done = gkd("mine", "--workers", "0")
    assert done.exit_code == 2 and "labels: there is no such point" in done.stderr
    assert not Path("results").exists()


def test_a_failed_run_is_said(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_seeds(monkeypatch, RuntimeError("no more memory"))
    done = gkd("mine", "--workers", "0", "--only", "first")
    assert done.exit_code == 1
    assert "failed: first: 3 runs, such as" in done.stdout and "no more memory" in done.stdout


def test_without_a_paper_all_are_listed(work_folder: Path) -> None:
    done = gkd()
    assert done.exit_code == 0
    for name in ("abkd", "alignahead", "alignahead_pp", "gcrd", "gkd", "glnn", "lsp"):
        assert name in done.stdout


def test_files_of_one_name_in_two_folders_stay_two(recipe: Path) -> None:
    values = yaml.safe_load((recipe / "recipe.yaml").read_text())
    studies = values["studies"]
    for name, width in (("first", 4), ("second", 8)):
        (recipe / name).mkdir()
        base = toy.values(
            Path("results"), optim={"max_epoch": 2}, gnn={"dim_inner": width}, kd={"preset": "supervised"}
        )
        (recipe / name / "base.yaml").write_text(yaml.safe_dump(base))
        rows = [{"name": "labels", "where": {"preset": "supervised"}}]
        studies[name] = {"config": f"{name}/base.yaml", "grid": "one.txt", "seeds": 1, "rows": rows}
    (recipe / "one.txt").write_text("kd.preset preset [supervised]\n")
    (recipe / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert gkd("mine", "--quick", "--workers", "0").exit_code == 0
    sizes = [json.loads(path.read_text())["parameters"] for path in Path("results/quick").glob("*/base*/0/result.json")]
    assert len(sizes) == 2 and sizes[0] != sizes[1]


def test_a_study_more_leaves_the_others_on_the_page(recipe: Path) -> None:
    values = yaml.safe_load((recipe / "recipe.yaml").read_text())
    rows = [{"name": "more labels", "where": {"preset": "supervised"}}]
    values["studies"]["second"] = {"config": "base.yaml", "grid": "grid.txt", "seeds": 1, "rows": rows}
    (recipe / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert gkd("mine", "--quick", "--workers", "0", "--only", "first").exit_code == 0
    done = gkd("mine", "--quick", "--workers", "0", "--only", "second")
    assert done.exit_code == 0 and "more labels" in done.stdout and "65.00" in done.stdout
    assert "| soft |" in Path("results/quick/mine.md").read_text()


def test_results_inside_the_recipes_folder_are_no_part_of_it(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe)
    for _ in range(2):
        assert gkd(".", "--quick", "--workers", "0", "--only", "first").exit_code == 0
    copied = [path for path in Path("results/quick/configs").rglob("*") if path.is_file()]
    assert sorted(path.name for path in copied) == ["base.yaml", "large.yaml"]
