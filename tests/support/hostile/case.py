"""What a hostile file is, where it is written, and what it could reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Folders for one hostile file.

    Attributes:
        given: what the user was given, and opens.
        outside: what the file could reach: `secret.txt`, `secret.npy`, and more.
        mark: a file that only harm creates.
        port: of a server on this machine that waits for a connection.
    """

    given: Path
    outside: Path
    mark: Path
    port: int

    @property
    def program(self) -> str:
        """A command of the shell that leaves the mark."""
        return f"touch {self.mark}"


@dataclass(frozen=True)
class Hostile:
    """A hostile file.

    Attributes:
        kind: of file.
        tries: what it tries.
        write: writes it, and returns what is opened.
        read: opens it as a user would: a reader, or a command.
        says: pattern of the one line that is said; empty where it is read as plain content.
        needs: modules without which it cannot be tried.
        slow: whether it takes seconds, and is left to `make test-all` and `make soak`.
    """

    kind: str
    tries: str
    write: Callable[[Place], Path]
    read: Callable[[Path], object]
    says: str
    needs: Sequence[str] = ()
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.tries}"


def content(name: str, raw: bytes | Callable[[Place], bytes]) -> Callable[[Place], Path]:
    """Return what writes a file of some bytes."""

    def write(place: Place) -> Path:
        path = place.given / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw(place) if callable(raw) else raw)
        return path

    return write


@dataclass(frozen=True)
class Command:
    """Gives a command a path, in place of the word `PATH`.

    Attributes:
        words: of the command.
    """

    words: tuple[str, ...]

    def __call__(self, path: Path) -> None:
        from equipoise.cli import main

        main([word.replace("PATH", str(path)) for word in self.words])


def command(*words: str) -> Command:
    """Return what runs `equipoise` with these words."""
    return Command(words)
