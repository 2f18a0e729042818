"""Damaged copies of a file, the same for the same seed, and the check that a reader refuses each of them.

`EQUIPOISE_MUTATIONS=10000` tries so many of each file instead of the few hundred of the suite.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from equipoise.types import EquipoiseError

EXTREMES = (0, 1, *(2**bits + more for bits in (7, 8, 15, 16, 28, 31, 32, 62, 63, 64) for more in (-1, 0)))
HARMFUL = re.compile("\n|weights_only|allow_pickle|max_header_size|safe_globals")
"""No message has several lines, or says how to run the code in a file."""
SECONDS = 10
"""No damaged file of a few kilobytes may cost a reader more."""
BYTES = 500 * 2**20
"""Nor take more memory."""


def mutated(content: bytes, seed: int, other: bytes = b"") -> bytes:
    """Return a copy with one to four faults: flipped, cut, repeated, spliced, or with an extreme number.

    Parts of `other` are spliced in too, if it is given.
    """
    draw = random.Random(seed)
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        size = max(1, len(data))
        place, length = draw.randrange(size), draw.choice((1, 1, 2, 4, 8, 16, 64, 512))
        kind = draw.choice(("flip", "flip", "set", "cut", "end", "repeat", "splice", "number", "number"))
        if kind == "flip":
            data[place : place + 1] = bytes(one ^ (1 << draw.randrange(8)) for one in data[place : place + 1])
        elif kind == "set":
            data[place : place + length] = draw.randbytes(length)
        elif kind == "cut":
            del data[place : place + length]
        elif kind == "end":
            del data[place:]
        elif kind == "repeat":
            data[place:place] = data[place : place + length] * draw.choice((1, 2, 10, 100))
        elif kind == "splice":
            source = draw.choice((other, bytes(data))) or bytes(data)
            begin = draw.randrange(max(1, len(source)))
            data[place : place + draw.choice((0, length))] = source[begin : begin + length]
        else:
            width, order = draw.choice((1, 2, 4, 8)), draw.choice(("little", "big"))
            number = draw.choice(EXTREMES) % 2 ** (8 * width)
            text = draw.random() < 0.2
            raw = str(draw.choice(EXTREMES)).encode() if text else number.to_bytes(width, order)
            data[place : place + len(raw)] = raw
    return bytes(data)


def count_of(few: int) -> int:
    """Return how many mutations to try: `few`, or what the environment asks for."""
    return int(os.environ.get("EQUIPOISE_MUTATIONS", few))


def refuses_all(
    read: Callable[[Path], object],
    file: Path,
    few: int = 300,
    *,
    other: bytes = b"",
    typed: tuple[type[Exception], ...] = (EquipoiseError,),
) -> int:
    """Let `read` read damaged copies of `file`, which are written in its place.

    Returns how many were refused; a copy may also be as good as the file.

    Raises:
        AssertionError: the error of one is not `typed` or has several lines, or it took too much time or
            memory; the message names the seed.
    """
    content, refused = file.read_bytes(), 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for seed in range(count_of(few)):
            what = f"mutation {seed} of {file.name}"
            file.write_bytes(mutated(content, seed, other))
            with _in_time(what):
                said = _refusal(read, file, typed, what)
            refused += said is not None
            assert not re.search("\n|weights_only|allow_pickle|max_header_size|safe_globals", said or ""), (
                said
            )
            grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            assert grown < BYTES, f"{what} takes {grown:,} bytes"
    finally:
        file.write_bytes(content)
    read(file)  # which is whole
    return refused


def _refusal(
    read: Callable[[Path], object], file: Path, typed: tuple[type[Exception], ...], what: str
) -> str | None:
    """Return what a reader says of a file, or None if it reads it."""
    try:
        read(file)
    except typed as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{what} gives {type(error).__name__}: {error}") from error
    return None


class Late(BaseException):
    """A reader takes too long; no `except Exception` of the reader catches it."""


@contextmanager
def _in_time(what: str) -> Iterator[None]:
    def late(*_: object) -> None:
        raise Late(f"{what} takes more than {SECONDS} seconds")

    earlier = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
