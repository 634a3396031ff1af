"""What a result records of where it comes from."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import gkd_plugin
from gkd_plugin import hookimpl
from gkd_plugin.space.answers import Schedule
from gkd_plugin.training.provenance import describe_origin, find_commit, find_plugins


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *own, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_of_the_users_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert find_commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert find_commit(tmp_path) is None  # nothing is committed
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "-q", "-m", "a")
    git(tmp_path, "tag", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "inside").mkdir()
    assert find_commit(tmp_path / "inside") == commit
    (tmp_path / "a.txt").write_text("two")
    assert find_commit(tmp_path) == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "")
    assert find_commit(tmp_path) is None


class Plugin:
    @hookimpl
    def gkd_register_schedules(self, register) -> None:  # type: ignore[no-untyped-def]
        register("never", Schedule("never", lambda epoch: 0.0, "not once", "a test"))


def test_date_command_machine_and_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/gkd", "run", "--cfg", "my file.yaml"])
    found = describe_origin()
    assert found["command"] == "gkd run --cfg 'my file.yaml'"
    assert found["host"] == platform.node()
    assert abs((datetime.now().astimezone() - datetime.fromisoformat(found["date"])).total_seconds()) < 60
    assert found["versions"]["python"] == platform.python_version() and "torch" in found["versions"]
    assert "pessimist" not in found["plugins"]
    gkd_plugin.register_plugin(Plugin(), "pessimist")
    assert find_plugins()["pessimist"] == "-"
