"""One run of a study: its entry in the ledger says what became of it, and the process stays as it was."""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.graphgym import register

from gkd_plugin.commands.run import run
from gkd_plugin.host import cfg
from gkd_plugin.study import job as job_module
from gkd_plugin.study.job import Job, execute
from gkd_plugin.study.ledger import Entry, Ledger
from gkd_plugin.training.disk import DiskFailed
from tests import toy
from tests.running import break_seeds, stop_in


def make(folder: Path, name: str = "a", repeat: int = 1, **groups: Any) -> Job:
    options = {key: groups.pop(key) for key in ("session", "timeout", "base") if key in groups}
    values = toy.values(Path("elsewhere"), **groups)
    defaults: dict[str, Any] = {"base": None, "session": "s1"}
    return Job(name, values, **{**defaults, **options}, out_dir="grid", repeat=repeat, cwd=str(folder), ledger="ledger")


def entry(job: Job) -> Entry:
    return Ledger(Path(job.cwd, job.ledger)).read(job.name)


def result(job: Job, seed: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.folder / str(seed) / "result.json").read_text())
    return found


def test_a_run_is_what_gkd_run_makes(work_folder: Path) -> None:
    job = make(work_folder, repeat=2)
    ended = execute(job)
    plain = run(toy.values(Path("plain")), repeat=2, name="a", quiet=True)
    assert ended == entry(job) and (ended.state, ended.attempts, ended.failures) == ("done", 1, {})
    assert [result(job, seed)["answers"] for seed in (0, 1)] == [
        json.loads((plain.folder / str(seed) / "result.json").read_text())["answers"] for seed in (0, 1)
    ]
    assert ended.val == sum(each.answers["mean"].val for each in plain.results) / 2
    assert (ended.metric, ended.better) == ("accuracy", True)
    assert not (work_folder / "elsewhere").exists()


def test_a_run_is_marked_as_running_while_it_is(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, seen = make(work_folder), []
    monkeypatch.setattr(job_module, "run", lambda *args, **options: seen.append(entry(job)) or run(*args, **options))
    execute(job)
    assert [(each.state, each.pid, each.session) for each in seen] == [("running", os.getpid(), "s1")]


FAILURES: dict[str, tuple[BaseException, str, bool]] = {
    "a bug": (ZeroDivisionError("nothing\nto divide"), "1 of 1 seeds failed|ZeroDivisionError: nothing", False),
    "a full disk": (DiskFailed("no space"), "no space", False),
    "an exit": (SystemExit(3), "SystemExit: 3", True),
}


@pytest.mark.parametrize(("error", "reason", "traced"), FAILURES.values(), ids=list(FAILURES))
def test_an_error_is_one_line(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, reason: str, traced: bool
) -> None:
    break_seeds(monkeypatch, error, (1,))
    ended = execute(make(work_folder))
    assert ended == entry(make(work_folder)) and ended.state == "failed" and ended.reason is not None
    assert reason.split("|")[-1] in ended.reason and "\n" not in ended.reason
    assert (ended.traceback is not None) == traced


def test_a_mistake_in_the_configuration_is_said(work_folder: Path) -> None:
    ended = execute(make(work_folder, kd={"preset": "mutuel"}))
    assert ended.state == "failed" and ended.traceback is None
    assert ended.reason is not None and "kd.preset" in ended.reason and "\n" not in ended.reason
    assert not (work_folder / "grid").exists()


def test_seeds_that_finished_stay_where_another_failed(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        break_seeds(patch, ZeroDivisionError("nothing"), (2,))
        ended = execute(make(work_folder, repeat=3))
    assert ended.state == "failed" and list(ended.failures) == ["2"]
    assert ended.reason is not None and ended.reason.startswith(
        "1 of 3 seeds failed; seed 2: ZeroDivisionError: nothing"
    )
    assert (
        ended.val
        == (
            result(make(work_folder), 0)["answers"]["mean"]["val"]
            + result(make(work_folder), 2)["answers"]["mean"]["val"]
        )
        / 2
    )
    begun = break_seeds(monkeypatch, ZeroDivisionError("nothing"), ())
    assert execute(make(work_folder, repeat=3, session="s2")).state == "done" and begun == [2]


def test_what_ended_in_this_session_is_not_run_again(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = execute(make(work_folder))
    begun = break_seeds(monkeypatch, ZeroDivisionError(), ())
    assert execute(make(work_folder)) == first and begun == []
    assert execute(make(work_folder, repeat=2, session="s2")).state == "done" and begun == [2]


def test_a_run_whose_worker_died_three_times_has_failed(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make(work_folder)
    died = Entry("a")
    for _ in range(3):
        died = died.begin("s1", job.digest, 1)
    Ledger(work_folder / "ledger").write(died)
    begun = break_seeds(monkeypatch, ZeroDivisionError(), ())
    ended = execute(job)
    assert ended == entry(job) and begun == []
    assert ended.reason == "its worker died 3 times while running it (killed, perhaps out of memory)"
    assert execute(replace(job, session="s2")).state == "done" and begun == [1]


def test_an_interrupted_run_says_so_and_goes_on(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = execute(make(work_folder, "whole"))
    with monkeypatch.context() as patch:
        stop_in(2, patch)
        with pytest.raises(KeyboardInterrupt):
            execute(make(work_folder))
    assert entry(make(work_folder)).state == "interrupted"
    ended = execute(make(work_folder, session="s2"))
    assert ended.state == "done" and ended.val == whole.val


# ------------------------------------------------------------------------------------------------------------ time-outs
def test_a_run_that_takes_too_long_ends_after_an_epoch(work_folder: Path) -> None:
    job = make(work_folder, timeout=1e-9)
    ended = execute(job)
    assert ended == entry(job) and (ended.state, ended.reason) == ("failed", "time-out after 1e-09 s")
    assert execute(make(work_folder, timeout=600.0, session="s2")).state == "done"


ENDLESS = """
import sys, time
from pathlib import Path
from tests import toy
from torch_geometric.graphgym import register
from gkd_plugin.study import job
from tests.study.test_job import make
register.loader_dict["toy"] = lambda *_: time.sleep(600)
job._GRACE = 0.2
job.execute(make(Path(sys.argv[1]), timeout=0.2), expendable=True)
"""


def test_a_run_that_never_ends_takes_its_worker_along(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", ENDLESS, str(tmp_path)], cwd=root, timeout=120)
    ended = entry(make(tmp_path))
    assert done.returncode == 1 and (ended.state, ended.reason) == ("failed", "time-out after 0.2 s")


# ------------------------------------------------------------------------------------------------------- the same process
@pytest.fixture
def untidy(monkeypatch: pytest.MonkeyPatch, toy_data: None) -> None:
    """A user's loader that changes everything it can reach."""

    def load(format: str, name: str, dataset_dir: str) -> Any:
        os.environ["LEFT_BEHIND"] = "1"
        torch.set_default_dtype(torch.float64)
        os.chdir("/")
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
        torch.set_default_dtype(torch.float32)
        cfg.gnn.dim_inner = 99
        return None

    monkeypatch.setitem(register.loader_dict, "aaa", load)


def state() -> list[Any]:
    return [
        dict(os.environ),
        os.getcwd(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
        random.getstate(),
        cfg.dump(),
    ]


@pytest.mark.parametrize("groups", [{}, {"dataset": {"name": "there is none"}}], ids=["done", "failed"])
def test_the_process_stays_as_it_was(work_folder: Path, untidy: None, groups: dict[str, Any]) -> None:
    before = state()
    execute(make(work_folder, num_threads=2, **groups))
    assert state() == before


def test_a_default_dtype_is_put_back(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "run", lambda *args, **options: torch.set_default_dtype(torch.float64))
    assert execute(make(work_folder)).state == "failed"
    assert torch.get_default_dtype() == torch.float32


def test_nothing_grows_from_run_to_run(work_folder: Path) -> None:
    counts = []
    for number in range(8):
        execute(make(work_folder, f"run{number}", optim={"max_epoch": 1}))
        counts.append(sum(isinstance(each, (torch.nn.Module, torch.Tensor)) for each in gc.get_objects()))
    assert counts[2] == counts[-1]


# ------------------------------------------------------------------------------------------------- other processes, disks
def test_a_run_that_another_process_trains_is_waited_for(work_folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from gkd_plugin.commands.lock import hold_lock\n"
        "with hold_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(1)"
    )
    job = make(work_folder)
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", code, str(job.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        ended = execute(job)
        assert (ended.state, ended.reason, ended.traceback) == ("done", None, None)
        assert other.wait() == 0


def test_a_disk_that_refuses_the_entry_is_said(work_folder: Path) -> None:
    (work_folder / "ledger").write_text("a file in its way")
    ended = execute(make(work_folder))
    assert ended.state == "failed" and ended.reason is not None and "ledger" in ended.reason
    assert not (work_folder / "grid").exists()


@pytest.mark.parametrize("name", ["../a", "a/b", ".." + os.sep + "b"])
def test_a_name_that_leads_elsewhere_fails_before_anything_is_written(work_folder: Path, name: str) -> None:
    ended = execute(make(work_folder, name))
    assert ended.state == "failed" and ended.reason is not None and "cannot be the name of a file" in ended.reason
    assert os.listdir(work_folder) == []


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda job: replace(job, out_dir="b", repeat=9, session="x", cwd="/"), True),
        (lambda job: replace(job, values={**job.values, "out_dir": "b"}), True),
        (lambda job: replace(job, values=dict(reversed(job.values.items()))), True),
        (lambda job: replace(job, values={**job.values, "seed": 3}), False),
        (lambda job: replace(job, values={**job.values, "gnn": {**job.values["gnn"], "dim_inner": 9}}), False),
    ],
)
def test_the_digest_is_that_of_the_configuration(tmp_path: Path, change: Callable[[Job], Job], same: bool) -> None:
    job = make(tmp_path)
    assert (change(job).digest == job.digest) == same


def test_a_worker_imports_what_the_command_imported(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (work_folder / "parts_of_mine.py").write_text("from torch_geometric.graphgym import register\n" + MINE)
    values = {"gnn": {"act": "mine_from_a_module"}}
    assert "mine_from_a_module" in str(execute(make(work_folder, "without", **values)).reason)
    try:
        ended = execute(replace(make(work_folder, "with", **values), modules=("parts_of_mine",)))
        assert ended.state == "done", ended.reason
    finally:
        register.act_dict.pop("mine_from_a_module", None)
        sys.modules.pop("parts_of_mine", None)


MINE = 'import torch\nregister.register_act("mine_from_a_module", torch.nn.Tanh)\n'
