"""Time and memory that a block may take, and has taken."""

from __future__ import annotations

import contextlib
import faulthandler
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

SECONDS = 5.0
"""Of the processor that a block may take: on a busy machine the clock says little."""
BY_THE_CLOCK = 60.0
"""Seconds after which a block that takes no time of the processor is taken to hang."""
STATUS, PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Late(BaseException):
    """A block takes too long; no `except Exception` within it catches it."""


@dataclass
class Taken:
    """What a block has taken.

    Attributes:
        seconds: of the processor.
        bytes: of memory, at its peak, more than before.
    """

    seconds: float = 0.0
    bytes: int = 0


@contextmanager
def limited(what: str, seconds: float = SECONDS) -> Iterator[Taken]:
    """Measure a block, which is ended when it takes more than some seconds of the processor.

    Raises:
        Late: it takes more; `what` is named. Code that gives Python no chance to stop it ends the process.
    """

    def late(number: int, _: object) -> NoReturn:
        kind = "of the processor" if number == signal.SIGPROF else "by the clock"
        raise Late(f"{what} takes more than {seconds if number == signal.SIGPROF else BY_THE_CLOCK} s {kind}")

    taken = Taken()
    earlier = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    with contextlib.suppress(ValueError, OSError):  # the error stream may be no file
        faulthandler.dump_traceback_later(2 * BY_THE_CLOCK, exit=True, file=sys.__stderr__)
    held, begun = _memory(), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, BY_THE_CLOCK)
    try:
        yield taken
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        taken.seconds = time.process_time() - begun
        taken.bytes = max(0, _peak() - held)
        faulthandler.cancel_dump_traceback_later()
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _memory() -> int:
    """Return the memory in use, from which the peak is counted from now on."""
    with contextlib.suppress(OSError):
        PEAK.write_text("5")
    return _of_status("VmRSS") if PEAK.exists() else _largest()


def _peak() -> int:
    return _of_status("VmHWM") if PEAK.exists() else _largest()


def _of_status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def _largest() -> int:
    """Return the peak since the start, where the system knows no other."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
