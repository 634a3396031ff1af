"""What is read from the files of a run, against rows written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gkd_plugin.study.report import run_series


def write_rows(path: Path, rows: list[dict[str, Any]], end: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end)


def test_validation_is_the_mean_over_seeds_with_its_range(tmp_path: Path) -> None:
    write_rows(tmp_path / "0" / "val" / "stats.json", [{"epoch": 0, "accuracy": 0.2}, {"epoch": 1, "accuracy": 0.4}])
    write_rows(tmp_path / "1" / "val" / "stats.json", [{"epoch": 0, "accuracy": 0.4}], end='{"epoch": 1, "accu')
    series = run_series.read_validation(tmp_path, "accuracy")
    assert series is not None
    assert (series.epochs, series.low, series.high, series.seeds) == ([0, 1], [0.2, 0.4], [0.4, 0.4], 2)
    assert series.mean == pytest.approx([0.3, 0.4])


def test_the_mean_over_students_is_preferred(tmp_path: Path) -> None:
    write_rows(tmp_path / "0" / "val" / "stats.json", [{"epoch": 0, "accuracy": 0.9, "mean_accuracy": 0.5}])
    series = run_series.read_validation(tmp_path, "accuracy")
    assert series is not None and series.mean == [0.5]


def test_terms_are_kept_by_student(tmp_path: Path) -> None:
    row = {"epoch": 0, "loss": 9.0, "s1_loss": 1.0, "s1_kd_feature": 0.5, "s2_kd_feature": 0.7, "s1_accuracy": 0.1}
    write_rows(tmp_path / "0" / "train" / "stats.json", [row])
    terms = run_series.read_terms(tmp_path)
    assert {term: {number: series.mean for number, series in by.items()} for term, by in terms.items()} == {
        "loss": {1: [1.0]},
        "kd_feature": {1: [0.5], 2: [0.7]},
    }


def test_shares_are_means_over_students_and_seeds(tmp_path: Path) -> None:
    for seed, share in ((0, 0.2), (1, 0.6)):
        rows = [
            {"epoch": 0, "student": 1, "task_share": share, "cosine": 1.0, "task_norm": 3.0},
            {"epoch": 0, "student": 2, "task_share": share + 0.2, "kd_feature_share": None},
        ]
        write_rows(tmp_path / str(seed) / "diagnostics.json", rows)
    shares = run_series.read_shares(tmp_path)
    assert list(shares) == ["task"] and shares["task"].mean == pytest.approx([0.5])


def test_maps_are_the_last_of_each_seed(tmp_path: Path) -> None:
    row = {"student": 1, "map": "attention", "source": "teacher"}
    write_rows(
        tmp_path / "0" / "attention.json",
        [{**row, "epoch": 0, "weights": [[9.0, 9.0]]}, {**row, "epoch": 5, "weights": [[0.2, 0.4]]}],
    )
    damaged = [{**row, "epoch": 6, "weights": "x"}, {**row, "epoch": 6, "weights": [[1.0], [1.0, 2.0]]}]
    write_rows(tmp_path / "1" / "attention.json", [{**row, "epoch": 5, "weights": [[0.4, 0.0]]}, *damaged])
    (found,) = run_series.read_maps(tmp_path)
    assert run_series.has_maps(tmp_path)
    assert (found.student, found.source, found.epoch, found.seeds) == (1, "teacher", 5, 2)
    assert found.weights == pytest.approx(np.array([[0.3, 0.2]]))


def test_smoothing_is_of_the_last_row_over_students(tmp_path: Path) -> None:
    rows = [
        {"epoch": 0, "s1_layer1_mad": 9.0},
        {"epoch": 1, "s1_layer1_mad": 0.2, "s2_layer1_mad": 0.4, "s1_layer10_mad": 0.1},
    ]
    write_rows(tmp_path / "0" / "val" / "stats.json", rows)
    assert run_series.read_smoothing(tmp_path) == pytest.approx({1: 0.3, 10: 0.1})
    (tmp_path / "0" / "val" / "stats.json").write_text('{"epoch": 1, "s1_lay')
    assert run_series.read_smoothing(tmp_path) == {}


def test_a_run_without_files_has_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert run_series.read_validation(folder, "accuracy") is None
        assert not run_series.read_terms(folder) and not run_series.read_shares(folder)
        assert not run_series.read_maps(folder) and not run_series.read_smoothing(folder)
