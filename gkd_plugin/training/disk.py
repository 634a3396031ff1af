"""What a disk that is full or may not be written ends with: one message, and nothing lost that was finished."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from gkd_plugin.errors import RunFailed

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class DiskFailed(RunFailed):
    """Every further seed would meet the same; this one goes on from its last checkpoint."""


def is_disk_error(error: BaseException) -> bool:
    """Whether it speaks of the disk and not of the program."""
    return isinstance(error, OSError) and error.errno in _DISK


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Turns errors of the disk into :class:`DiskFailed`.

    Args:
        folder (Path): What an error without a file's name is about.

    Raises:
        DiskFailed: If something inside met a full or protected disk.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise DiskFailed(
            f"{error.filename or folder}: {error.strerror}. Finished seeds and checkpoints are kept; make room "
            "(or let the folder be written, or choose another out_dir) and run the same command again."
        ) from error
