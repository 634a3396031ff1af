"""Runs what a study still lacks: teachers first, then controls and points, on whatever engine was asked for."""

from __future__ import annotations

import contextlib
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gkd_plugin.commands.imports import imported
from gkd_plugin.config.load import Config, read_values
from gkd_plugin.errors import UserError
from gkd_plugin.study.bundles import bundle
from gkd_plugin.study.display import Display
from gkd_plugin.study.engine import Engine, InProcess
from gkd_plugin.study.job import Job
from gkd_plugin.study.ledger import RUNNING, Entry, Ledger
from gkd_plugin.study.points import POINT, Point
from gkd_plugin.study.resume import choose_jobs
from gkd_plugin.study.study import Study
from gkd_plugin.study.teachers import find_orders


@dataclass(frozen=True)
class Resources:
    """Where and how runs are trained.

    Args:
        workers (int, optional): Processes; 0 runs in this one. (default: one for each core)
        scheduler (str, optional): The address of a running Dask scheduler, instead of workers of our own.
        threads (int, optional): Threads of each run. (default: what the base says, else cores / workers)
        memory (str, optional): Largest memory of a worker, such as ``4GB``.
        timeout (float, optional): Seconds after which a run is given up.
        stack (int): How many similar networks are trained together in one process: of runs that differ in their seeds, rates,
            dropout or distillation only.
        per_gpu (int): How many workers share one GPU.
    """

    workers: int | None = None
    scheduler: str | None = None
    threads: int | None = None
    memory: str | None = None
    timeout: float | None = None
    stack: int = 1
    per_gpu: int = 1

    def __post_init__(self) -> None:
        """Refuses what no run could be trained with.

        Raises:
            UserError: With what is allowed.
        """
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise UserError(f"--timeout {self.timeout}: must be a number of seconds above 0.")
        if self.scheduler is not None and not re.fullmatch(r"[a-z]+://\S+:\d+", self.scheduler):
            raise UserError(
                f"--scheduler {self.scheduler!r} is not a valid address. Write it as dask scheduler prints it: tcp://HOST:8786."
            )
        if self.scheduler is not None and self.workers is not None:
            raise UserError(
                "--workers starts workers here, and --scheduler uses those of a cluster: give one of the two."
            )
        if self.memory is not None and not re.fullmatch(r"\d+(\.\d+)? ?([kMGT]i?)?B?", self.memory):
            raise UserError(f"--memory {self.memory!r} is not a valid size. Write it as 4GB or 500MB.")
        if self.memory is not None and (self.workers == 0 or self.scheduler is not None):
            raise UserError(
                "--memory limits workers that this command starts. With --workers 0 or --scheduler it starts none."
            )
        if self.per_gpu > 1 and (self.workers == 0 or self.scheduler is not None):
            raise UserError(
                "--per-gpu is for workers that this command starts. With --workers 0 or --scheduler it starts none; a worker of "
                "a cluster declares its share itself (docs/cluster.md)."
            )

    @property
    def processes(self) -> int:
        """How many run at a time on this machine."""
        return count_cores() if self.workers is None else self.workers

    def choose_threads(self, values: Mapping[str, Any]) -> int:
        """Threads of each run: what was asked for, what the base says, or the cores that each worker has for itself.

        Args:
            values (mapping): The values of the base.
        """
        written = values.get("num_threads")
        if self.threads is None and isinstance(written, int) and not isinstance(written, bool):
            return written
        return self.threads or max(1, count_cores() // max(1, self.processes))


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def open_engine(resources: Resources, threads: int) -> Iterator[Engine]:
    """The engine that was asked for.

    Args:
        resources (Resources): What was asked for.
        threads (int): Threads of each run.
    """
    if resources.scheduler is None and resources.processes == 0:
        with InProcess() as inside:
            yield inside
        return
    from gkd_plugin.study.cluster import Dask  # Dask is an extra, and heavy

    memory = resources.memory or "auto"
    with Dask(resources.processes, threads, memory, resources.scheduler, resources.per_gpu) as cluster:
        yield cluster


def make_jobs(
    study: Study,
    points: Sequence[Point],
    configs: Mapping[str, Config],
    session: str,
    timeout: float | None,
    stack: int = 1,
) -> list[Job]:
    """The jobs of points; a control's comes before the first point that it is compared with."""
    jobs = []
    for point in sorted(points, key=lambda each: each.role == POINT):
        config = configs[point.name]
        jobs.append(
            Job(
                name=point.name,
                values=dict(config.values),
                base=str(config.path) if config.path else None,
                out_dir=str(study.place(point)),
                repeat=study.repeat,
                cwd=os.getcwd(),
                ledger=str(study.ledger),
                session=session,
                timeout=timeout,
                modules=tuple(imported),
                stack=stack,
            )
        )
    return jobs


def require_unchanged(study: Study, points: Sequence[Point], configs: Mapping[str, Config]) -> None:
    """Refuses points whose runs, or whose teachers', were begun with other configurations, before anything is written.

    Args:
        study (Study): The study.
        points (sequence of Point): What is to be run.
        configs (mapping): Their configurations by name.

    Raises:
        UserError: With what has changed.
    """
    teachers = make_teacher_jobs(study, [configs[point.name] for point in points], "", None)
    choose_jobs([*teachers, *make_jobs(study, points, configs, "", None)], Ledger(study.ledger))


def run_study(
    study: Study,
    points: Sequence[Point],
    configs: Mapping[str, Config],
    resources: Resources,
    *,
    retry_failed: bool = False,
    quiet: bool = False,
) -> list[Entry]:
    """Runs what is not finished yet; the caller holds the study's lock.

    Args:
        study (Study): The study.
        points (sequence of Point): What is to be run.
        configs (mapping): Their configurations by name.
        resources (Resources): Where and how.
        retry_failed (bool): Also runs again what failed before.
        quiet (bool): Shows nothing.

    Returns:
        list of Entry: The state of every run that was asked for, teachers included.

    Raises:
        UserError: If a finished run is one of another configuration; nothing is run then.
    """
    session = secrets.token_hex(4)
    ledger = Ledger(study.ledger)
    teachers = make_teacher_jobs(study, [configs[point.name] for point in points], session, resources.timeout)
    jobs = make_jobs(study, points, configs, session, resources.timeout, resources.stack)
    kept, left = choose_jobs([*teachers, *jobs], ledger, retry_failed)
    names = [job.name for job in left]
    teaching = [job for job in left if job in teachers]
    title = describe(study, len(teachers) + len(jobs), resources)
    ranked = {point.name for point in points if point.role == POINT}
    with Display(title, len(teachers) + len(jobs), kept, lambda: find_running(ledger, names), quiet, ranked) as display:
        try:
            if left:
                with open_engine(resources, study.threads) as engine:
                    run_jobs(engine, teaching, display)
                    further = [job for job in left if job not in teaching]
                    run_bundles(engine, bundle(further, configs, resources.stack, engine.slots), display)
        except BaseException:
            ledger.mark_interrupted(names, session)
            raise
    return [ledger.read(job.name) for job in (*teachers, *jobs)]


def make_teacher_jobs(study: Study, configs: Sequence[Config], session: str, timeout: float | None) -> list[Job]:
    """Jobs for the teachers that are missing; their runs lie beside the study's folder.

    Args:
        study (Study): The study.
        configs (sequence of Config): The configurations that listen to them.
        session (str): The call of the command.
        timeout (float, optional): Seconds that a run may take.
    """
    return [
        Job(
            name=Path(order.name).name,
            values=read_values(order.path, order.overrides),
            base=str(order.path),
            out_dir=str(order.folder.parent),
            repeat=len(order.seeds),
            cwd=os.getcwd(),
            ledger=str(study.ledger),
            session=session,
            timeout=timeout,
            modules=tuple(imported),
        )
        for order in find_orders(configs, study.folder, study.repeat)
    ]


def find_running(ledger: Ledger, names: Sequence[str]) -> list[Entry]:
    """What runs now, of the runs of this call."""
    return [entry for entry in map(ledger.read, names) if entry.state == RUNNING]


def describe(study: Study, total: int, resources: Resources) -> str:
    """What is about to run, and on what.

    Args:
        study (Study): The study.
        total (int): The number of runs.
        resources (Resources): What was asked for.
    """
    if resources.scheduler is not None:
        where = f"the cluster at {resources.scheduler}"
    elif resources.processes == 0:
        where = "this process"
    else:
        where = f"{resources.processes} worker{'s' if resources.processes > 1 else ''}"
    seeds = f"{study.repeat} seed{'s' if study.repeat > 1 else ''}"
    threads = f"{study.threads} thread{'s' if study.threads > 1 else ''}"
    stacked = f", up to {resources.stack} stacked" if resources.stack > 1 else ""
    return f"{study.name}: {total} run{'s' if total > 1 else ''} of {seeds} on {where}, {threads} each{stacked}"


def run_jobs(engine: Engine, jobs: Sequence[Job], display: Display) -> None:
    """Trains jobs, each for itself."""
    run_bundles(engine, [(job,) for job in jobs], display)


def run_bundles(engine: Engine, bundles: Sequence[tuple[Job, ...]], display: Display) -> None:
    """Keeps the engine's slots filled, and few more than that, until all jobs have ended."""
    waiting = list(bundles)[::-1]
    most = max(map(len, bundles), default=1)
    while waiting or engine.pending:
        while waiting and engine.pending < most * (engine.slots + 1):
            engine.submit(*waiting.pop())
        display.end(engine.next())
