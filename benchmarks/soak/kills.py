"""Commands that are killed at random moments and continued."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from differences import difference

SECONDS = 10.0
"""Within which no process may be left."""
HANG = 300.0
"""Seconds after which a command that should end is taken to hang."""
WAYS = ("command", "worker", "all", "SIGTERM", "SIGINT")
"""Who is killed: the command alone, one of its workers, or all; or which signal the command gets."""


@dataclass(frozen=True)
class Case:
    """A command, and how its work is watched.

    Attributes:
        name: of the case.
        words: of the command, with `--resume` where it takes it, without `--out`.
        changes: patterns of files that are written while it works.
        ways: the ways of ending it that are drawn from; see `WAYS`.
        early: share of the moments that count from the start.
        longest: largest number of seconds after a change, for the others.
        resumes: whether it takes `--resume`; otherwise the same command resumes.
    """

    name: str
    words: Sequence[str]
    changes: Sequence[str]
    ways: Sequence[str] = ("all",)
    early: float = 0.25
    longest: float = 1.0
    resumes: bool = True

    def command(self, out: Path, *, resume: bool) -> list[str]:
        """Return the whole command."""
        more = ["--resume"] if resume and self.resumes else []
        return [sys.executable, "-m", "equipoise", *self.words, *more, "--out", str(out)]


@dataclass
class Killed:
    """One kill.

    Attributes:
        way: see `WAYS`.
        after: seconds from the start of the command.
        running: whether the command was still running.
        left: seconds until none of its processes was left; more than `SECONDS` is a failure.
        hung: whether the command did not end though it should.
        equal: whether what came out in the end is equal to that of an unbroken run.
        difference: what is not, and what the command printed where it failed.
    """

    way: str
    after: float
    running: bool
    left: float
    hung: bool = False
    equal: bool | None = None
    difference: str = ""


@dataclass
class Soak:
    """Kills a command again and again, in a folder of its own."""

    case: Case
    folder: Path
    draw: random.Random
    killed: list[Killed] = field(default_factory=list)

    def run(self, count: int) -> Iterator[Killed]:
        """Yield `count` kills, each once it is known what came out."""
        self.folder.mkdir(parents=True, exist_ok=True)
        whole, out = self.folder / "whole", self.folder / "killed"
        for path in (whole, out):
            shutil.rmtree(path, ignore_errors=True)
        if self._start(whole, resume=False).wait():
            raise RuntimeError(f"{self.case.name} fails by itself: {self._printed()}")
        open_kills: list[Killed] = []
        done = 0
        while done + len(open_kills) < count:
            process = self._start(out, resume=True)
            kill = self._kill(process, out)
            if kill.running:
                open_kills.append(kill)
            if self._ended_well(process):
                yield from self._closed(open_kills, out, whole)
                done, open_kills = done + len(open_kills), []
        if open_kills:
            process = self._start(out, resume=True)
            self._end(process)
            yield from self._closed(open_kills, out, whole)

    def _start(self, out: Path, *, resume: bool) -> subprocess.Popen[bytes]:
        """Start the command in a session of its own."""
        with (self.folder / "log.txt").open("wb") as log:
            return subprocess.Popen(
                self.case.command(out, resume=resume),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=heeding_interrupts,
            )

    def _printed(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")[-2000:]

    def _kill(self, process: subprocess.Popen[bytes], out: Path) -> Killed:
        begun, started = time.time(), time.monotonic()
        if self.draw.random() < self.case.early:
            time.sleep(self.draw.uniform(0, 8))
        else:
            until = started + HANG
            while process.poll() is None and time.monotonic() < until and not self._changed(out, begun):
                time.sleep(0.01)
            time.sleep(self.draw.uniform(0, self.case.longest))
        way = self.draw.choice(self.case.ways)
        kill = Killed(way, time.monotonic() - started, process.poll() is None, 0.0)
        if kill.running:
            end(process, way, self.draw)
        kill.hung = not self._end(process)
        kill.left = seconds_until_none(process.pid)
        return kill

    def _changed(self, out: Path, since: float) -> bool:
        found = (path for pattern in self.case.changes for path in out.parent.glob(pattern))
        for path in found:
            with contextlib.suppress(OSError):
                if path.stat().st_mtime > since:
                    return True
        return False

    def _end(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for the end of a command; return whether it came."""
        try:
            process.wait(HANG)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
        return True

    def _ended_well(self, process: subprocess.Popen[bytes]) -> bool:
        return process.returncode == 0

    def _closed(self, kills: list[Killed], out: Path, whole: Path) -> Iterator[Killed]:
        """Compare, clear the folder, and yield the kills with what came out."""
        found = difference(out, whole) if out.exists() else f"nothing was written: {self._printed()}"
        shutil.rmtree(out, ignore_errors=True)
        for kill in kills:
            kill.equal, kill.difference = not found, found
            yield kill


def heeding_interrupts() -> None:
    """Let a process be interrupted by Ctrl-C also where this one, in the background, is not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(process: subprocess.Popen[bytes], way: str, draw: random.Random) -> None:
    """End a command, or a part of it, in one of the `WAYS`."""
    with contextlib.suppress(ProcessLookupError):
        if way == "command":
            process.kill()
        elif way == "all":
            os.killpg(process.pid, signal.SIGKILL)
        elif way == "worker":
            others = [pid for pid in processes_of(process.pid) if pid != process.pid]
            os.kill(draw.choice(others or [process.pid]), signal.SIGKILL)
        elif way == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(getattr(signal, way))


def processes_of(session: int) -> list[int]:
    """Return the processes of a session that are still running, by their number."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended between listing and reading
            text = stat.read_text()
            state, _, _, of_session = text.rpartition(")")[2].split()[:4]
            if of_session == str(session) and state != "Z":
                found.append(int(text.split(" ", 1)[0]))
    return sorted(found)


def seconds_until_none(session: int) -> float:
    """Return after how many seconds no process of a session is left; at most three times `SECONDS`."""
    begun = time.monotonic()
    while processes_of(session) and time.monotonic() - begun < 3 * SECONDS:
        time.sleep(0.05)
    seconds = time.monotonic() - begun
    if processes_of(session):
        os.killpg(session, signal.SIGKILL)
    return seconds
