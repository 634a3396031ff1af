"""Engines hand back an entry for every job."""

from __future__ import annotations

from pathlib import Path

import pytest

from gkd_plugin.study.engine import Engine, InProcess
from tests.study.test_job import make


def test_jobs_are_trained_one_after_the_other(work_folder: Path) -> None:
    engine: Engine = InProcess()
    with engine:
        for name in "ab":
            engine.submit(make(work_folder, name))
        assert (engine.slots, engine.pending) == (1, 2)
        assert [(engine.next().name, engine.pending) for _ in range(2)] == [("a", 1), ("b", 0)]
        with pytest.raises(RuntimeError, match="no job"):
            engine.next()


def test_what_is_left_is_dropped(work_folder: Path) -> None:
    with InProcess() as engine:
        engine.submit(make(work_folder))
    assert engine.pending == 0 and not (work_folder / "grid").exists()
