"""What a worker of Dask does: it trains the runs that it is handed, and keeps data between them."""

from __future__ import annotations

import contextlib
from typing import Any

from gkd_plugin.study.job import Job, execute_together, keep_for_runs
from gkd_plugin.study.ledger import Entry
from gkd_plugin.training.provenance import find_versions

_kept: tuple[str, contextlib.ExitStack] | None = None  # the call of the command for which this worker keeps data


def _keep_data(session: str) -> None:
    """Keeps data sets between the runs of one call: workers of a cluster outlive it, and the files may change after it."""
    global _kept
    if _kept is None or _kept[0] != session:
        if _kept is not None:
            _kept[1].close()
        _kept = session, contextlib.ExitStack()
        _kept[1].enter_context(keep_for_runs())


def execute_on_worker(*jobs: Job) -> list[Entry]:
    """Trains a job, or a stack of them, in a worker of Dask; it ends after an epoch when nobody waits for it any more."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    _keep_data(jobs[0].session)

    def is_unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return execute_together(jobs, expendable=True, is_unwanted=is_unwanted)


def describe_worker(dask_worker: Any) -> dict[str, Any]:
    """What the command has to know of a worker; Dask gives the worker to an argument of this name."""
    return {"versions": find_versions(), "gpu": "GPU" in dask_worker.state.total_resources}
