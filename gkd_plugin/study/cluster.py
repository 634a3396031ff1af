"""Runs of a study on the workers of Dask: warm processes of this machine, or of a cluster that runs already.

One worker trains one run at a time. What a run has begun stands in the ledger, so a worker may die at any moment: the run
is started again elsewhere, and gives up only where three workers died of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from gkd_plugin.errors import RunFailed, UserError, describe_error
from gkd_plugin.study.job import ATTEMPTS, Job, give_up
from gkd_plugin.study.ledger import ENDED, FAILED, RUNNING, Entry, Ledger
from gkd_plugin.study.worker import describe_worker, execute_on_worker
from gkd_plugin.training.provenance import find_versions

_SPARE = 2  # jobs beyond the workers that Dask is given: a worker that ends one finds the next at once
_POLL = 1.0  # seconds between two looks at the workers
_CONNECT, _START = 10.0, 300.0  # seconds for a scheduler to answer, and for a worker to import everything
_SCRATCH = "gkd-workers-"
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # whether a run is started again, the ledger decides
    "distributed.scheduler.worker-saturation": 1.0,  # no run waits on a worker that trains another
    "distributed.deploy.lost-worker-timeout": "1 day",  # a worker that died is back when it has imported everything
    "distributed.worker.memory.target": False,  # nothing is kept that could be moved to disk
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,  # a run is ended at the limit, not halted below it
    "distributed.worker.profile.enabled": False,  # it would look at the training a hundred times a second, and keep it
    "distributed.admin.tick.limit": "1 day",  # an epoch may hold Python for longer than Dask finds polite
}
# Ctrl-C is for the command, which ends its workers; a worker that is a copy has the levels of its original
_PREPARE = (
    "import logging, signal\n"
    "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    "logging.getLogger('distributed').setLevel(logging.CRITICAL)\n"
)


class Dask:
    """Trains runs on workers.

    Args:
        workers (int): Number of processes on this machine; without meaning where there is a scheduler.
        threads (int): Threads of each of them.
        memory (str or int): The memory of each of them (``"4GB"``); one that uses more is ended, and its run with it.
            ``"auto"`` shares the machine's, 0 sets no limit.
        scheduler (str, optional): The address of a running scheduler, ``tcp://host:8786``.
        per_gpu (int): Number of workers that share one GPU of this machine.

    Raises:
        UserError: Without Dask.
    """

    def __init__(
        self,
        workers: int = 1,
        threads: int = 1,
        memory: str | int = "auto",
        scheduler: str | None = None,
        per_gpu: int = 1,
    ) -> None:
        if find_spec("distributed") is None:
            raise UserError(
                "workers need Dask, which is not installed. Install it with: pip install 'gkd_plugin[study]'. Or train "
                "one run after the other in this process: --workers 0."
            )
        self._workers, self._threads, self._memory, self._address = workers, threads, memory, scheduler
        self._per_gpu = per_gpu
        self._gpus = torch.cuda.device_count() if scheduler is None else 0
        self._known: dict[str, bool] = {}  # workers, and whether they declare a GPU
        self._told: set[str] = set()
        self._waiting: deque[tuple[Job, ...]] = deque()
        self._flying: dict[str, tuple[tuple[Job, ...], Any]] = {}  # by Dask's key, with Dask's future
        self._over: deque[Entry] = deque()
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._count = 0
        self._stack = contextlib.ExitStack()
        self._client: Any = None

    @property
    def slots(self) -> int:
        return len(self._known)

    @property
    def pending(self) -> int:
        return sum(map(len, self._waiting)) + sum(len(jobs) for jobs, _ in self._flying.values()) + len(self._over)

    def submit(self, *jobs: Job) -> None:
        self._waiting.append(jobs)
        self._feed()

    def next(self) -> Entry:
        """Waits for the next job that ends.

        Raises:
            RuntimeError: If there is none.
            RunFailed: If the scheduler is gone.
            UserError: If a worker cannot train runs.
        """
        while self.pending:
            if self._over:
                return self._over.popleft()
            self._feed()
            with contextlib.suppress(queue.Empty):
                self._over += self._receive(self._ended.get(timeout=_POLL))
        raise RuntimeError("there is no job to wait for")

    def __enter__(self) -> Dask:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_quiet())
            self._client = stack.enter_context(self._connect() if self._address is not None else self._start())
            self._meet_workers()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        flying = [job for jobs, _ in self._flying.values() for job in jobs]
        try:
            with contextlib.suppress(Exception):  # of a scheduler that is gone
                self._client.cancel([future for _, future in self._flying.values()])
        finally:
            self._stack.close()
            self._waiting.clear()
            self._flying.clear()
            for job in flying:
                with contextlib.suppress(UserError, RunFailed, OSError):
                    Ledger(Path(job.cwd, job.ledger)).mark_interrupted([job.name], job.session)

    # -- clusters ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _start(self) -> Iterator[Any]:
        """Workers on this machine; they end with this process, however it ends."""
        import dask
        from distributed import Client, Nanny, Scheduler, SpecCluster

        local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "dashboard": find_spec("bokeh") is not None}
        memory = self._memory or None
        own = {"distributed.worker.multiprocessing-method": "spawn"} if self._gpus else {}  # CUDA is not for copies
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_make_scratch())
            stack.enter_context(dask.config.set({**_SETTINGS, **own, "temporary-directory": folder}))
            stack.enter_context(_environment(self._threads))
            specs = {
                number: {
                    "cls": Nanny,
                    "options": {
                        "host": "127.0.0.1",
                        "dashboard_address": "127.0.0.1:0",
                        "dashboard": False,
                        "nthreads": 1,
                        "memory_limit": memory,
                        "preload": [_PREPARE, __name__],
                        "silence_logs": logging.CRITICAL,
                        **self._choose_gpu(number),
                    },
                }
                for number in range(self._workers)
            }
            cluster = stack.enter_context(
                SpecCluster(
                    workers=specs,
                    scheduler={"cls": Scheduler, "options": {**local, "port": 0}},
                    silence_logs=logging.CRITICAL,
                )
            )
            client = stack.enter_context(Client(cluster, set_as_default=False))
            stack.callback(_kill_workers, cluster)
            try:
                client.wait_for_workers(self._workers, timeout=_START)
            except TimeoutError:
                raise RunFailed(
                    f"{len(client.nthreads())} of {self._workers} workers started within {_START:.0f} s. Use fewer "
                    "--workers, or give them more --memory."
                ) from None
            yield client

    @contextlib.contextmanager
    def _connect(self) -> Iterator[Any]:
        """The client of a scheduler that runs already."""
        from distributed import Client

        try:
            asyncio.run(_knock(self._address))  # a client that gets no answer goes on asking behind our back
            client = Client(self._address, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise UserError(
                f"--scheduler {self._address}: no scheduler of Dask answers there ({describe_error(error)}). Start one with "
                "'dask scheduler', and use the address that it prints (tcp://HOST:PORT)."
            ) from None
        with client:
            yield client

    def _choose_gpu(self, number: int) -> dict[str, Any]:
        """The part of a worker's options that gives it a GPU, of its own or shared by ``per_gpu``, while there is room."""
        if not self._gpus:
            return {}
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = given.split(",") if given else [str(each) for each in range(self._gpus)]
        if number >= self._per_gpu * len(names):
            return {"env": {"CUDA_VISIBLE_DEVICES": ""}}
        return {"env": {"CUDA_VISIBLE_DEVICES": names[number % len(names)]}, "resources": {"GPU": 1}}

    # -- jobs ------------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Gives Dask as many jobs as it needs for all workers, and few more: a worker that dies takes no queue along."""
        self._meet_workers()
        while self._waiting and len(self._flying) < self.slots + _SPARE:
            jobs = self._waiting.popleft()
            self._count += 1
            key = f"{jobs[0].name}-{jobs[0].session}-{self._count}"
            resources = {"GPU": 1} if self._needs_gpu(jobs[0]) else None
            future = self._client.submit(execute_on_worker, *jobs, key=key, pure=False, retries=0, resources=resources)
            self._flying[key] = jobs, future
            future.add_done_callback(self._ended.put)

    def _needs_gpu(self, job: Job) -> bool:
        """Whether a job has to wait for a worker with a GPU; where none declares one, it takes any."""
        kind = str(job.values.get("accelerator", "auto"))
        return any(self._known.values()) and (kind.startswith(("cuda", "gpu")) or (kind == "auto" and self._gpus > 0))

    def _receive(self, future: Any) -> list[Entry]:
        """The entries of jobs that Dask has done with; those that have to run again have none."""
        from distributed import KilledWorker

        if future.key not in self._flying:  # it was asked for twice
            return []
        jobs, _ = self._flying.pop(future.key)
        if future.status == "finished":
            return list(future.result())
        error = future.exception() if future.status == "error" else None
        if error is not None and not isinstance(error, KilledWorker):  # the worker could not even begin
            begun = [(job, Entry(job.name).begin(job.session, job.digest, job.repeat)) for job in jobs]
            return [self._record(job, entry.end(FAILED, describe_error(error))) for job, entry in begun]
        if self._client.status != "running":
            raise RunFailed(
                f"the scheduler at {self._address} is gone. Finished runs are kept; start it again and run the same command."
            )
        return [entry for job in reversed(jobs) if (entry := self._start_again(job)) is not None]

    def _start_again(self, job: Job) -> Entry | None:
        """Puts a job whose worker died in front of the others, unless it ended, or has died too often."""
        entry = Ledger(Path(job.cwd, job.ledger)).read(job.name)
        if entry.session == job.session:
            if entry.state in ENDED:
                return entry
            if entry.state == RUNNING and entry.attempts >= ATTEMPTS:
                return self._record(job, give_up(entry))
        self._waiting.appendleft((job,))  # alone: what kills a worker takes no other run along twice
        return None

    def _record(self, job: Job, entry: Entry) -> Entry:
        with contextlib.suppress(RunFailed):  # the caller has the entry in any case
            Ledger(Path(job.cwd, job.ledger)).write(entry)
        return entry

    # -- workers ---------------------------------------------------------------------------------------------------------

    def _meet_workers(self) -> None:
        """Looks at workers that have come: what they lack is said before they are given anything."""
        present: Mapping[str, int] = self._client.nthreads()
        new = [address for address in present if address not in self._known]
        for address in [address for address in self._known if address not in present]:
            del self._known[address]
        if not new:
            return
        several = [address for address in new if present[address] != 1]
        if several:
            raise UserError(
                f"the worker {several[0]} has {present[several[0]]} threads, but a worker trains one run at a time. Start "
                "workers with: dask worker --nthreads 1 --nworkers N."
            )
        for address, found in self._client.run(describe_worker, workers=new, on_error="return").items():
            if isinstance(found, ImportError):
                raise UserError(
                    f"the worker {address} cannot import gkd_plugin ({found}). Start the workers in the same environment as "
                    "this command."
                )
            if not isinstance(found, BaseException):  # one that is gone again
                self._known[address] = bool(found["gpu"])
                self._compare_versions(address, found["versions"])

    def _compare_versions(self, address: str, theirs: Mapping[str, str]) -> None:
        """Says where a worker has other versions than this process: its numbers may differ."""
        ours = find_versions()
        differing = [
            f"{name} {theirs.get(name, '-')} (here {own})" for name, own in ours.items() if theirs.get(name) != own
        ]
        text = ", ".join(differing)
        if text and text not in self._told:
            self._told.add(text)
            print(f"warning: the worker {address} has other versions: {text}. Numbers may differ.", file=sys.stderr)


def _kill_workers(cluster: Any) -> None:
    """Ends the workers at once: they hold nothing that is not on the disk, and Dask would wait for their runs."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # it starts no other one then
        if nanny.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


async def _knock(address: str | None) -> None:
    """Finds out whether a scheduler answers at an address.

    Raises:
        OSError: If not.
        ValueError: If it is no address.
    """
    from distributed.comm.core import connect

    comm = await connect(address, timeout=_CONNECT)
    await comm.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Dask's own lines from the terminal: what matters to the study is in the ledger."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "bokeh")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What workers find when they start: torch reads it while it is imported, before a worker could set anything."""
    before = dict(os.environ)
    os.environ |= {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _make_scratch() -> Iterator[str]:
    """A private folder for Dask, and an end to those of commands that were killed."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{_SCRATCH}*"):
        pid = left.name.removeprefix(_SCRATCH).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)  # another user's stays
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        yield folder


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
