"""Tables as files."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from gkd_plugin.study import table_files
from gkd_plugin.study.records import read_study
from gkd_plugin.study.table_files import find_output, make_tables, write_tables
from gkd_plugin.training.disk import DiskFailed
from tests.study.folders import write_run, write_study


def make_study(tmp_path: Path) -> Path:
    points = [{"name": f"p-width={width}", "choices": {"width": width}, "control": "c"} for width in (8, 16)]
    folder = write_study(tmp_path / "s", [*points, {"name": "c", "role": "control"}], {"width": "gnn.dim_inner"})
    scores = {1: (0.1234567890123456, 0.7), 2: (0.3, 0.1 + 0.2)}
    for width in (8, 16):
        write_run(tmp_path / "s" / f"p-width={width}", scores, size=width)
    write_run(folder / "controls" / "c", {1: (0.1, 0.2)})
    return folder


def test_files_hold_the_frames_digit_for_digit(tmp_path: Path) -> None:
    folder = make_study(tmp_path)
    results = read_study(folder)
    assert write_tables(results) == folder / "tables"
    made = make_tables(results)
    written = {name for name, table in made.items() if len(table)}
    assert written == set(made) - {"failures", "placebos", "interactions"}
    assert {path.name for path in (folder / "tables").iterdir()} == {
        f"{n}.{s}" for n in written for s in ("csv", "parquet")
    }
    for name in written:
        parquet = pd.read_parquet(folder / "tables" / f"{name}.parquet")
        assert parquet.columns.tolist() == made[name].columns.tolist()
        rows = list(csv.DictReader((folder / "tables" / f"{name}.csv").open()))
        assert len(rows) == len(parquet) and list(rows[0]) == parquet.columns.tolist()
        for column in parquet.columns.intersection(["val", "test", "difference", "mean_rank"]):
            expected = pytest.approx(made[name][column].tolist(), rel=0, abs=0, nan_ok=True)
            assert parquet[column].tolist() == expected
            assert [float(row[column] or "nan") for row in rows] == expected
    points = pd.read_csv(folder / "tables" / "points.csv")
    assert points["folder"].tolist() == ["../s/p-width=8", "../s/p-width=16", "controls/c"]  # no path of this machine


def test_tables_that_are_empty_now_do_not_stay(tmp_path: Path) -> None:
    folder = make_study(tmp_path)
    write_tables(read_study(folder))
    write_study(tmp_path / "s", [{"name": "p-width=8"}])
    write_tables(read_study(folder))
    assert not (folder / "tables" / "comparison.csv").exists() and (folder / "tables" / "runs.csv").exists()
    assert not list((folder / "tables").glob("*.part"))


def test_without_pyarrow_there_is_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "find_spec", lambda name: None)
    folder = write_tables(read_study(make_study(tmp_path)))
    assert {path.suffix for path in folder.iterdir()} == {".csv"}


def test_nothing_of_ours_lies_in_a_folder_of_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", {1: (0.5, 0.5)})
    assert find_output(read_study(tmp_path / "runs")) == tmp_path / "runs.gkd"
    assert find_output(read_study(tmp_path / "runs" / "a")) == tmp_path / "runs" / "a"
    assert write_tables(read_study(tmp_path / "runs")) == tmp_path / "runs.gkd" / "tables"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]


def test_a_file_in_the_way_is_one_message(tmp_path: Path) -> None:
    folder = make_study(tmp_path)
    (folder / "tables").write_text("")
    with pytest.raises(DiskFailed, match="tables: File exists"):
        write_tables(read_study(folder))
