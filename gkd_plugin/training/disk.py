"""Errors of a full or read-only disk: one message, and nothing finished is lost."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from gkd_plugin.errors import RunFailed

_PROTECTED = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, *_PROTECTED)
_IN_THE_WAY = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY)


class DiskFailed(RunFailed):
    """A disk error: every further seed would fail alike; this one resumes from its last checkpoint."""


def is_disk_error(error: BaseException) -> bool:
    """Whether an error is about the disk and not about the program."""
    return isinstance(error, OSError) and error.errno in (*_FULL, *_IN_THE_WAY)


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Turns errors of the disk into :class:`DiskFailed`.

    Args:
        folder (Path): Named where an error has no file name.

    Raises:
        DiskFailed: If something inside met a full or protected disk, or something in the way.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_error(error):
            raise
        advice = "Free some space (or choose another out_dir)"
        if error.errno in _PROTECTED:
            advice = "Make the folder writable (or choose another out_dir)"
        if error.errno in _IN_THE_WAY:
            advice = "Move the existing file away (or choose a shorter or another --name or out_dir)"
        raise DiskFailed(
            f"{error.filename or folder}: {error.strerror}. Finished seeds and checkpoints are kept. {advice} and run "
            "the same command again."
        ) from error
