"""The host's own aggregation over runs of ours."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gkd_plugin.commands.run import run
from gkd_plugin.host import cfg
from gkd_plugin.study.host_tables import write_host_tables
from tests import toy

NAMES = {f"{split}{part}.csv" for split in ("train", "val", "test") for part in ("", "_best", "_bestepoch")}


def make_grid(folder: Path, widths: tuple[int, ...] = (4, 8), name: str = "toy_grid_g") -> Path:
    out_dir = folder / name
    for width in widths:
        values = toy.values(out_dir, gnn={"dim_inner": width}, optim={"max_epoch": 2})
        run(values, name=f"toy-width={width}-act=relu", repeat=2, quiet=True)
    return out_dir


def read(folder: Path) -> dict[str, list[dict[str, str]]]:
    return {path.name: list(csv.DictReader(path.open())) for path in sorted((folder / "agg").iterdir())}


@pytest.mark.usefixtures("work_folder")
def test_our_tables_are_those_of_the_host_s_own_program(tmp_path: Path, host_dir: Path) -> None:
    grid = make_grid(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(grid, copy)
    command = [sys.executable, str(host_dir / "agg_batch.py"), "--dir", str(copy)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    before = dict(cfg)
    assert write_host_tables(grid, "accuracy", True) is None
    assert dict(cfg) == before
    ours, theirs = read(grid), read(copy)
    assert set(theirs) == NAMES and ours == theirs
    assert [row["width"] for row in ours["test_best.csv"]] == ["4", "8"]


@pytest.mark.usefixtures("work_folder")
def test_strays_and_failed_runs_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = make_grid(tmp_path, (4,))
    for stray in ("zz-failed=1", "toy-width=8-act=relu/agg/val", "zz.20260101-000000/agg/train"):
        (grid / stray).mkdir(parents=True)
    (grid / ".zz.lock").write_text("")
    (grid / "agg").mkdir()
    (grid / "agg" / "old.csv").write_text("")
    assert write_host_tables(grid, "accuracy", True) is None
    assert {name: len(rows) for name, rows in read(grid).items()} == dict.fromkeys(NAMES, 1)
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [grid.name]  # the copy is gone


@pytest.mark.usefixtures("work_folder")
def test_what_the_host_cannot_tabulate_is_said_and_its_tables_stay(tmp_path: Path) -> None:
    grid = make_grid(tmp_path, (4,))
    (grid / "agg").mkdir()
    (grid / "agg" / "old.csv").write_text("")
    assert "KeyError: 'mae'" in str(write_host_tables(grid, "mae", False))
    assert (grid / "agg" / "old.csv").exists()
    for folder in (tmp_path / "gone", tmp_path):
        assert "no run has tables" in str(write_host_tables(folder, "accuracy", True))
