"""Return freed memory to the system."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

M_MMAP_THRESHOLD: Final = -3
THRESHOLD: Final = 4 * 2**20


def return_freed_arrays() -> None:
    """Return large arrays to the system when they are freed.

    By default glibc keeps more and more of them: it raises its threshold with each one that is freed, and a
    diagnosis of large features would hold half as much memory again as it needs. Nothing changes without
    glibc.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, THRESHOLD)
