from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gkd_plugin.data import lock
from gkd_plugin.data.lock import hold_data

HOLD = """
import sys, time
from pathlib import Path
from gkd_plugin.data.lock import hold_data
with hold_data(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
    Path(sys.argv[2]).write_text("first")
"""
LOAD = """
import sys
from gkd_plugin.host import cfg
from gkd_plugin.data.load import load
cfg.dataset.format, cfg.dataset.name, cfg.dataset.dir, cfg.dataset.task = "PyG", "Cora", sys.argv[1], "node"
print("ready", flush=True)
sys.stdin.readline()
print(load(cfg)[0].dataset[0].num_nodes)
"""


def start(program: str, *words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def let_go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_second_process_waits_until_the_first_has_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    folder, mark = tmp_path / "Cora", tmp_path / "mark"
    with start(HOLD, folder, mark) as other:
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(lock, "print", lambda *words, **more: (print(*words, **more), let_go(other)), raising=False)
        with hold_data(folder):
            assert mark.read_text() == "first"
    assert f"waiting for another process that prepares the data set in {folder}" in capsys.readouterr().err


def test_processes_that_prepare_one_data_set_at_once_all_read_it(data_sets, tmp_path):
    shutil.copytree(data_sets("Cora") / "Cora", tmp_path / "Cora", ignore=shutil.ignore_patterns("processed"))
    started = [start(LOAD, tmp_path) for _ in range(3)]
    assert [each.stdout.readline() for each in started] == ["ready\n"] * 3
    for each in started:
        let_go(each)
    assert [each.communicate()[0].strip().splitlines()[-1] for each in started] == ["2708"] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["Cora"]


def test_the_same_process_may_take_it_again(tmp_path):
    with hold_data(tmp_path / "a" / "Cora"):
        with hold_data(tmp_path / "a" / "Cora"):
            assert (tmp_path / "a" / ".Cora.lock").exists()
        assert (tmp_path / "a" / ".Cora.lock").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["/proc/nowhere/Cora", "{}/file/Cora"])
def test_a_place_that_cannot_be_written_has_no_lock(name, tmp_path):
    (tmp_path / "file").touch()
    with hold_data(Path(name.format(tmp_path))) as nothing:
        assert nothing is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_was_written_in_a_new_folder_stays(tmp_path):
    with hold_data(tmp_path / "new" / "Cora"):
        (tmp_path / "new" / "Cora").mkdir()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["Cora"]
