"""Memory that is kept between steps: glibc gives large blocks back to the system at once, which then has to clear them anew."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # the numbers of mallopt in <malloc.h>
_KEPT, _PADDING = (1 << 31) - 1, 64 << 20  # bytes; mallopt takes an int


def keep_memory() -> bool:
    """Lets this process keep the memory that it frees, for its next step.

    For processes of our own only (the command ``gkd`` and its workers). Whoever sets ``MALLOC_...`` or ``GLIBC_TUNABLES`` in
    the environment has chosen, and other systems than Linux with glibc have allocators of their own.

    Returns:
        bool: Whether it was done.
    """
    chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if chosen or sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        settings = ((_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _PADDING), (_MMAP_MAX, 0))
        return all([mallopt(name, value) == 1 for name, value in settings])
    return False
