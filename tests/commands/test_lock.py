"""One process at a time works in a run's folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gkd_plugin.commands.lock import hold_lock, is_held
from gkd_plugin.commands.run import run
from gkd_plugin.training.trainer import Trainer
from tests.running import gkd, snapshot
from tests.toy import config

pytestmark = pytest.mark.usefixtures("toy_data")


ROOT = Path(__file__).resolve().parents[2]


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


def test_whoever_only_asks_keeps_nobody_out(tmp_path: Path) -> None:
    folder, ended = tmp_path / "results" / "study", threading.Event()

    def ask() -> None:
        while not ended.is_set():
            is_held(folder)

    asking, taken = threading.Thread(target=ask), 0
    asking.start()
    try:
        for _ in range(100):
            with hold_lock(folder):
                taken += 1
    finally:
        ended.set()
        asking.join()
    assert taken == 100
