"""Out of memory: one line says it and what to do, and the last good state is there to go on from."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import equipoise as eq
import synthetic
from commands import command
from equipoise.data.prepare.engine import prepare
from equipoise.files.limits import machine_limit
from equipoise.types import MachineLimitError
from evidence import add_row
from moments import before_change
from readers_of_tests import numbers

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its memory in /proc")

WIDE = 18_000
"""Features of a sample: a batch takes more than the C library ever keeps for reuse (32 MiB)."""
SETTINGS = ["--epochs", "2", "--checkpoint-every", "1", "--diagnose-every", "0", "--batch-size", "700"]
SETTINGS += ["--encoder-option", "wide.hidden=[2]"]
CAUSE = "there is not enough memory"
REMEDY = "make batches smaller (--batch-size), use fewer processes (--workers"


def no_more_memory(left: int = 16 * 2**20) -> None:
    """Let this process grow by at most so many bytes from now on."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + left, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextmanager
def memory_given_back() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, target = np.random.default_rng(0), np.arange(800) % 2
    wide = rng.integers(0, 9, (800, WIDE), dtype=np.uint8) + target[:, None].astype(np.uint8)
    inputs = {"wide": wide, "narrow": rng.normal(size=(800, 4)).astype(np.float32)}
    return eq.write_dataset(tmp_path_factory.mktemp("data") / "two", inputs, target).path


@pytest.mark.parametrize(
    ("name", "moment", "extra"),
    [
        ("train", "checkpoint.pt", []),
        pytest.param(
            "compare",
            "joint-seed0/.checkpoint",
            ["--methods", "joint", "ogm", "--seeds", "1", "--workers", "1"],
            marks=pytest.mark.matrix,
        ),
    ],
)
def test_a_training_goes_on_from_its_checkpoint(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, moment: str, extra: list[str]
) -> None:
    out = tmp_path / "out"
    words = [name, "--data", data, *SETTINGS, "--out", out, *extra]
    with memory_given_back(), before_change(out, moment, no_more_memory):
        said = command(capsys, *words)
    assert said.code == 1
    lines = [line for line in said.err.splitlines() if CAUSE in line]
    assert all(REMEDY in line for line in lines)
    assert "Traceback" not in said.err
    assert len(lines) == 1 if name == "train" else len(lines) >= 2  # while it goes on, and at the end
    checkpoints = list(out.rglob("checkpoint.pt"))
    assert len(checkpoints) == 1
    assert command(capsys, *words, "--resume").code == 0
    add_row(
        part="adversity", what=name, moment="RLIMIT_AS", said=lines[-1], kept="the checkpoint", went_on=True
    )


@pytest.mark.matrix
def test_a_comparison_of_which_a_worker_is_killed(tmp_path: Path) -> None:
    """The kernel kills one process; the command tries its run again, from the checkpoint."""
    small, out = synthetic.write(tmp_path / "set").path, tmp_path / "out"
    words = ["compare", "--data", str(small), "--methods", "joint", "ogm", "--seeds", "1", "--workers", "2"]
    words += ["--epochs", "150", "--checkpoint-every", "1", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "equipoise", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 120
    while len(list(out.glob("runs/*/checkpoint.pt"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    (worker,) = workers_of(process.pid)[:1]
    os.kill(worker, signal.SIGKILL)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    (warning,) = [
        line for line in said.splitlines() if line.startswith("warning: a worker process was killed")
    ]
    assert "probably by the system for want of memory; use fewer processes (--workers)" in warning
    assert "joint-seed0" in warning or "ogm-seed0" in warning
    assert set(pd.read_csv(out / "results.csv")["status"]) == {"ok"}
    row = {"said": warning, "kept": "the checkpoints", "went_on": True}
    add_row(part="adversity", what="compare, 2 workers", moment="worker killed", **row)


def workers_of(pid: int) -> list[int]:
    """Return the processes of the pool that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended between listing and reading
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
    return found


def test_features_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is whole: nobody is told to write it again."""
    rng, labels = np.random.default_rng(0), np.arange(600) % 2
    features = rng.normal(size=(600, WIDE)).astype(np.float32)
    np.savez(tmp_path / "a.npz", train_a=features, val_a=features, train_labels=labels, val_labels=labels)
    with memory_given_back():
        no_more_memory()
        said = command(capsys, "diagnose", "--features", tmp_path / "a.npz")
    assert said.code == 1
    assert said.line.startswith(f"equipoise: {CAUSE} for ")
    assert REMEDY in said.line
    add_row(
        part="adversity", what="diagnose", moment="RLIMIT_AS", said=said.line, kept="the file", went_on=False
    )


@pytest.mark.parametrize(
    ("word", "isolated", "said"),
    [
        ("memory", False, f"reading 'n11': {CAUSE} for 3.91 GiB more"),
        ("killed", True, "'n11' was killed"),
    ],
)
def test_a_sample_that_does_not_fit_is_not_lost(tmp_path: Path, word: str, isolated: bool, said: str) -> None:
    """A dataset must not depend on the memory of the machine that prepared it."""
    plan = numbers(tmp_path / "in", 20, words={11: word})
    with pytest.raises(MachineLimitError) as told:
        prepare(plan, tmp_path / "out", workers=1, isolated=isolated)
    assert said in str(told.value)
    assert "(--workers" in str(told.value)
    assert not (tmp_path / "out").exists()
    (tmp_path / "in" / "11.txt").write_text("11")  # as if there were more memory
    done = prepare(plan, tmp_path / "out", workers=1)
    assert (done.summary.total, done.summary.lost) == (20, ())
    assert done.summary.read <= 12
    row = {"said": str(told.value), "kept": "the samples read before", "went_on": True}
    add_row(part="adversity", what="prepare", moment=word, **row)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate 4.66 GiB for an array"), f"{CAUSE} for 4.66 GiB more"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 96 bytes"), CAUSE),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            f"{CAUSE} for 2.00 GiB more on the acc",
        ),
        (RuntimeError("std::bad_alloc"), CAUSE),
        (ImportError("a.so: failed to map segment: Cannot allocate memory"), CAUSE),
        (OSError(12, "Cannot allocate memory"), CAUSE),
        (
            ImportError("a.so: cannot open shared object file: Too many open files"),
            "cannot open a package: too",
        ),
        (ValueError("the text says out of memory"), None),
        (ImportError("a.so: wrong ELF class"), None),
        (ImportError("a.so: cannot allocate memory in static TLS block"), None),
        (ImportError("a.so: failed to map segment from shared object"), None),  # without any limit
        (OSError(13, "Permission denied"), None),
    ],
)
def test_what_is_a_limit_of_the_machine(error: Exception, said: str | None) -> None:
    found = machine_limit(error)
    assert found is None if said is None else str(found).startswith(said)
    if "failed to map" in str(error):
        with memory_given_back():
            no_more_memory(2**30)
            assert machine_limit(error) is not None
    outer = KeyError("no such key")
    outer.__cause__ = error
    assert (machine_limit(outer) is None) == (said is None)
