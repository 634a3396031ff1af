"""Whatever is broken: exit code 0, 1 (recorded) or 2, a short message, no traceback, no file outside the folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import gkd_cli
from gkd_plugin.commands.run import run
from tests import toy
from tests.fuzz import cases

LONGEST = 20_000  # characters of a message
HOST, OURS = sorted(cases.host_keys()), sorted(cases.our_keys())


@pytest.fixture
def inside(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder beside which nothing may appear."""
    folder = work_folder / "inside"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    assert os.listdir(work_folder) == ["inside"], "a file outside"


def gkd(*words: str) -> Result:
    return CliRunner().invoke(gkd_cli.main, list(words))


def require_clean_end(done: Result, case: Any) -> None:
    """Exit code 0, 1 or 2 and one message."""
    plain = done.exception is None or isinstance(done.exception, SystemExit)
    assert plain, (case, repr(done.exception)[:300], done.exc_info)
    assert done.exit_code in (0, 1, 2), case
    assert "Traceback" not in done.output and len(done.output) < LONGEST, (case, done.output[:300])
    assert done.exit_code == 0 or done.output.strip(), case


def write(values: dict[str, Any], name: str = "broken") -> str:
    Path(f"{name}.yaml").write_text(yaml.safe_dump(values))
    return f"{name}.yaml"


def check_key(name: str, inside: Path) -> None:
    """Half of the values are checked; the first one that is let through is run."""
    ran = False
    for value in cases.choose_values(name):
        file = write(cases.break_key(name, value))
        checked = gkd("check", file)
        require_clean_end(checked, (name, value))
        assert checked.exit_code in (0, 2)
        if checked.exit_code == 0 and not ran:
            ran = True
            done = gkd("run", file, "--name", "fuzz")
            require_clean_end(done, (name, value))
            assert done.exit_code != 1 or list(inside.rglob("failed.json")), (name, value, done.output)


@pytest.mark.parametrize("name", HOST)
def test_keys_of_the_host(name: str, inside: Path) -> None:
    check_key(name, inside)


@pytest.mark.parametrize("name", OURS)
def test_keys_of_ours(name: str, inside: Path) -> None:
    check_key(name, inside)


@pytest.mark.parametrize("what", cases.TEXTS)
def test_files_that_are_no_configuration(what: str, inside: Path) -> None:
    Path("broken.yaml").write_bytes(cases.TEXTS[what])
    done = gkd("check", "broken.yaml")
    require_clean_end(done, what)
    assert done.exit_code == 2


# ------------------------------------------------------------------------------------------------- what runs left behind


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch."""
    from torch_geometric.graphgym import register

    folder = tmp_path_factory.mktemp("trained")
    register.loader_dict["toy"] = toy.load
    try:
        return run(toy.values(folder, optim={"max_epoch": 1}), name="wide", quiet=True).folder
    finally:
        del register.loader_dict["toy"]


FILES = ("config.yaml", "plan.yaml", "0/result.json", "0/student_1.pt", "0/student_1.yaml", "0/val/stats.json")
STUDENT: dict[str, Any] = {
    "optim": {"max_epoch": 1},
    "kd": {"teacher": "wide"},
    "kd_response": {"weight": 1.0, "nodes": "all"},
}


def try_damaged(inside: Path, trained: Path, file: str, content: bytes, case: Any) -> None:
    """A run with a damaged file, continued and as a teacher."""
    shutil.rmtree("results", ignore_errors=True)
    shutil.copytree(trained, "results/wide")
    Path("results/wide", file).write_bytes(content)
    again = write(toy.values(Path("results"), optim={"max_epoch": 1}), "wide")
    student = write(toy.values(Path("results"), **STUDENT), "narrow")
    for words in (["check", student], ["run", student], ["run", again]):
        require_clean_end(gkd(*words), (case, words))


@pytest.mark.parametrize("file", FILES)
def test_damaged_files_of_a_run(file: str, inside: Path, trained: Path) -> None:
    for what, content in cases.damage((trained / file).read_bytes()):
        try_damaged(inside, trained, file, content, (file, what))


@pytest.mark.parametrize("file", [name for name in FILES if not name.endswith((".pt", "stats.json"))])
def test_files_of_a_run_with_other_values(file: str, inside: Path, trained: Path) -> None:
    dump = cases.dump_json if file.endswith("json") else yaml.safe_dump
    for what, content in cases.damage_leaves((trained / file).read_bytes(), dump, count=8, seed=len(file)):
        try_damaged(inside, trained, file, content, (file, what))


@pytest.mark.parametrize("what", cases.teacher_files())
def test_files_that_are_no_teacher(what: str, inside: Path) -> None:
    Path("results").mkdir()
    Path("results", "wide.npz").write_bytes(cases.teacher_files()[what])
    file = write(toy.values(Path("results"), **{**STUDENT, "kd": {"teacher": "wide.npz"}}))
    require_clean_end(gkd("check", file), what)
    done = gkd("run", file)
    require_clean_end(done, what)
    assert done.exit_code == 2, done.output


def test_there_are_five_hundred_cases() -> None:
    assert (len(HOST) + len(OURS)) * len(cases.choose_values("")) + len(cases.TEXTS) > 500
