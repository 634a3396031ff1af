"""What keeps a run's folder whole: one process at a time, nothing lost, nothing damaged taken for a result."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from filelock import FileLock

import gkd_cli
from gkd_plugin.commands.lock import hold_lock
from gkd_plugin.commands.run import run
from gkd_plugin.errors import RunFailed, UserError
from gkd_plugin.training.recorders.gradients import Diagnostics
from gkd_plugin.training.recorders.learned_maps import LearnedMaps
from gkd_plugin.training.trainer import Trainer
from tests.toy import config, toy_data  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("toy_data")

ROOT = Path(__file__).resolve().parents[2]
OTHER = ["optim.base_lr", "0.1"]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def gkd(*words: str) -> Any:
    return CliRunner().invoke(gkd_cli.main, ["run", *words])


def break_seeds(patch: pytest.MonkeyPatch, error: BaseException, seeds: tuple[int, ...] = (2,)) -> list[int]:
    """These seeds end with an error before anything is trained; the seeds that begin, in order."""
    begun: list[int] = []
    plain = Trainer.run

    def breaking(self: Trainer, seed: int) -> Any:
        begun.append(seed)
        if seed in seeds:
            raise error
        return plain(self, seed)

    patch.setattr(Trainer, "run", breaking)
    return begun


def stop_in(epoch: int, patch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Runs end with an error before this epoch is evaluated."""
    plain = Trainer._evaluate

    def stopping(self: Trainer, now: int, *rest: Any) -> None:
        if now == epoch:
            raise error
        plain(self, now, *rest)

    patch.setattr(Trainer, "_evaluate", stopping)


# -- one process at a time ----------------------------------------------------------------------------------------------


HOLDER = """
import sys, time
from pathlib import Path
from gkd_plugin.commands.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("held", "words"),
    [("study", []), ("study", ["--control"]), ("study-control", ["--control"]), ("study", ["--fresh"])],
)
def test_a_second_process_is_refused_and_writes_nothing(held: str, words: list[str], tmp_path: Path) -> None:
    path, folder = config(tmp_path), tmp_path / "results" / held
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    before = snapshot(tmp_path)
    done = gkd("--cfg", str(path), *words)
    assert done.exit_code == 2
    assert re.search(
        rf"{held}: another process is writing into it \(process {other.pid} on .+, since 20..-", done.output
    )
    assert "--name" in done.output and snapshot(tmp_path) == before
    other.kill()  # the lock of a process that was killed is free at once
    other.wait()
    assert len(run(path, quiet=True).results) == 1


def test_a_lock_leaves_nothing_behind_and_may_be_taken_again(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "study"
    with hold_lock(folder):
        with hold_lock(folder, wait=True):
            assert not folder.exists()  # an empty folder stays empty, and one that is not there stays away
        assert sorted(path.name for path in folder.parent.iterdir()) == [".study.lock", ".study.lock.json"]
        with pytest.raises(Exception, match="could not be acquired"):
            FileLock(folder.parent / ".study.lock").acquire(blocking=False)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_locks_runs_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any, **__: Any) -> None:
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(FileLock, "acquire", unsupported)
    assert len(run(config(tmp_path), quiet=True).results) == 1


def test_nobody_else_writes_while_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    plain = Trainer.run

    def watched(self: Trainer, seed: int) -> Any:
        seen.append(sorted(path.name for path in (tmp_path / "results").iterdir() if path.suffix == ".lock"))
        return plain(self, seed)

    monkeypatch.setattr(Trainer, "run", watched)
    run(config(tmp_path), control=True, quiet=True)
    assert seen == [[".study-control.lock", ".study.lock"]] * 2
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["study", "study-control"]


# -- a run that never began holds no place ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("a layer"), MemoryError(), RunFailed("no"), KeyboardInterrupt()])
def test_a_crash_before_the_first_epoch_holds_no_place(error: BaseException, tmp_path: Path) -> None:
    path = config(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        break_seeds(patch, error, (1,))
        with pytest.raises((RunFailed, KeyboardInterrupt)):
            run(path, quiet=True)
    mended = run(path, overrides=OTHER, quiet=True)
    assert len(mended.results) == 1
    assert yaml.safe_load((mended.folder / "config.yaml").read_text())["optim"]["base_lr"] == 0.1


def test_a_crash_after_the_first_epoch_holds_its_place(tmp_path: Path) -> None:
    path = config(tmp_path, train={"ckpt_period": 1})
    with pytest.MonkeyPatch.context() as patch:
        stop_in(1, patch, RuntimeError("a layer"))
        with pytest.raises(RunFailed, match="a layer"):
            run(path, quiet=True)
    with pytest.raises(UserError, match=r"another configuration.*--fresh"):
        run(path, overrides=OTHER, quiet=True)


@pytest.mark.parametrize(
    "left",
    [
        ["plan.yaml.part"],
        ["plan.yaml", "config.yaml.part"],
        ["plan.yaml", "config.yaml", "0/ckpt/epoch=0.pt.part"],
        ["plan.yaml", "config.yaml", "0/diagnostics.json", "0/failed.json"],
    ],
)
def test_leftovers_of_a_process_that_was_killed_are_no_content(left: list[str], tmp_path: Path) -> None:
    path, folder = config(tmp_path), tmp_path / "results" / "study"
    run(path, quiet=True)
    claims = {name: (folder / name).read_text() for name in ("plan.yaml", "config.yaml")}
    shutil.rmtree(folder)
    for name in left:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(claims.get(name, claims.get(name.removesuffix(".part"), "op")[:2]))
    report = run(path, overrides=OTHER, quiet=True)
    assert len(report.results) == 1 and not list(folder.rglob("*.part"))


FOREIGN = [
    "movie.mp4.part",
    "mine/0.part",
    "config.yaml",
    "config.yaml+plan.yaml",
    "config.yaml.part",
    "cohort.yaml",
    "plan.yaml",
    "diagnostics.json",
    "0/attention.json",
    "0/failed.json",
    "0/ckpt/epoch=3.pt.part",
    "0/train/events.out.tfevents.1",
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_files_of_others_are_no_leftovers(foreign: str, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "study"
    for name in foreign.split("+"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("kd: {mine: 1}\n")
    before = snapshot(folder)
    with pytest.raises(UserError, match="contains no run of gkd_plugin"):
        run(config(tmp_path), quiet=True)
    assert snapshot(folder) == before and before


def test_empty_folders_and_links_of_others_are_left_alone(tmp_path: Path) -> None:
    folder, mine = tmp_path / "results" / "study", tmp_path / "mine"
    (folder / "figures").mkdir(parents=True)
    with pytest.raises(UserError, match="contains no run of gkd_plugin"):
        run(config(tmp_path), quiet=True)
    (folder / "figures").rmdir()
    mine.mkdir()
    (mine / "failed.json").write_text("mine")
    (folder / "0").symlink_to(mine)
    with pytest.raises(UserError, match="contains no run of gkd_plugin"):
        run(config(tmp_path), quiet=True)
    assert (folder / "0").is_symlink() and snapshot(mine) == {"failed.json": b"mine"}


@pytest.mark.parametrize("foreign", ["notes.txt", "0/notes.txt", "0/ckpt/best.pt.part", "figures", "0/link"])
def test_files_of_others_in_a_run_that_never_began_are_content(foreign: str, tmp_path: Path) -> None:
    path, folder = config(tmp_path), tmp_path / "results" / "study"
    with pytest.MonkeyPatch.context() as patch:
        break_seeds(patch, RuntimeError("a layer"), (1,))
        with pytest.raises(RunFailed):
            run(path, quiet=True)
    (folder / foreign).parent.mkdir(parents=True, exist_ok=True)
    if foreign == "figures":
        (folder / foreign).mkdir()
    elif foreign == "0/link":
        (folder / foreign).symlink_to(path)
    else:
        (folder / foreign).write_text("mine")
    before = sorted(str(path) for path in folder.rglob("*"))
    with pytest.raises(UserError, match="contains a run of another configuration"):
        run(path, overrides=OTHER, quiet=True)
    assert sorted(str(path) for path in folder.rglob("*")) == before
    assert len(run(path, quiet=True).results) == 1  # the same configuration goes on beside them


def test_a_mistake_that_shows_late_removes_nothing(tmp_path: Path) -> None:
    path, folder = config(tmp_path, train={"ckpt_period": 1}), tmp_path / "results" / "study"
    with pytest.MonkeyPatch.context() as patch:
        stop_in(2, patch, UserError("a mistake"))
        with pytest.raises(UserError, match="a mistake"):
            run(path, quiet=True)
    assert {"0/train/stats.json", "0/ckpt/epoch=1.pt", "config.yaml"} <= snapshot(folder).keys()
    assert run(path, quiet=True).results[0].epochs == 4


# -- names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 300, "too long"),
        ("a/" * 3000, "too long"),
        ("afile/x", "afile is a file"),
        ("afile", "afile is a file"),
        ("a\0b", "NUL character"),
        ("../x", "leads out of"),
        ("x/../..", "leads out of"),
        (".", "leads out of"),
        ("/gkd-abs", "leads out of"),
        ("locked", r"\.locked\.lock is a folder"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--control"]])
def test_a_name_that_cannot_be_a_folder_is_one_message(words: list[str], name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "results" / ".locked.lock").mkdir(parents=True)
    (tmp_path / "results" / "afile").write_text("mine")
    path = config(tmp_path)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    done = gkd("--cfg", str(path), "--name", name, *words)
    assert done.exit_code == 2, done.output
    assert re.search(said, done.output) and "Traceback" not in done.output and len(done.output) < 600
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_an_out_dir_that_is_a_file_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    done = gkd("--cfg", str(config(tmp_path)))
    assert done.exit_code == 2 and "results is a file" in done.output


# -- started anew -------------------------------------------------------------------------------------------------------


def test_fresh_keeps_what_was_there_under_a_dated_name(tmp_path: Path) -> None:
    path, results = config(tmp_path), tmp_path / "results"
    run(path, control=True, quiet=True)
    before = {name: snapshot(results / name) for name in ("study", "study-control")}
    for count in (1, 2):  # twice in one second, too
        done = gkd("--cfg", str(path), "--control", "--fresh", *OTHER)
        assert done.exit_code == 0 and "is kept in" in done.output
        for name, content in before.items():
            kept = [p for p in results.iterdir() if re.fullmatch(rf"{name}\.\d{{8}}-\d{{6}}(-\d)?", p.name)]
            assert len(kept) == count and content in [snapshot(folder) for folder in kept]
            new = yaml.safe_load((results / name / "config.yaml").read_text())
            assert new["optim"]["base_lr"] == 0.1


def test_fresh_without_a_run_is_a_plain_run_and_moves_nothing_of_others(tmp_path: Path) -> None:
    path, folder = config(tmp_path), tmp_path / "results" / "study"
    run(path, fresh=True, quiet=True)
    assert [path.name for path in folder.parent.iterdir()] == ["study"]
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="contains no run"):
        run(path, fresh=True, quiet=True)
    assert snapshot(folder) == {"thesis.tex": b"mine"}


# -- damage -------------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def double(path: Path) -> None:
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two seeds, to be copied."""
    from torch_geometric.graphgym import register

    from tests import toy

    register.loader_dict.setdefault("toy", toy.load)
    base = tmp_path_factory.mktemp("finished")
    run(config(base), repeat=2, quiet=True)
    return base


DAMAGES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("train/stats.json", cut, "bytes"),
    ("val/stats.json", lambda path: path.write_text(""), "0 bytes"),
    ("val/stats.json", Path.unlink, "is missing"),
    ("val/stats.json", double, "bytes"),
    ("test/stats.json", folder_instead, "is missing"),
    ("student_1.pt", flip, "not what was written"),
    ("result.json", cut, "damaged"),
    ("result.json", lambda path: path.write_text("{}"), "damaged"),
]


def put(key: str, value: Any) -> Callable[[Path], Any]:
    """Another value under a key of a JSON file, ``a.b`` for one inside; ``None`` takes it out."""

    def change(path: Path) -> None:
        values = json.loads(path.read_text())
        *outer, last = key.split(".")
        inside = values
        for name in outer:
            inside = inside[name]
        if value is None:
            del inside[last]
        else:
            inside[last] = value
        path.write_text(json.dumps(values))

    return change


DAMAGES += [
    ("result.json", put(key, value), "damaged")
    for key, value in [
        ("answers.best", None),
        ("answers.mean", None),
        ("answers.s1.val", "0.5"),
        ("answers", [1]),
        ("answers", {"best": 3}),
        ("predict", "everybody"),
        ("predict", ["best"]),
        ("metric", 3),
        ("better", "yes"),
        ("parameters", {"a": 1}),
        ("parameters", []),
        ("best_student", 7),
        ("epochs", "4"),
        ("seconds", True),
        ("warnings", [3]),
        ("teacher", {"test": "high"}),
        ("agreement", {"best": "all"}),
    ]
]


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGES, ids=[f"{n}-{i}" for i, (n, _, _) in enumerate(DAMAGES)])
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "earlier"])
def test_a_damaged_seed_is_told_and_left_out(
    listed: bool, name: str, damage: Callable[[Path], Any], said: str, finished: Path, tmp_path: Path
) -> None:
    if not listed and name == "student_1.pt":
        pytest.skip("earlier versions have no digest of it")
    shutil.copytree(finished / "results", tmp_path / "results")
    path, folder = config(tmp_path), tmp_path / "results" / "study"
    if not listed:
        for seed in ("0", "1"):
            values = json.loads((folder / seed / "result.json").read_text())
            del values["files"]
            (folder / seed / "result.json").write_text(json.dumps(values))
    damage(folder / "0" / name)
    before = snapshot(folder / "0")
    done = gkd("--cfg", str(path), "--repeat", "3")
    assert done.exit_code == 1, done.output
    assert f"{folder / '0' / name}" in done.output and "--fresh" in done.output and "Traceback" not in done.output
    assert said in done.output or not listed
    assert snapshot(folder / "0") == before
    for split in ("train", "val", "test"):
        table = (folder / "agg" / split / "best.json").read_text()
        scores = [json.loads((folder / seed / "result.json").read_text())["answers"]["best"] for seed in ("1", "2")]
        if split == "test":
            assert json.loads(table)["accuracy"] == pytest.approx(sum(s["test"] for s in scores) / 2, abs=1e-4)
    shutil.rmtree(folder / "0")  # the advice
    assert gkd("--cfg", str(path), "--repeat", "3").exit_code == 0


def test_a_damaged_seed_that_was_not_asked_for_is_told_too(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results", tmp_path / "results")
    cut(tmp_path / "results" / "study" / "1" / "val" / "stats.json")
    done = gkd("--cfg", str(config(tmp_path)))
    assert done.exit_code == 0 and "study/1/val/stats.json is damaged" in done.output


def test_a_damaged_result_is_no_teacher(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results" / "study", tmp_path / "results" / "big")
    put("answers.s1", {"epoch": 1, "val": None, "test": 1})(tmp_path / "results" / "big" / "0" / "result.json")
    path = config(tmp_path, kd={"teacher": "big"}, kd_response={"weight": 1.0})
    done = gkd("--cfg", str(path))
    assert done.exit_code == 2 and "big/0/result.json is not a result" in done.output


def test_a_seed_with_other_rows_is_named_and_left_out_of_the_tables(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results", tmp_path / "results")
    folder = tmp_path / "results" / "study"
    stats = folder / "0" / "val" / "stats.json"
    stats.write_text("".join([*stats.read_text().splitlines(keepends=True)[:2], "\0\0\n"]))
    files = json.loads((folder / "0" / "result.json").read_text())["files"]
    content = stats.read_bytes()
    files["val/stats.json"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    put("files", files)(folder / "0" / "result.json")
    done = gkd("--cfg", str(config(tmp_path)), "--repeat", "2")
    assert done.exit_code == 0, done.output
    assert f"{folder / '0'}: its rows (train 4, val 2)" in done.output and "left out" in done.output
    score = json.loads((folder / "1" / "result.json").read_text())["answers"]["best"]["test"]
    assert json.loads((folder / "agg" / "test" / "best.json").read_text())["accuracy"] == pytest.approx(score, abs=1e-4)


def test_every_file_is_named_with_its_length(finished: Path) -> None:
    seed = finished / "results" / "study" / "0"
    listed = json.loads((seed / "result.json").read_text())["files"]
    rows = {f"{split}/stats.json" for split in ("train", "val", "test")}
    assert listed.keys() == rows | {"student_1.pt", "student_1.yaml"}
    assert all(values["bytes"] == (seed / name).stat().st_size for name, values in listed.items())


# -- one seed fails -----------------------------------------------------------------------------------------------------


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
        assert f"{Path(__file__).name}, line" in kept["error"] and "\n" not in kept["error"]
    assert json.loads((folder / "comparison.json").read_text())["seeds"] == [1, 3]


@pytest.mark.parametrize("error", [UserError("no such loss"), KeyboardInterrupt()])
def test_mistakes_and_the_user_stop_all(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = break_seeds(monkeypatch, error)
    with pytest.raises(type(error)):
        run(config(tmp_path), repeat=3, control=True, quiet=True)
    assert begun == [1, 2]
    assert sorted(path.name for path in (tmp_path / "results" / "study").iterdir()) == ["0", "config.yaml", "plan.yaml"]


# -- records that resume ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "make"), [("diagnostics.json", Diagnostics), ("attention.json", LearnedMaps)])
def test_records_are_cut_beside_and_moved(
    name: str, make: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(json.dumps({"epoch": epoch, "student": 1}) + "\n" for epoch in (0, 20, 40))
    (tmp_path / name).write_text(text)

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            make(tmp_path).resume(21)
    assert snapshot(tmp_path) == {name: text.encode()}
    make(tmp_path).resume(21)
    assert [json.loads(line)["epoch"] for line in (tmp_path / name).read_text().splitlines()] == [0, 20]
