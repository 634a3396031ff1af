"""Errors of a full or read-only disk: one message, and nothing finished is lost."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from gkd_plugin.errors import RunFailed

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class DiskFailed(RunFailed):
    """A disk error: every further seed would fail alike; this one resumes from its last checkpoint."""


def is_disk_error(error: BaseException) -> bool:
    """Whether an error is about the disk and not about the program."""
    return isinstance(error, OSError) and error.errno in _DISK


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Turns errors of the disk into :class:`DiskFailed`.

    Args:
        folder (Path): Named where an error has no file name.

    Raises:
        DiskFailed: If something inside met a full or protected disk.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise DiskFailed(
            f"{error.filename or folder}: {error.strerror}. Finished seeds and checkpoints are kept. Free some "
            "space (or make the folder writable, or choose another out_dir) and run the same command again."
        ) from error
