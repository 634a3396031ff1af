"""One process at a time writes into a run's folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from gkd_plugin.errors import UserError
from gkd_plugin.training.disk import guarded

_PROBE = 0.5  # seconds; whoever only asks (`is_held`) holds a lock for much less
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def hold_lock(folder: Path, *, wait: bool = False, quiet: bool = False) -> Iterator[None]:
    """Keeps other processes out of a run's folder; whoever holds the lock may take it again.

    The lock lies beside the folder (``.<name>.lock``) so that an empty folder stays empty. A second file names the
    holder: on some systems nobody else can read a file that is locked.

    Args:
        folder (Path): The run's folder, which need not be there.
        wait (bool): Waits for another process to end.
        quiet (bool): Does not say so where it waits.

    Raises:
        UserError: If another process holds it and ``wait`` is off, or a folder lies in the lock's place; nothing is
            written then.
        DiskFailed: If the lock cannot be written.
    """
    made = not os.path.exists(folder.parent)
    path = folder.parent.resolve() / f".{folder.name}.lock"
    holder = path.with_name(f"{path.name}.json")
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, but a run keeps its lock there. Move it away, or choose another --name.")
    lock = FileLock(path, is_singleton=True)  # a single object for each path counts how often its thread took it
    with guarded(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # of a file system that makes no folders, such as /proc
            raise UserError(f"{folder.parent} cannot be made. Choose another out_dir. Nothing was written.") from None
        held = _acquire(lock, folder, holder, wait, quiet)
    try:
        if held and lock.lock_counter == 1:
            _write_holder(holder)
        yield
    finally:
        if held and lock.lock_counter == 1:
            for file in (holder, path):  # while it is held: whoever comes now makes a new one
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
        if held:
            lock.release()
        if made:
            with contextlib.suppress(OSError):  # unless something lies there by now
                folder.parent.rmdir()


def is_held(folder: Path) -> bool:
    """Whether a process is writing into a run's folder; nothing is changed.

    Args:
        folder (Path): The run's folder.
    """
    path = folder.parent.resolve() / f".{folder.name}.lock"
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return False
    except (Timeout, OSError, NotImplementedError):
        return True


def _acquire(lock: FileLock, folder: Path, holder: Path, wait: bool, quiet: bool) -> bool:
    """Whether the lock is held now; a disk that has no locks gives none, and the run goes on without."""
    try:
        try:
            lock.acquire(timeout=_PROBE)
        except Timeout:
            if not wait:
                raise UserError(
                    f"{folder}: another process is writing into it ({_read_holder(holder)}). Wait until it ends, or "
                    "choose another --name. Nothing was written."
                ) from None
            if not quiet:
                print(
                    f"waiting for another process that is training {folder} ({_read_holder(holder)})", file=sys.stderr
                )
            _wait_for(lock, folder)
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _wait_for(lock: FileLock, folder: Path) -> None:
    """Waits until another process lets go, which may remove the folder that it had made for the lock."""
    while True:
        try:
            lock.acquire()
            return
        except FileNotFoundError:
            folder.parent.mkdir(parents=True, exist_ok=True)


def _write_holder(holder: Path) -> None:
    now = datetime.now().isoformat(" ", "seconds")
    with contextlib.suppress(OSError):  # it only informs
        holder.write_text(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now}) + "\n")


def _read_holder(holder: Path) -> str:
    try:
        values = json.loads(holder.read_text())
        return f"process {values['pid']} on {values['host']}, since {values['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its number is unknown"  # it has only just begun
