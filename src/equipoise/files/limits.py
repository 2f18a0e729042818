"""Limits of the machine: an error that they cause is said as what it is, and not as that of a file."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from equipoise.files.printable import printable
from equipoise.types import EquipoiseError, MachineLimitError

_OPEN_FILES: Final = {errno.EMFILE: "Too many open files", errno.ENFILE: "Too many open files in system"}
# The errors of torch, pandas, SQLite, C++ and the loader of shared libraries have these words.
_MEMORY: Final = re.compile(
    r"out of memory|(can't|cannot|unable to) allocate(?! memory in static TLS)|not enough memory|bad_alloc"
    r"|can't start new thread",
    re.I,
)
_UNMAPPED: Final = "failed to map segment from shared object"
# torch raises this wherever the process that trains happens to be.
_LOST_READER: Final = re.compile(r"DataLoader worker \(pid.*?\) (?:is killed by signal: ([^.]*)|exited)")
_WANTED: Final = re.compile(r"allocate ((?:\d[\d.]*) ?[KMGT]?i?B(?:ytes)?)", re.I)


def check_machine(error: BaseException) -> None:
    """Raise MachineLimitError if the machine has caused an error; see `machine_limit`."""
    if (limit := machine_limit(error)) is not None:
        raise limit from error


@contextmanager
def machine_limits() -> Iterator[None]:
    """Raise MachineLimitError where a block ends with an error that the machine has caused."""
    try:
        yield
    except EquipoiseError:
        raise  # that says more
    except Exception as error:
        check_machine(error)
        raise


def machine_limit(error: BaseException) -> MachineLimitError | None:
    """Return what to say if an error, or what caused it, is a lack of memory or of open files; else None.

    The loss of a process that was reading batches counts as one too.
    """
    cause: BaseException | None = error
    seen: list[BaseException] = []
    while cause is not None and cause not in seen:
        if isinstance(cause, MachineLimitError):
            return cause
        text = str(cause)
        for code, words in _OPEN_FILES.items():
            if isinstance(cause, OSError) and cause.errno == code:
                return _too_many(code, f" {printable(str(cause.filename))}" if cause.filename else " a file")
            if isinstance(cause, ImportError) and words in text:
                return _too_many(code, f" {cause.path}" if cause.path else " a package")
        if isinstance(cause, RuntimeError) and (lost := _LOST_READER.match(text)):
            signalled = _LOST_READER.match(str(cause.__cause__))
            return _lost_reader((signalled or lost)[1])
        if _lacks_memory(cause, text):
            return _no_memory(text)
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _lacks_memory(error: BaseException, text: str) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    spoken = isinstance(error, RuntimeError | ImportError) or type(error).__module__.startswith(
        ("pandas", "sqlite3", "sqlalchemy", "pyarrow")
    )
    # That may also be a disk from which nothing may be run (noexec).
    unmapped = isinstance(error, ImportError) and text.endswith(_UNMAPPED) and bool(_here("AS", "{}"))
    return isinstance(error, MemoryError) or unmapped or (spoken and bool(_MEMORY.search(text)))


def _lost_reader(how: str | None) -> MachineLimitError:
    """Return what to say of a process that was reading batches; `how` are the words for its signal."""
    ended = {
        None: "ended by itself",
        "Killed": "was killed, probably by the system for want of memory",
        "Bus error": "crashed (SIGBUS): a file that it was reading has become shorter, or /dev/shm is full",
    }.get(how, f"crashed ({how})")
    return MachineLimitError(
        f"a process that reads batches {ended}; use fewer (--num-workers), or smaller batches "
        "(--batch-size), and run the same command again, with --resume (resume=True) where it trains."
    )


def _too_many(code: int, name: str) -> MachineLimitError:
    where = " on this machine" if code == errno.ENFILE else _here("NOFILE", "open {}")
    return MachineLimitError(
        f"cannot open{name}: too many files are open{where}; allow more ('ulimit -n 4096'), or use fewer "
        "processes."
    )


def _no_memory(text: str) -> MachineLimitError:
    wanted = _WANTED.search(text)
    more = f" for {wanted[1]} more" if wanted else ""
    where = (
        " on the accelerator" if re.search(r"CUDA|HIP|XPU|MPS", text) else _here("AS", "use {} MiB", 2**20)
    )
    return MachineLimitError(
        f"there is not enough memory{more}{where}; make batches smaller (--batch-size), use fewer processes "
        "(--workers, --num-workers), or a machine with more."
    )


def _here(name: str, may: str, unit: int = 1) -> str:
    """Return what the limit of a resource in this process is, in words; nothing where there is none."""
    try:
        import resource

        limit = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
    except (ImportError, OSError, AttributeError, MemoryError):  # Windows; or it cannot be imported, either
        return " in this process"
    return (
        "" if limit == resource.RLIM_INFINITY else f" in this process, which may {may.format(limit // unit)}"
    )
