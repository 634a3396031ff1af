"""One process at a time opens a data set's folder: PyG writes there what it makes of the raw files."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_PATIENCE = 3.0  # seconds until a wait is said


@contextmanager
def hold_data(folder: Path) -> Iterator[None]:
    """Keeps other processes from a data set until this one has read it, and prepared it where that was needed.

    The lock lies beside the folder (``.<name>.lock``) and goes with its holder. A folder that cannot be written gets none:
    nothing can be prepared there either.

    Args:
        folder (Path): The folder of the data set, which need not be there.
    """
    parent = folder.parent.absolute()
    made = [each for each in (parent, *parent.parents) if not each.exists()]
    lock = FileLock(parent / f".{folder.name}.lock", is_singleton=True)  # counts how often its thread took it
    try:
        held = _acquire(lock, folder)
    except (OSError, NotImplementedError):  # no permission, or a disk without locks
        held = False
    try:
        yield
    finally:
        if held and lock.lock_counter == 1:
            with contextlib.suppress(OSError):  # while it is held: whoever comes now makes a new one
                Path(lock.lock_file).unlink(missing_ok=True)
        if held:
            lock.release()
        with contextlib.suppress(OSError):  # a folder that holds something stays
            for each in made:
                each.rmdir()


def _acquire(lock: FileLock, folder: Path) -> bool:
    """Whether the lock is held, after any wait."""
    said = False
    while True:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=-1 if said else _PATIENCE)
            return True
        except Timeout:
            print(f"waiting for another process that prepares the data set in {folder}", file=sys.stderr)
            said = True
        except FileNotFoundError:  # the holder has just removed the folder that it had made for the lock
            continue
