"""How this process gives memory back."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

M_MMAP_THRESHOLD: Final = -3
THRESHOLD: Final = 4 * 2**20


def return_freed_arrays() -> None:
    """Have large arrays go back to the system when they are freed.

    glibc otherwise keeps more and more of them for itself (it raises its threshold with each one that is
    freed): a diagnosis of large features would hold half as much again as it needs. Where there is no glibc
    nothing changes.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, THRESHOLD)
