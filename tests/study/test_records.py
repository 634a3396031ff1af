"""Studies and folders of runs as frames."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.commands.run import run
from gkd_plugin.errors import UserError
from gkd_plugin.study import effects, tables
from gkd_plugin.study.records import RESERVED, SCORE_COLUMNS, StudyResults, read_study
from gkd_plugin.study.report.verdict import write_verdict
from gkd_plugin.study.status import read_status
from tests import running, toy
from tests.study.folders import write_run, write_study
from tests.study.report import made_studies

POINTS: list[dict[str, Any]] = [
    {"name": "s-width=8-preset=lsp", "choices": {"width": 8, "preset": "lsp"}, "control": "control-1"},
    {"name": "s-width=16-preset=lsp", "choices": {"width": 16, "preset": "lsp"}, "control": "control-2"},
    {"name": "control-1", "role": "control", "choices": {"width": 8}},
    {"name": "control-2", "role": "control", "choices": {"width": 16}},
]
DIMENSIONS = {"width": "gnn.dim_inner", "preset": "kd.preset"}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of which one run is done, one failed, one runs and one waits."""
    home = tmp_path / "s"
    folder = write_study(home, POINTS, DIMENSIONS)
    write_run(home / POINTS[0]["name"], {1: (0.5, 0.4), 2: (0.6, 0.5)})
    write_run(home / POINTS[1]["name"], {1: (0.7, 0.6)})
    write_run(folder / "controls" / "control-1", {1: (0.4, 0.3), 2: (0.4, 0.2)})
    entries: dict[str, dict[str, Any]] = {
        POINTS[0]["name"]: {"state": "done", "reason": None, "failures": {}},
        POINTS[1]["name"]: {"state": "failed", "reason": "took longer than 10 s", "failures": {"2": "out of memory"}},
        "control-1": {"state": "running"},
    }
    (folder / "ledger").mkdir()
    for name, entry in entries.items():
        (folder / "ledger" / f"{name}.json").write_text(json.dumps({"name": name, **entry}))
    return folder


def failures(results: StudyResults) -> list[tuple[Any, ...]]:
    return [tuple(None if value != value else value for value in row) for row in results.failures.fillna(-1).to_numpy()]


@pytest.mark.parametrize("name", ["s", "s.gkd"])
def test_a_study_is_read_from_its_folder_or_the_one_beside_it(study: Path, name: str) -> None:
    results = read_study(study.parent / name)
    assert (results.name, results.kind, results.folder) == ("s", "grid", study)
    assert results.dimensions == DIMENSIONS and results.meta["format"] == 1
    assert (results.metric, results.better) == ("accuracy", True)
    points = results.points.set_index("name")
    assert points["state"].tolist() == ["done", "failed", "running", "pending"]
    assert points["reason"].tolist() == [None, "took longer than 10 s", None, None]
    assert points["role"].tolist() == ["point", "point", "control", "control"]
    assert points["control"].tolist() == ["control-1", "control-2", None, None]
    assert points["width"].dtype == "int64" and points["width"].tolist() == [8, 16, 8, 16]
    assert points["preset"].tolist() == ["lsp", "lsp", "supervised", "supervised"]
    assert points.loc["control-1", "folder"] == str(study / "controls" / "control-1")
    mean = results.scores[results.scores["answer"] == "mean"]
    assert list(zip(mean["name"], mean["seed"], mean["val"], mean["test"], strict=True)) == [
        (POINTS[0]["name"], 1, 0.5, 0.4),
        (POINTS[0]["name"], 2, 0.6, 0.5),
        (POINTS[1]["name"], 1, 0.7, 0.6),
        ("control-1", 1, 0.4, 0.3),
        ("control-1", 2, 0.4, 0.2),
    ]
    assert failures(results) == [(POINTS[1]["name"], 2, "out of memory")]


@pytest.mark.parametrize(("state", "failed"), [("running", False), ("pending", False), ("interrupted", True)])
def test_seeds_that_are_being_trained_are_no_failures(study: Path, state: str, failed: bool) -> None:
    (study / "controls" / "control-1" / "2" / "train").mkdir(parents=True)
    (study / "ledger" / "control-1.json").write_text(json.dumps({"name": "control-1", "state": state}))
    assert [name for name, _, _ in failures(read_study(study))][1:] == ["control-1"] * failed


def test_types_do_not_depend_on_what_was_found(study: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "empty", POINTS, DIMENSIONS)
    empty, full = read_study(tmp_path / "empty"), read_study(study)
    for frame in ("points", "scores", "failures"):
        assert getattr(empty, frame).dtypes.to_dict() == getattr(full, frame).dtypes.to_dict()
    assert len(empty.scores) == 0 and set(empty.points["state"]) == {"pending"}
    assert (empty.metric, empty.better) == ("", True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"points": 3}',
        '{"points": [{"name": 1}]}',
        '{"points": [{"name": "../x", "folder": "a"}]}',
        '{"dimensions": []}',
        '{"format": 2, "points": []}',
        '{"points": []}',
        *(
            json.dumps({"format": 1, "points": [{"name": name, "folder": folder}]})
            for name, folder in (
                ("a", "../../../etc"),
                ("a", "/etc"),
                ("a", "../other/a"),
                ("a", "../s"),
                ("a", "controls/../../other/a"),
                ("a/b", "../s/a"),
                ("..", "../s/a"),
                ("", "../s/a"),
            )
        ),
    ],
)
def test_a_damaged_study_file_is_said_and_the_runs_are_read(study: Path, text: str) -> None:
    (study / "study.json").write_text(text)
    results = read_study(study)
    assert results.kind == "runs" and results.meta == {} and results.folder == study
    assert results.points["name"].tolist() == sorted(point["name"] for point in POINTS[:2])
    assert results.points["width"].tolist() == [16, 8]  # from the names
    ((name, seed, why),) = failures(results)
    assert name == -1 and seed == -1 and f"{study / 'study.json'} is damaged" in why
    assert "Error" not in why
    shutil.rmtree(study.parent / "s")
    with pytest.raises(UserError, match="study.json is damaged"):
        read_study(study)


def change_result(run: Path) -> None:
    path = run / "1" / "result.json"
    values = json.loads(path.read_text())
    values["answers"]["best"]["test"] = 0.99
    path.write_text(json.dumps(values))


LOST: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "the folder": (shutil.rmtree, "missing", "is gone"),
    "a seed": (lambda run: shutil.rmtree(run / "1"), "missing", "has 2 of 3 seeds"),
    "a result": (
        lambda run: ((run / "1" / "result.json").unlink(), (run / "plan.yaml").write_text("")),
        "missing",
        "is not finished",
    ),
    "half a result": (lambda run: (run / "1" / "result.json").write_text('{"seed": 2'), "damaged", "incomplete JSON"),
    "a changed result": (change_result, "damaged", "its test score is 0.99"),
    "rows": (lambda run: (run / "1" / "val" / "stats.json").write_text(""), "damaged", "0 bytes"),
    "a changed test": (
        lambda run: (run / "1" / "test" / "stats.json").write_text('{"epoch": 3, "accuracy": 0.9}'),
        "damaged",
        "test/stats.json is damaged",
    ),
}


@pytest.mark.parametrize("lost", LOST)
def test_what_was_done_and_is_no_more_is_said(tmp_path: Path, lost: str) -> None:
    tests = [0.5, 0.51, 0.52]
    points: dict[str, Any] = {"whole": ({"a": 1}, None, tests), "kd": ({"a": 2}, "whole", tests)}
    home = made_studies.write_study(tmp_path, points)
    assert read_study(home).points["state"].tolist() == ["done", "done"]
    lose, state, reason = LOST[lost]
    lose(tmp_path / "made" / "kd")
    results = read_study(home)
    assert results.points["state"].tolist() == ["done", state]
    ((name, _, why),) = failures(results)
    assert name == "kd" and reason in why and "Error" not in why
    verdict = write_verdict(results, tables.compare(results), tables.select(results))
    (said,) = [sentence for sentence in verdict.sentences if "missing" in sentence]
    assert said.startswith("1 of 2 runs is damaged or missing (kd)")
    shown = read_status(home)
    assert shown.counts["done"] == 1 and shown.counts[state] == 1
    assert f"1 done, 1 {state}" in str(shown) and "".join(reason.split()) in "".join(str(shown).split())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"failures": 3}', '{"state": []}'])
def test_a_damaged_entry_of_the_ledger_is_said_and_the_run_is_read(study: Path, text: str) -> None:
    (study / "ledger" / f"{POINTS[0]['name']}.json").write_text(text)
    results = read_study(study)
    assert results.points["state"].tolist() == ["done", "failed", "running", "pending"]  # from the run's folder
    (first, _) = failures(results)
    assert first[0] == POINTS[0]["name"] and "cannot be read" in first[2]


def test_dimensions_never_take_the_name_of_a_column_of_ours(tmp_path: Path) -> None:
    dimensions = {"students": "kd.students", "p": "gnn.dropout", "width": "gnn.dim_inner"}
    write_study(tmp_path / "s", [{"name": "a", "choices": {"students": 2, "p": 0.5, "width": 8}}], dimensions)
    results = read_study(tmp_path / "s")
    assert results.dimensions == {"kd.students": "kd.students", "gnn.dropout": "gnn.dropout", "width": "gnn.dim_inner"}
    assert results.points[list(results.dimensions)].to_numpy().tolist() == [[2, 0.5, 8]]
    ours = {*tables.SUMMARY, *tables.COMPARISON, *tables.PARETO, *SCORE_COLUMNS} - {"dimensions"}
    assert ours <= RESERVED
    assert effects.rank(results).empty


@pytest.mark.usefixtures("work_folder")
def test_runs_of_gkd_with_controls_and_a_teacher(tmp_path: Path) -> None:
    running.teach(tmp_path, repeat=2)
    report = run(running.student(tmp_path), repeat=2, quiet=True, control=True)
    (tmp_path / "results" / ".narrow.lock").write_text("")
    (tmp_path / "results" / "wide.20260101-000000").mkdir()
    results = read_study("results")
    roles = dict(zip(results.points["name"], results.points["role"], strict=True))
    assert roles == {"narrow": "point", "narrow-control": "control", "wide": "teacher"}
    assert results.points["control"].tolist() == ["narrow-control", None, None]
    scores = results.scores.set_index(["name", "answer", "seed"])
    assert report.control is not None
    for name, expected in (("narrow", report), ("narrow-control", report.control)):
        for result in expected.results:
            for answer, score in result.answers.items():
                row = scores.loc[(name, answer, result.seed)]
                assert (row["epoch"], row["val"], row["test"]) == (score.epoch, score.val, score.test)
            assert row["teacher_test"] == result.teacher.get("test") or not result.teacher
    assert set(scores.loc["narrow"]["teacher"]) == {"wide"}

    one = read_study("results/narrow")
    assert (one.kind, one.name, len(one.points)) == ("run", "narrow", 1)
    assert one.scores["test"].tolist() == scores.loc["narrow"]["test"].tolist()


@pytest.mark.usefixtures("work_folder")
def test_names_without_choices_leave_the_configurations(tmp_path: Path) -> None:
    for name, width in (("small", 4), ("large", 8)):
        run(toy.config(tmp_path, name, gnn={"dim_inner": width}, optim={"max_epoch": 1}), quiet=True)
    results = read_study("results")
    assert results.dimensions == {"gnn.dim_inner": "gnn.dim_inner"}
    assert results.points.set_index("name")["gnn.dim_inner"].to_dict() == {"small": 4, "large": 8}


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("gone", "gone is not a folder"),
        ("file", "file is not a folder"),
        ("empty", "empty contains no runs. Name"),
        (".", "contains no runs. Folders of runs in it: runs. Name"),
        ("runs/a/0", "is the folder of one seed. Name the folder of its run: {}/runs/a"),
    ],
)
def test_folders_without_runs(tmp_path: Path, folder: str, message: str) -> None:
    write_run(tmp_path / "runs" / "a", {1: (0.5, 0.5)})
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError) as caught:
        read_study(tmp_path / folder)
    assert message.format(tmp_path) in str(caught.value)


def test_without_pandas_there_is_one_message(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"package pandas: pip install 'gkd_plugin\[study\]'"):
        read_study(study)
