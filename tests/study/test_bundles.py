"""Which runs of a study are trained together, and what becomes of them."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.commands.run import run
from gkd_plugin.config.load import Config, read_config
from gkd_plugin.study import job as job_module
from gkd_plugin.study.bundles import bundle, find_differences
from gkd_plugin.study.engine import InProcess
from gkd_plugin.study.job import Job, execute_together
from gkd_plugin.study.ledger import Ledger
from tests import toy
from tests.study.test_job import entry, make, result

pytestmark = pytest.mark.usefixtures("work_folder")


def stackable(folder: Path, name: str, stack: int = 8, repeat: int = 2, **groups: Any) -> Job:
    groups = toy.merge({"gnn": {"dropout": 0.0}}, groups)
    return replace(make(folder, name, repeat, **groups), stack=stack)


def read(job: Job) -> Config:
    return read_config(dict(job.values))


def test_runs_are_bundled_by_their_networks(tmp_path: Path) -> None:
    jobs = [
        stackable(tmp_path, f"{act}-{rate}", gnn={"act": act}, optim={"base_lr": rate})
        for rate in (0.1, 0.2, 0.3)
        for act in ("relu", "elu")
    ]
    configs = {job.name: read(job) for job in jobs}

    def names(most: int) -> list[list[str]]:
        return [[job.name for job in each] for each in bundle(jobs, configs, most)]

    assert names(1) == [[job.name] for job in jobs]
    assert names(6) == [["relu-0.1", "relu-0.2", "relu-0.3"], ["elu-0.1", "elu-0.2", "elu-0.3"]]
    assert names(4) == [["relu-0.1", "relu-0.2"], ["relu-0.3"], ["elu-0.1", "elu-0.2"], ["elu-0.3"]]
    assert names(2) == [[name] for name in ("relu-0.1", "relu-0.2", "relu-0.3", "elu-0.1", "elu-0.2", "elu-0.3")]
    assert [len(each) for each in bundle(jobs, configs, 6, workers=2)] == [2, 1, 2, 1]
    assert find_differences(configs.values()) == ["gnn.act"]
    assert find_differences([configs["relu-0.1"], configs["relu-0.3"]]) == []


def test_a_bundle_gives_what_each_run_gives(work_folder: Path) -> None:
    jobs = [stackable(work_folder, f"rate{rate}", optim={"base_lr": rate}) for rate in (0.01, 0.05)]
    ended = execute_together(jobs)
    assert [each.state for each in ended] == ["done", "done"] and ended == [entry(job) for job in jobs]
    for job in jobs:
        plain = run({**job.values, "out_dir": "plain"}, repeat=2, name=job.name, quiet=True)
        for seed, expected in enumerate(plain.results):
            found = result(job, seed)
            assert found["stacked"] == 4
            assert found["answers"]["first"]["val"] == pytest.approx(expected.answers["first"].val, abs=0.07)


def test_a_bundle_is_one_stack_of_at_most_so_many(work_folder: Path) -> None:
    job = stackable(work_folder, "many", stack=3, repeat=5)
    (ended,) = execute_together([job])
    assert ended.state == "done"
    assert [result(job, seed)["stacked"] for seed in range(5)] == [3, 3, 3, 2, 2]


def test_a_run_that_fails_or_takes_too_long_leaves_the_others_alone(work_folder: Path) -> None:
    good = stackable(work_folder, "good")
    bad = stackable(work_folder, "bad", metric_best="f1")
    late = replace(stackable(work_folder, "late", optim={"max_epoch": 10_000}), timeout=0.5)
    ended = {each.name: each for each in execute_together([bad, good, late])}
    assert ended["good"].state == "done" and "metric_best" in str(ended["bad"].reason)
    assert ended["late"].state == "failed" and str(ended["late"].reason).startswith("time-out")


def test_ctrl_c_marks_all_as_interrupted(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch, heeded_ctrl_c: None
) -> None:
    jobs = [stackable(work_folder, name, repeat=1, optim={"max_epoch": 400}) for name in "ab"]
    plain, begun = job_module.run, []

    def breaking(*args: Any, **options: Any) -> Any:
        begun.append(None)
        if len(begun) == 2:
            signal.raise_signal(signal.SIGINT)  # noticed by the thread that waits for both
        return plain(*args, **options)

    monkeypatch.setattr(job_module, "run", breaking)
    with pytest.raises(KeyboardInterrupt):
        execute_together(jobs)
    states = [Ledger(Path(job.cwd, job.ledger)).read(job.name).state for job in jobs]
    assert set(states) == {"interrupted"}
    monkeypatch.undo()
    again = execute_together([replace(job, session="s2", stack=1, name=job.name) for job in jobs[:1]])
    assert again[0].state == "done"


def test_an_engine_hands_back_one_entry_after_the_other(work_folder: Path) -> None:
    with InProcess() as engine:
        engine.submit(stackable(work_folder, "a"), stackable(work_folder, "b"))
        engine.submit(make(work_folder, "c"))
        assert engine.pending == 3
        assert [(engine.next().name, engine.pending) for _ in range(3)] == [("a", 2), ("b", 1), ("c", 0)]


def test_a_bundle_works_in_its_folder_and_its_worker_stays_where_it_was(
    work_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("worker")
    monkeypatch.chdir(here)
    jobs = [stackable(work_folder, name, optim={"max_epoch": epochs}) for name, epochs in (("short", 1), ("long", 6))]
    assert [each.state for each in execute_together(jobs)] == ["done", "done"]
    assert Path.cwd() == here and not list(here.iterdir())
    assert all((work_folder / "grid" / job.name / "1" / "result.json").is_file() for job in jobs)


def test_a_bundle_whose_folder_is_gone_says_so(work_folder: Path) -> None:
    (ended,) = execute_together([replace(stackable(work_folder, "a"), cwd=str(work_folder / "gone"))])
    assert ended.state == "failed" and "gone" in str(ended.reason)
