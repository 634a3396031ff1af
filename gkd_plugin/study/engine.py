"""What trains the runs of a study: engines take jobs and hand back entries of the ledger as the jobs end."""

from __future__ import annotations

import contextlib
from collections import deque
from types import TracebackType
from typing import Protocol

from gkd_plugin.study.job import Job, execute, keep_for_runs
from gkd_plugin.study.ledger import Entry


class Engine(Protocol):
    """A place where runs are trained, entered with ``with``; leaving it ends what still runs."""

    @property
    def slots(self) -> int:
        """How many runs are trained at a time."""

    @property
    def pending(self) -> int:
        """How many jobs were handed in and not handed back."""

    def submit(self, job: Job) -> None:
        """Hands in a job."""

    def next(self) -> Entry:
        """Waits for the next job that ends.

        Raises:
            RuntimeError: If there is none.
        """

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InProcess:
    """Trains one run after the other, in this process."""

    slots = 1

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._stack = contextlib.ExitStack()

    @property
    def pending(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def next(self) -> Entry:
        if not self._jobs:
            raise RuntimeError("there is no job to wait for")
        return execute(self._jobs.popleft())

    def __enter__(self) -> InProcess:
        self._stack.enter_context(keep_for_runs())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.clear()
        self._stack.close()
