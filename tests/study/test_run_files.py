"""One run's folder: ours, the host's, and what is damaged in either."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gkd_plugin.study.run_files import HOST_NOTE, is_run, read_run
from tests.study.folders import write_host_run, write_run

ROWS = [
    {"epoch": 0, "accuracy": 0.9, "loss": 2.0, "params": 30},  # the untrained network, which the host writes first
    {"epoch": 0, "accuracy": 0.2, "loss": 1.5, "params": 30},
    {"epoch": 1, "accuracy": 0.7, "loss": 1.0, "params": 30},
    {"epoch": 2, "accuracy": 0.7, "loss": 0.9, "params": 30},
]
TEST = {"epoch": 3, "accuracy": 0.65, "loss": 1.1, "params": 30}


def test_numbers_of_ours_are_those_of_the_file(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {1: (0.1234567890123456, 0.7)}, best={1: (0.3, 0.4)}, size=7, teacher={1: 0.9})
    found = read_run(tmp_path / "run")
    assert (found.state, found.failures) == ("done", [])
    rows = {row["answer"]: row for row in found.rows}
    assert (rows["mean"]["epoch"], rows["mean"]["val"], rows["mean"]["test"]) == (4.0, 0.1234567890123456, 0.7)
    assert (rows["best"]["epoch"], rows["best"]["val"], rows["best"]["test"]) == (5.0, 0.3, 0.4)
    sizes = {answer: row["parameters"] for answer, row in rows.items()}
    assert sizes == {"s1": 7, "s2": 7, "mean": 7, "first": 7, "best": 7, "ensemble": 14}
    assert {(row["teacher"], row["teacher_test"], row["note"], row["seed"]) for row in found.rows} == {
        ("wide", 0.9, "", 1)
    }


def test_a_run_of_the_host_is_read_at_the_epoch_that_validation_selects(tmp_path: Path) -> None:
    write_host_run(tmp_path / "run", [ROWS, ROWS[1:]], [TEST, {**TEST, "accuracy": 0.6}])
    found = read_run(tmp_path / "run")
    assert (found.state, found.failures) == ("done", [])
    assert {row["answer"] for row in found.rows} == {"s1", "mean", "first", "best"}
    chosen = [
        (row["seed"], row["metric"], row["better"], row["epoch"], row["val"], row["test"])
        for row in found.rows
        if row["answer"] == "mean"
    ]
    # the trained network's epoch 0, the first of two equal epochs, and the only test there is
    assert chosen == [(1, "accuracy", True, 1.0, 0.7, 0.65), (2, "accuracy", True, 1.0, 0.7, 0.6)]
    assert {row["note"] for row in found.rows} == {HOST_NOTE}
    assert {row["parameters"] for row in found.rows} == {30.0}


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ({"metric_best": "loss", "metric_agg": "argmin"}, ("loss", False, 2.0, 0.9, 1.1)),
        ({"metric_best": "accuracy", "metric_agg": "argmin"}, ("accuracy", False, 0.0, 0.2, 0.65)),
        ({}, ("accuracy", True, 1.0, 0.7, 0.65)),
    ],
)
def test_the_host_s_keys_say_what_selects(tmp_path: Path, keys: dict[str, str], chosen: tuple[object, ...]) -> None:
    write_host_run(tmp_path / "run", [ROWS], [TEST], **keys)
    row = read_run(tmp_path / "run").rows[0]
    assert tuple(row[key] for key in ("metric", "better", "epoch", "val", "test")) == chosen


def test_epochs_without_a_score_are_never_selected(tmp_path: Path) -> None:
    rows = [{"epoch": 0, "accuracy": 0.2}, {"epoch": 1, "accuracy": float("nan")}, {"epoch": 2, "accuracy": "?"}]
    write_host_run(tmp_path / "run", [rows], [{"epoch": 3}])
    (row, *_) = read_run(tmp_path / "run").rows
    assert (row["epoch"], row["val"]) == (0.0, 0.2)
    assert row["test"] != row["test"]  # the test row lacks it


def cut(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "half a result": (lambda run: cut(run / "ours/1/result.json"), "ours", "is damaged"),
    "a result of something else": (lambda run: (run / "ours/1/result.json").write_text("[]"), "ours", "not a result"),
    "a file that is listed and gone": (
        lambda run: (run / "ours/1/result.json").write_text(
            json.dumps({**json.loads((run / "ours/1/result.json").read_text()), "files": {"val/stats.json": {}}})
        ),
        "ours",
        "val/stats.json is missing",
    ),
    "half a row": (lambda run: cut(run / "host/1/val/stats.json"), "host", "1 of 4 rows cannot be read"),
    "half a test row": (lambda run: cut(run / "host/1/test/stats.json"), "host", "1 of 1 rows cannot be read"),
    "no rows": (lambda run: (run / "host/1/val/stats.json").write_text(""), "host", "no rows of validation"),
    "too few epochs": (
        lambda run: (run / "host/1/val/stats.json").write_text('{"epoch": 0, "accuracy": 0.5}\n'),
        "host",
        "not finished: 1 of 3 epochs",
    ),
    "no such column": (
        lambda run: (run / "host/1/val/stats.json").write_text('{"epoch": 2, "accuracy": "high"}\n'),
        "host",
        "no number in its column accuracy",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_said_and_the_other_seeds_are_read(tmp_path: Path, damage: str) -> None:
    write_run(tmp_path / "ours", {1: (0.5, 0.4), 2: (0.6, 0.5)})
    write_host_run(tmp_path / "host", [ROWS, ROWS], [TEST, TEST])
    break_it, name, reason = DAMAGE[damage]
    break_it(tmp_path)
    found = read_run(tmp_path / name)
    assert {row["seed"] for row in found.rows} == {1}
    ((seed, why),) = found.failures + found.unfinished
    assert seed == 2 and reason in why and str(tmp_path) in why


@pytest.mark.parametrize(
    ("files", "state", "failures"),
    [
        ({}, "pending", []),
        ({"failed.json": '{"error": "out of memory"}'}, "failed", [(1, "out of memory")]),
        ({"failed.json": "{"}, "failed", [(1, "failed; {}/0/failed.json cannot be read")]),
        (
            {"ckpt/2.ckpt": "", "val/stats.json": '{"epoch": 0, "accuracy": 1}'},
            "interrupted",
            [(1, "{}/0 is not finished")],
        ),
    ],
)
def test_runs_that_are_not_finished(tmp_path: Path, files: dict[str, str], state: str, failures: list[object]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "plan.yaml").write_text("")
    for name, text in files.items():
        (run / "0" / name).parent.mkdir(parents=True, exist_ok=True)
        (run / "0" / name).write_text(text)
    found = read_run(run)
    assert found.state == state and found.rows == []
    said = found.failures + found.unfinished
    assert [(seed, why.replace(str(run), "{}")) for seed, why in said] == failures
    assert bool(found.unfinished) is (state == "interrupted")
    assert is_run(run) is bool(files)


def test_what_is_no_run(tmp_path: Path) -> None:
    assert read_run(tmp_path / "gone").state == "pending"
    (tmp_path / "2024").mkdir()
    assert not is_run(tmp_path) and not is_run(tmp_path / "gone")
