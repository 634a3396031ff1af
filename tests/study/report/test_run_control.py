"""Which run is the control of another: by what it is, and by its name where that is all there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gkd_plugin
from gkd_plugin.study.report import run_control
from gkd_plugin.study.report.run_control import find_control
from gkd_plugin.study.report.write import write_report
from tests import toy
from tests.study.folders import write_run, write_study

SHORT = {"optim": {"max_epoch": 2}}


def train(folder: Path, name: str, **groups: object) -> Path:
    return gkd_plugin.run(toy.values(folder, **toy.merge(SHORT, groups)), name=name, quiet=True).folder


@pytest.fixture
def runs(work_folder: Path) -> Path:
    """A run that distils, its control under another name, and runs that are not."""
    folder = work_folder / "runs"
    train(folder, "kd", kd={"preset": "oc", "students": 2})
    train(folder, "a_wider", kd={"preset": "supervised", "students": 2}, gnn={"dim_inner": 5})
    train(folder, "one", kd={"preset": "supervised", "students": 1})
    train(folder, "other", kd={"preset": "oc", "students": 2}, kd_structure={"weight": 2})
    train(folder, "plain", kd={"preset": "supervised", "students": 2})
    return folder


def test_a_control_is_found_by_what_it_is(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[list[str]] = []
    match = run_control.match_controls
    monkeypatch.setattr(run_control, "match_controls", lambda near: looked.append(list(near)) or match(near))
    assert find_control(runs / "kd") == find_control(runs / "other") == runs / "plain"
    assert find_control(runs / "plain") is None and find_control(runs / "a_wider") is None
    assert looked[0] == ["kd", "a_wider", "one", "plain"], "what distils is not read"
    verdict = " ".join(write_report(runs / "kd").report.verdict)
    assert "Paired difference to the control: " in verdict


def test_what_is_called_a_control_serves_first_and_where_nothing_else_is_known(runs: Path) -> None:
    (runs / "plain").rename(runs / "kd-control")
    assert find_control(runs / "kd") == runs / "kd-control"
    train(runs, "again", kd={"preset": "supervised", "students": 2})
    assert find_control(runs / "kd") == runs / "kd-control"
    assert find_control(runs / "other") == runs / "again"
    (runs / "kd-control").rename(runs / "other-control")
    (runs / "a_wider").rename(runs / "kd-control")  # it is none
    assert find_control(runs / "kd") == runs / "again"
    (runs / "kd" / "config.yaml").write_text("damaged: [")
    assert find_control(runs / "kd") == runs / "kd-control"


def test_a_study_says_which_it_is(tmp_path: Path) -> None:
    home = tmp_path / "s"
    points = [{"name": "a", "control": "control-1"}, {"name": "b"}, {"name": "control-1", "role": "control"}]
    study = write_study(home, points)
    for folder in (home / "a", home / "b", home / "b-control", home / "a-control", study / "controls" / "control-1"):
        write_run(folder, {1: (0.5, 0.4)})
    assert find_control(home / "a") == study / "controls" / "control-1"
    assert find_control(home / "b") == home / "b-control"
    assert find_control(study / "controls" / "control-1") is None
    for path in (study / "controls" / "control-1").rglob("*.json"):
        path.unlink()
    assert find_control(home / "a") is None
    (study / "study.json").write_text(json.dumps({"format": 1}))
    assert find_control(home / "a") == home / "a-control"


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b"kd: {", b"kd_structure: 3"])
def test_a_damaged_plan_beside_it_does_no_harm(content: bytes, runs: Path) -> None:
    (runs / "one" / "plan.yaml").write_bytes(content)
    assert find_control(runs / "kd") == runs / "plain"
