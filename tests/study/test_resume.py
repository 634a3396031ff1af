"""What a second call of the same command trains."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.errors import UserError
from gkd_plugin.study.job import Job, execute
from gkd_plugin.study.ledger import Entry, Ledger
from gkd_plugin.study.resume import choose_jobs
from tests.study.test_job import make


def choose(*jobs: Job, **options: Any) -> tuple[list[str], list[str]]:
    kept, left = choose_jobs(jobs, Ledger(Path(jobs[0].cwd, "ledger")), **options)
    return [each.name for each in kept], [each.name for each in left]


def put(job: Job, state: str, reason: str | None = None) -> None:
    begun = Entry(job.name).begin("s0", job.digest, job.repeat)
    Ledger(Path(job.cwd, "ledger")).write(begun if state == "running" else begun.end(state, reason))


@pytest.mark.parametrize(
    ("state", "retry_failed", "kept"),
    [
        ("pending", False, False),
        ("running", False, False),
        ("interrupted", False, False),
        ("failed", False, True),
        ("failed", True, False),
        ("done", True, False),  # without results
    ],
)
def test_the_state_decides(tmp_path: Path, state: str, retry_failed: bool, kept: bool) -> None:
    put(make(tmp_path), state)
    assert choose(make(tmp_path), retry_failed=retry_failed) == ((["a"], []) if kept else ([], ["a"]))


def test_finished_runs_are_kept_as_long_as_their_seeds_are_there(work_folder: Path) -> None:
    job = make(work_folder, repeat=2)
    execute(job)
    assert choose(job, make(work_folder, "b")) == (["a"], ["b"])
    assert choose(replace(job, repeat=1)) == (["a"], [])
    assert choose(replace(job, repeat=3)) == ([], ["a"])  # more seeds
    shutil.rmtree(job.folder / "1")
    assert choose(job) == ([], ["a"])


def test_another_configuration_under_the_name_is_refused(work_folder: Path) -> None:
    execute(make(work_folder))
    ledger = Ledger(work_folder / "ledger")
    before = ledger.read("a")
    with pytest.raises(UserError, match=r"a \(gnn.dim_inner: was 8, now 16\).*--name"):
        choose(make(work_folder, "b"), make(work_folder, gnn={"dim_inner": 16}))
    assert ledger.read("a") == before


def test_the_same_configuration_may_be_written_in_another_way(work_folder: Path) -> None:
    execute(make(work_folder))
    assert choose(make(work_folder, gnn={"layers_pre_mp": 0})) == (["a"], [])  # the host's default


def test_a_failed_run_that_was_mended_is_run_again(work_folder: Path) -> None:
    assert execute(make(work_folder, kd={"preset": "mutuel"})).state == "failed"
    assert choose(make(work_folder)) == ([], ["a"])
