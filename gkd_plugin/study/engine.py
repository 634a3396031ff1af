"""What trains the runs of a study: engines take jobs and hand back entries of the ledger as the jobs end."""

from __future__ import annotations

import contextlib
from collections import deque
from types import TracebackType
from typing import Protocol

from gkd_plugin.study.job import Job, execute_together, keep_for_runs
from gkd_plugin.study.ledger import Entry


class Engine(Protocol):
    """A place where runs are trained, entered with ``with``; leaving it ends what still runs."""

    @property
    def slots(self) -> int:
        """How many runs are trained at a time."""

    @property
    def pending(self) -> int:
        """How many jobs were handed in and not handed back."""

    def submit(self, *jobs: Job) -> None:
        """Hands in a job, or several that are trained together as a stack."""

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
    """Trains one run, or one stack of runs, after the other, in this process."""

    slots = 1

    def __init__(self) -> None:
        self._jobs: deque[tuple[Job, ...]] = deque()
        self._ended: deque[Entry] = deque()
        self._stack = contextlib.ExitStack()

    @property
    def pending(self) -> int:
        return sum(map(len, self._jobs)) + len(self._ended)

    def submit(self, *jobs: Job) -> None:
        self._jobs.append(jobs)

    def next(self) -> Entry:
        if not self.pending:
            raise RuntimeError("there is no job to wait for")
        if not self._ended:
            self._ended += execute_together(self._jobs.popleft())
        return self._ended.popleft()

    def __enter__(self) -> InProcess:
        self._stack.enter_context(keep_for_runs())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.clear()
        self._stack.close()
