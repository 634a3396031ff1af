"""The ledger of a study: one small file for each run that says how far it is.

Several machines may share its folder: every file has one writer at a time and is never read half-written. What a run has
finished stands in the run's own folder; a lost entry costs nothing but a look at that.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gkd_plugin.errors import UserError, describe_damage
from gkd_plugin.printing import warn
from gkd_plugin.training.disk import guarded
from gkd_plugin.training.run_folder import write_text

PENDING, RUNNING, DONE, FAILED, INTERRUPTED = "pending", "running", "done", "failed", "interrupted"
STATES = (PENDING, RUNNING, DONE, FAILED, INTERRUPTED)
ENDED = (DONE, FAILED)
_LONGEST = 240  # of a file's name, in bytes: disks allow 255


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of one run.

    Args:
        name (str): The run's name.
        state (str): ``pending``, ``running``, ``done``, ``failed`` or ``interrupted``.
        reason (str, optional): Why it failed, in one line.
        host (str, optional): The machine that runs it, or did so last.
        pid (int, optional): The process there.
        session (str, optional): The call of the command that it was started by.
        attempts (int): How often that call has started it: more than once where a worker died.
        started, ended (str, optional): Date and time.
        seconds (float): Time between them.
        digest (str, optional): The hash of its configuration.
        repeat (int): Number of seeds.
        metric (str, optional): The metric that selects.
        better (bool, optional): Whether more of it is better.
        val (float, optional): The mean over its seeds of the validation score ``mean``.
        failures (mapping): Why seeds failed.
        traceback (str, optional): Where the error came from, if it is none of the user's.
        notes (sequence of str): Warnings raised by the run.
    """

    name: str
    state: str = PENDING
    reason: str | None = None
    host: str | None = None
    pid: int | None = None
    session: str | None = None
    attempts: int = 0
    started: str | None = None
    ended: str | None = None
    seconds: float = 0.0
    digest: str | None = None
    repeat: int = 1
    metric: str | None = None
    better: bool | None = None
    val: float | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    traceback: str | None = None
    notes: Sequence[str] = ()

    def begin(self, session: str, digest: str, repeat: int) -> Entry:
        """The same run as it starts now, in this process."""
        attempts = self.attempts + 1 if self.session == session else 1
        return Entry(
            self.name,
            RUNNING,
            host=platform.node(),
            pid=os.getpid(),
            session=session,
            attempts=attempts,
            started=_now(),
            digest=digest,
            repeat=repeat,
        )

    def end(self, state: str, reason: str | None = None, **values: Any) -> Entry:
        """The same run as it ends now."""
        ended = _now()
        seconds = 0.0
        if self.started is not None:
            seconds = (read_time(ended) - read_time(self.started)).total_seconds()
        return replace(self, state=state, reason=reason, ended=ended, seconds=max(seconds, 0.0), **values)


class Ledger:
    """The entries of a study.

    Args:
        folder (Path): Where they lie, as ``<run>.json``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str) -> Path:
        """The file of a run.

        Raises:
            UserError: If the name would lead out of the folder.
        """
        file = f"{name}.json"
        if not name or "\0" in name or {"/", os.sep, "\\"} & set(name) or len(os.fsencode(file)) > _LONGEST:
            raise UserError(
                f"the run's name {name[:80]!r} cannot be the name of a file. Allowed: up to {_LONGEST - 5} bytes, and no "
                "'/' or '\\'. Nothing was written."
            )
        return self.folder / file

    def read(self, name: str) -> Entry:
        """The entry of a run; ``pending`` where there is none, or none that can be read.

        Args:
            name (str): The run's name.

        Raises:
            UserError: If the name would lead out of the folder.
        """
        path = self.find(name)
        try:
            return _parse(path.read_bytes(), name)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, RecursionError) as error:
            warn(
                f"{path} is not used: it is damaged, or no entry of a ledger ({describe_damage(error)}). The run counts as "
                "pending; its finished seeds are kept."
            )
        return Entry(name)

    def write(self, entry: Entry) -> None:
        """Writes an entry in place of the one before.

        Raises:
            UserError: If its name would lead out of the folder.
            DiskFailed: If the disk refuses it.
        """
        path = self.find(entry.name)
        with guarded(self.folder):
            write_text(path, json.dumps(asdict(replace(entry, failures=dict(entry.failures))), indent=1) + "\n")

    def entries(self) -> list[Entry]:
        """All entries, by name."""
        return [self.read(path.stem) for path in sorted(self.folder.glob("*.json"))]

    def mark_interrupted(self, names: Iterable[str], session: str) -> list[Entry]:
        """Marks the runs that this call of the command has left running.

        Args:
            names (iterable of str): The runs that it had begun.
            session (str): The call.

        Returns:
            list of Entry: Those that were running.
        """
        running = [entry for entry in map(self.read, names) if (entry.state, entry.session) == (RUNNING, session)]
        marked = [entry.end(INTERRUPTED) for entry in running]
        for entry in marked:
            self.write(entry)
        return marked


def group_failures(entries: Iterable[Entry]) -> list[tuple[Entry, int]]:
    """The first run that failed for each reason, and how many more have failed for it.

    Args:
        entries (iterable of Entry): Runs, of which those that failed count.
    """
    first: dict[str | None, Entry] = {}
    more: Counter[str | None] = Counter()
    for entry in entries:
        if entry.state == FAILED:
            more[entry.reason] += entry.reason in first
            first.setdefault(entry.reason, entry)
    return [(entry, more[reason]) for reason, entry in first.items()]


def _parse(content: bytes, name: str) -> Entry:
    """An entry from a file of any origin.

    Raises:
        ValueError: If it is none.
        TypeError: If it lacks its name.
    """
    values = json.loads(content)
    if not isinstance(values, dict):
        raise ValueError("it has no keys")
    entry = Entry(**{key: value for key, value in values.items() if key in Entry.__dataclass_fields__})
    _require("notes", entry.notes, list, tuple)
    for note in entry.notes:
        _require("notes", note, str)
    entry = replace(entry, notes=tuple(entry.notes))
    if entry.name != name:
        raise ValueError(f"it is the entry of {entry.name!r}")
    if entry.state not in STATES:
        raise ValueError(f"its state is {entry.state!r}")
    for key in ("reason", "host", "session", "started", "ended", "digest", "metric", "traceback"):
        _require(key, getattr(entry, key), str, type(None))
    for key, kinds in (("pid", (int, type(None))), ("better", (bool, type(None))), ("val", (int, float, type(None)))):
        _require(key, getattr(entry, key), *kinds)
    for key in ("attempts", "repeat"):
        _require(key, getattr(entry, key), int)
    _require("seconds", entry.seconds, int, float)
    _require("failures", entry.failures, dict)
    for time in (entry.started, entry.ended):
        if time is not None:
            read_time(time)
    return entry


def _require(key: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{key} is {value!r:.50}")


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def read_time(text: str) -> datetime:
    """A time of an entry; earlier versions wrote this machine's without its zone.

    Raises:
        ValueError: If it is none.
    """
    return datetime.fromisoformat(text).astimezone()
