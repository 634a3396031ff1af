"""What is said of the data before a run begins, through both doors, and kept in its result."""

from __future__ import annotations

from pathlib import Path

import pytest

from gkd_plugin.commands.run import run
from gkd_plugin.printing import noting
from gkd_plugin.study.job import Job, execute
from gkd_plugin.training.recorders.notes import Notes
from gkd_plugin.training.result import read_result
from tests import toy

SAID = "16 nodes are in both the train and the test split (all of both)"


def test_a_note_is_said_once_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with noting() as notes:
        assert list(Notes(["one", "two", "one"]).warnings()) == ["one", "two", "one"]
    assert notes == ["one", "two"] and capsys.readouterr().err == ""


def test_shared_nodes_are_said_before_training_and_once(work_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(toy.values(dataset={"name": "leaky"}), repeat=2, name="a")
    lines = capsys.readouterr().err.splitlines()
    said = [number for number, line in enumerate(lines) if SAID in line]
    assert len(said) == 1 and not any("epochs" in line for line in lines[: said[0]])
    kept = read_result(report.folder / "1")
    assert kept is not None and SAID in kept.warnings[0]


def test_a_quiet_run_prints_nothing_and_a_study_notes_it(work_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(toy.values(dataset={"name": "leaky"}), name="b", quiet=True)
    values = toy.values(Path("elsewhere"), dataset={"name": "leaky"})
    ended = execute(Job("a", values, None, "grid", 1, str(work_folder), "ledger", "s1"))
    assert capsys.readouterr().err == ""
    assert len(ended.notes) == 1 and SAID in ended.notes[0]
