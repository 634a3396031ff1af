"""Damaged files of a finished seed are named, and never taken for a result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.commands.run import run
from tests.running import gkd, snapshot
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")


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

    base = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patched:  # of the function's scope is the fixture of the toy's loader
        patched.setitem(register.loader_dict, "toy", toy.load)
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
    assert (
        f"{folder / '0' / name}" in done.output
        and "run the same command again" in done.output
        and "Traceback" not in done.output
    )
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
    put("answers.s1", {"epoch": 1, "val": "high", "test": 1})(tmp_path / "results" / "big" / "0" / "result.json")
    path = config(tmp_path, kd={"teacher": "big"}, kd_response={"weight": 1.0})
    done = gkd("--cfg", str(path))
    assert done.exit_code == 2 and "big/0/result.json is not a result" in done.output


def test_every_file_is_named_with_its_length(finished: Path) -> None:
    seed = finished / "results" / "study" / "0"
    listed = json.loads((seed / "result.json").read_text())["files"]
    rows = {f"{split}/stats.json" for split in ("train", "val", "test")}
    assert listed.keys() == rows | {"student_1.pt", "student_1.yaml"}
    assert all(values["bytes"] == (seed / name).stat().st_size for name, values in listed.items())
