"""An error in a process that reads batches ahead is the error that reading here would give, in one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest

import equipoise as eq
from equipoise.cli import _unexpected
from equipoise.data import PreparedDataset, SplitData, fit_normalizers, make_loader, splits_of
from equipoise.types import DataError, EquipoiseError, MachineLimitError, MissingExtraError


def deadly(number: int) -> None:
    os.kill(os.getpid(), number)


class Faulty(SplitData):
    """Cannot be read by another process."""

    faults: ClassVar[dict[str, Any]] = {
        "data": lambda: _raise(DataError("it was changed; write it again.")),
        "package": lambda: _raise(MissingExtraError("av", "media", "reading video")),
        "memory": lambda: _raise(MemoryError()),
        "file": lambda: Path("/nowhere/a.npy").read_bytes(),
        "bug": lambda: _raise(KeyError("x")),
        "killed": lambda: deadly(signal.SIGKILL),
        "shortened": lambda: deadly(signal.SIGBUS),
        "ended": lambda: os._exit(3),
    }
    fault = ""

    def _batch(self, positions: Any) -> Any:
        if multiprocessing.parent_process() is not None:
            self.faults[self.fault]()
        return super()._batch(positions)


def _raise(error: Exception) -> None:
    raise error


def error_of(dataset: PreparedDataset, fault: str) -> Exception:
    splits = splits_of(dataset)
    data = Faulty(dataset, splits.train, fit_normalizers(dataset, splits.train), memory_limit=0)
    data.fault = fault
    try:
        list(make_loader(data, 8, num_workers=2))
    except Exception as error:
        error.__cause__ = error.__context__ = None  # with the loader they would keep its processes
        return error.with_traceback(None)
    pytest.fail("it was read")


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("data", DataError, "it was changed; write it again."),
        ("package", eq.UsageError, "reading video needs the package 'av': pip install 'equipoise[media]'"),
        ("memory", MachineLimitError, "there is not enough memory"),
        ("file", DataError, "cannot read /nowhere/a.npy (No such file or directory); check"),
        ("killed", MachineLimitError, "a process that reads batches was killed, probably by the system"),
        ("shortened", MachineLimitError, "a process that reads batches crashed (SIGBUS)"),
        (
            "ended",
            MachineLimitError,
            "a process that reads batches ended by itself; use fewer",
        ),
    ],
)
def test_an_error_of_another_process_is_that_of_this_one(
    dataset: PreparedDataset, fault: str, kind: type[EquipoiseError], says: str
) -> None:
    error = error_of(dataset, fault)
    assert isinstance(error, kind)
    assert str(error).startswith(says)
    assert "\n" not in str(error)


def test_a_fault_of_ours_is_named_without_the_traceback_of_the_other_process(
    dataset: PreparedDataset,
) -> None:
    assert _unexpected(error_of(dataset, "bug")).startswith("unexpected KeyError: 'x' (")
