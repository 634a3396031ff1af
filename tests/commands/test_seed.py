"""One seed that fails leaves the others alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.training.run_folder import DATED
from tests.running import OTHER, break_seeds, gkd, stop_in
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")


@pytest.mark.parametrize("error", [RuntimeError("a layer.\nMore"), MemoryError(), KeyError("weight"), RunFailed("nan")])
def test_any_error_ends_its_seed_only(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path)
    begun = break_seeds(monkeypatch, error)
    done = gkd("--cfg", str(path), "--repeat", "3", "--control")
    assert done.exit_code == 1 and begun == [1, 2, 3, 1, 2, 3]
    assert "seed 2 failed" in done.output and "control seed 2 failed" in done.output
    assert "Traceback" not in done.output
    folder = tmp_path / "results" / "study"
    kept = json.loads((folder / "1" / "failed.json").read_text())
    assert kept["error"] in done.output
    if isinstance(error, RunFailed):
        assert kept == {"error": "nan"}
    else:
        assert "Traceback" in kept["traceback"] and type(error).__name__ in kept["error"]
        assert "running.py, line" in kept["error"] and "\n" not in kept["error"]
    assert json.loads((folder / "comparison.json").read_text())["seeds"] == [1, 3]


@pytest.mark.parametrize("error", [UserError("no such loss"), KeyboardInterrupt()])
def test_mistakes_and_the_user_stop_all(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = break_seeds(monkeypatch, error)
    with pytest.raises(type(error)):
        run(config(tmp_path), repeat=3, control=True, quiet=True)
    assert begun == [1, 2]
    assert sorted(path.name for path in (tmp_path / "results" / "study").iterdir()) == ["0", "config.yaml", "plan.yaml"]


def test_rows_of_an_earlier_failure_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path, train={"enable_ckpt": False})
    folder = tmp_path / "results" / "study" / "0"
    found = []
    for epoch in (3, 2):
        with monkeypatch.context() as patch:
            stop_in(epoch, patch, RuntimeError("a layer"))
            with pytest.raises(RunFailed):
                run(path, quiet=True)
        found.append((folder / "failed" / "val" / "stats.json").read_text())
    assert [text.count("\n") for text in found] == [3, 2]
    (dated,) = [each for each in folder.iterdir() if DATED.fullmatch(each.name)]
    assert dated.name.startswith("failed.") and (dated / "val" / "stats.json").read_text() == found[0]


def test_a_failure_before_the_first_epoch_leaves_nothing_dated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_seeds(monkeypatch, RuntimeError("a layer"), (1,))
    for _ in range(2):
        with pytest.raises(RunFailed):
            run(config(tmp_path), quiet=True)
    assert not list((tmp_path / "results" / "study" / "0").glob("failed.*-*"))
    with pytest.raises(RunFailed):  # nor does it block the corrected configuration
        run(config(tmp_path), overrides=OTHER, quiet=True)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_a_seed_that_starts_again_says_so(
    checkpoints: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, train={"enable_ckpt": checkpoints, "ckpt_period": 1})
    with monkeypatch.context() as patch:
        stop_in(2, patch)
        done = gkd("--cfg", str(path))
    assert done.exit_code == 130 and "started again" not in done.stderr
    told = "with what was kept" if checkpoints else ", but seed 1 of study starts again: nothing of it was kept yet"
    assert "interrupted; the same command continues" in done.stderr and told in done.stderr
    capsys.readouterr()
    run(path)
    assert ("0: started again, nothing was kept yet" in capsys.readouterr().err) == (not checkpoints)


def test_what_a_seed_wrote_before_it_starts_again_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(config(tmp_path, name="teacher.yaml"), name="teacher", quiet=True)
    groups = {"kd": {"preset": "abkd", "teacher": "teacher"}, "train": {"enable_ckpt": False}}
    path = config(tmp_path, **groups)
    with monkeypatch.context() as patch:
        stop_in(3, patch)
        assert gkd("--cfg", str(path)).exit_code == 130
    run(path, quiet=True)
    run(path, name="whole", quiet=True)
    kept, whole = (tmp_path / "results" / name / "0" / "attention.json" for name in ("study", "whole"))
    epochs = [json.loads(line)["epoch"] for line in whole.read_text().splitlines()]
    assert epochs == sorted(epochs) and len(epochs) > 2
    assert [json.loads(line)["epoch"] for line in kept.read_text().splitlines()] == epochs


def test_a_student_is_loaded_by_its_number_and_from_whole_files(tmp_path: Path) -> None:
    folder = run(config(tmp_path, kd={"preset": "mutual"}), quiet=True).folder / "0"
    with pytest.raises(UserError, match="has no student 0; it has: 1"):
        load_student(folder, 0)
    path = folder / "student_1.pt"
    for text, found in ((path.read_bytes()[:100], "is not a tensor file"), (b"", "is not a tensor file")):
        path.write_bytes(text)
        with pytest.raises(UserError, match=f"0: .*student_1.pt {found}"):
            load_student(folder, 1)
