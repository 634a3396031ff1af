"""One run of a study, in whatever process: it returns an entry of the ledger, whatever happens."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gkd_plugin.commands.imports import import_modules
from gkd_plugin.commands.lock import hold_lock
from gkd_plugin.commands.report import RunReport
from gkd_plugin.commands.run import run
from gkd_plugin.config.load import read_config
from gkd_plugin.data.keep import keep_data
from gkd_plugin.errors import RunFailed, UserError, describe_error
from gkd_plugin.printing import noting, warn
from gkd_plugin.study.ledger import DONE, ENDED, FAILED, INTERRUPTED, Entry, Ledger
from gkd_plugin.training.checkpoint import global_random_state, set_global_random_state
from gkd_plugin.training.stack import Stack
from gkd_plugin.training.turns import Stopped

ATTEMPTS = 3  # how often one call of a command starts a run whose worker dies
_GRACE = 5.0  # seconds that a run has to notice its time-out itself, at the end of an epoch


@dataclass(frozen=True)
class Job:
    """A configuration to train; plain values only, so that it can be sent to any machine that shares the folders.

    Args:
        name (str): The run's name: its folder in ``out_dir``, and its entry in the ledger.
        values (mapping): The whole configuration.
        base (str, optional): The file it stems from: the files that it names are looked for in its folder first.
        out_dir (str): Where the run's folder lies.
        repeat (int): Number of seeds.
        cwd (str): The working folder, to which all relative paths in the configuration refer.
        ledger (str): The folder of the ledger.
        session (str): The call of the command; runs whose worker died are counted by it.
        timeout (float, optional): Seconds that the run may take.
        modules (tuple of str): What ``--import`` named: it registers parts that the configuration uses.
        stack (int): How many networks may be trained together, its seeds among them; 1 for one at a time.
    """

    name: str
    values: Mapping[str, Any]
    base: str | None
    out_dir: str
    repeat: int
    cwd: str
    ledger: str
    session: str
    timeout: float | None = None
    modules: tuple[str, ...] = ()
    stack: int = 1

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.cwd, self.out_dir, self.name)

    @property
    def digest(self) -> str:
        """The hash of its configuration; neither the place of its folder nor the number of seeds matters."""
        values = {key: value for key, value in self.values.items() if key != "out_dir"}
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


class TimedOut(BaseException):
    """A run took too long. No ``Exception``: the run is interrupted, and keeps its checkpoints."""


class Unwanted(BaseException):
    """Nobody waits for a run any more; likewise."""


def execute(job: Job, expendable: bool = False, is_unwanted: Callable[[], bool] = lambda: False) -> Entry:
    """Trains one job and writes its entry; finished seeds are kept, interrupted ones resume.

    A run that another process is training is waited for.

    Args:
        job (Job): The job.
        expendable (bool): Whether this process may be ended, as a worker's may, where a run that takes too long does not
            come to the end of an epoch. Elsewhere such a run goes on until it does.
        is_unwanted (callable, optional): Asked after every epoch whether the run shall end here.

    Returns:
        Entry: ``done``, ``failed`` with the reason, or ``interrupted``.

    Raises:
        KeyboardInterrupt: If the user interrupts it; its entry says so.
    """
    return _execute(job, expendable, is_unwanted, _restored)


def _execute(
    job: Job,
    expendable: bool,
    is_unwanted: Callable[[], bool],
    work_in: Callable[[str], contextlib.AbstractContextManager[Any]],
    together: int = 1,
) -> Entry:
    ledger = Ledger(Path(job.cwd, job.ledger))
    begun = Entry(job.name, session=job.session, digest=job.digest, repeat=job.repeat)
    try:
        ledger.find(job.name)  # the name is checked before a lock is written beside the run's folder
        with work_in(job.cwd), hold_lock(job.folder, wait=True, quiet=True):
            before = ledger.read(job.name)
            if before.session == job.session and before.state in ENDED:
                return before  # its worker died after it had ended, and before it was heard of
            begun = before.begin(job.session, job.digest, job.repeat)
            if begun.attempts > ATTEMPTS:
                ended = give_up(before)
            else:
                ledger.write(begun)
                ended = _train(job, begun, ledger, expendable, is_unwanted, together)
            ledger.write(ended)
            return ended
    except KeyboardInterrupt:
        _write_if_possible(ledger, begun.end(INTERRUPTED))
        raise
    except BaseException as error:  # the disk refused the entry or the lock, or the working folder is gone
        ended = _describe_failure(begun, error)
        _write_if_possible(ledger, ended)
        return ended


def execute_together(
    jobs: Sequence[Job], expendable: bool = False, is_unwanted: Callable[[], bool] = lambda: False
) -> list[Entry]:
    """Trains jobs as one stack, each with all its seeds; a single job that is not to be stacked as it is.

    They take turns, so each has as many times its time as there are of them.

    Args:
        jobs (sequence of Job): The jobs, of one study.
        expendable, is_unwanted: As for :func:`execute`.

    Raises:
        KeyboardInterrupt: If the user interrupts them; their entries say so.
    """
    cwd = jobs[0].cwd
    if (len(jobs) == 1 and jobs[0].stack == 1) or not os.path.isdir(cwd):  # then each says that its folder is gone
        return [execute(job, expendable, is_unwanted) for job in jobs]
    stack = Stack(len(jobs), most=jobs[0].stack)
    turns = [partial(_execute, job, expendable, is_unwanted, contextlib.nullcontext, len(jobs)) for job in jobs]
    with _restored(cwd):  # once for all: whichever ends first must not move the others into another folder
        seats = stack.run(turns)
    for seat in seats:
        if seat.error is not None:
            raise seat.error
    return [seat.result for seat in seats if seat.result is not None]


def give_up(entry: Entry) -> Entry:
    """The entry of a run whose worker died too often."""
    why = f"its worker died {entry.attempts} times while running it (killed, perhaps out of memory)"
    return entry.end(FAILED, why)


def _train(
    job: Job, begun: Entry, ledger: Ledger, expendable: bool, is_unwanted: Callable[[], bool], together: int
) -> Entry:
    """The entry with which a run ends."""
    base = Path(job.base) if job.base is not None else None
    values = {**job.values, "out_dir": job.out_dir}
    try:
        with _limited(job, begun, ledger, expendable, together) as is_late:

            def watch(epoch: int, epochs: int, score: float) -> None:
                if is_unwanted():
                    raise Unwanted
                if is_late():
                    raise TimedOut

            import_modules(job.modules)
            config = read_config(values, path=base)
            with noting() as notes:
                report = run(config, repeat=job.repeat, name=job.name, quiet=True, watch=watch)
    except TimedOut:
        return begun.end(FAILED, _say_timeout(job))
    except (Unwanted, Stopped):
        return begun.end(INTERRUPTED)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # of a user's own code SystemExit, too
        return _describe_failure(begun, error)
    return _summarise(job, replace(begun, notes=tuple(notes)), report)


@contextlib.contextmanager
def _limited(job: Job, begun: Entry, ledger: Ledger, expendable: bool, together: int) -> Iterator[Callable[[], bool]]:
    """Whether a run takes too long, asked after every epoch; one that does not come that far ends with its process."""
    if job.timeout is None:
        yield lambda: False
        return
    limit = job.timeout * together
    deadline = time.monotonic() + limit
    over, deciding = False, threading.Lock()

    def end_process() -> None:
        with deciding:
            if not over:
                _write_if_possible(ledger, begun.end(FAILED, _say_timeout(job)))
                os._exit(1)

    guard = threading.Timer(limit + _GRACE, end_process) if expendable else None
    if guard is not None:
        guard.daemon = True
        guard.start()
    try:
        yield lambda: time.monotonic() > deadline
    finally:
        with deciding:  # a run that has just ended is not to be ended with its process
            over = True
        if guard is not None:
            guard.cancel()


def _say_timeout(job: Job) -> str:
    return f"time-out after {job.timeout:g} s"


def _summarise(job: Job, begun: Entry, report: RunReport) -> Entry:
    """The entry of a run that came to its end, with or without seeds that failed."""
    failures = {str(seed): why for seed, why in report.failures.items()}
    values: dict[str, Any] = {"failures": failures}
    if report.results:
        first = report.results[0]
        scores = [result.answers["mean"].val for result in report.results]
        mean = sum(scores) / len(scores)
        values |= {
            "metric": first.metric,
            "better": first.better,
            "val": mean if math.isfinite(mean) else None,  # JSON has no NaN
        }
    missing = job.repeat - len(report.results)
    if missing:
        alike: dict[str, list[str]] = {}
        for seed, why in failures.items():
            alike.setdefault(_join_lines(why), []).append(seed)
        reasons = [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}: {why}" for why, seeds in alike.items()]
        return begun.end(FAILED, "; ".join([f"{missing} of {job.repeat} seeds failed", *reasons]), **values)
    return begun.end(DONE, **values)


def _describe_failure(begun: Entry, error: BaseException) -> Entry:
    """The entry of a run that an error ended: one line for the user, the traceback where the error is nobody's mistake."""
    if isinstance(error, (UserError, RunFailed)):
        return begun.end(FAILED, _join_lines(str(error)))
    return begun.end(FAILED, describe_error(error), traceback="".join(traceback.format_exception(error)))


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def _write_if_possible(ledger: Ledger, entry: Entry) -> None:
    try:
        ledger.write(entry)
    except (UserError, RunFailed, OSError) as error:
        warn(f"the ledger's entry of {entry.name} was not written: {error}")


@contextlib.contextmanager
def keep_for_runs() -> Iterator[None]:
    """Within, data sets are kept between jobs, and what is there already is not searched for garbage after each of them.

    A process that has imported torch holds some 400,000 objects; looking through them takes as long as many an epoch.
    """
    gc.collect()
    gc.freeze()
    try:
        with keep_data():
            yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _restored(cwd: str) -> Iterator[None]:
    """Works in a folder and leaves the process as it was found: one worker trains many runs.

    ``run`` itself puts back the host's ``cfg`` and torch's threads.
    """
    here, environment = os.getcwd(), dict(os.environ)
    random, kind = global_random_state(), torch.get_default_dtype()
    try:
        os.chdir(cwd)
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
        set_global_random_state(random)
        torch.set_default_dtype(kind)
        gc.collect()  # models and trainers refer to each other
