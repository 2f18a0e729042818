"""Damaged copies of a file, the same for the same seed, and the check that a reader refuses each of them.

`EQUIPOISE_MUTATIONS=10000` tries so many of each file instead of the few hundred of the suite, and
`EQUIPOISE_EVIDENCE=FILE.jsonl` keeps what came out; see `evidence`. Inputs are searched by `guided`.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.types import EquipoiseError
from evidence import add_row
from guided import VARIABLE as GUIDED
from guided import explore
from limits import Late, Taken, limited

EXTREMES = (0, 1, *(2**bits + more for bits in (7, 8, 15, 16, 28, 31, 32, 62, 63, 64) for more in (-1, 0)))
HARMFUL = re.compile("\n|weights_only|allow_pickle|max_header_size|safe_globals")
"""No message has several lines, or says how to run the code in a file."""
ROOM = 64 * 2**20
"""Bytes that a reader may take beside twice what the whole file needs: allocators take memory in pieces."""


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


@dataclass
class Tried:
    """What came of the damaged copies of a file.

    Attributes:
        reader, file: which reader, and which file.
        count: how many were tried.
        refused: how many were refused; the others were read.
        slowest: most seconds of the processor that one took.
        most: most memory that one took, beyond what the whole file takes.
        failed: what went wrong, which ends the test.
    """

    reader: str
    file: str
    count: int = 0
    refused: int = 0
    slowest: float = 0.0
    most: int = 0
    failed: str = ""
    need: int = field(default=0, repr=False)

    def add(self, what: str, said: str | None, taken: Taken) -> None:
        """Count a copy.

        Raises:
            AssertionError: its message is none, or it took too much memory.
        """
        self.count += 1
        self.refused += said is not None
        self.slowest = max(self.slowest, taken.seconds)
        self.most = max(self.most, taken.bytes - self.need)
        assert not HARMFUL.search(said or ""), f"{what} says {said}"
        allowed = 2 * self.need + ROOM
        assert taken.bytes <= allowed, f"{what} takes {taken.bytes:,} bytes, {allowed:,} are allowed"

    def row(self) -> dict[str, Any]:
        """Return what is kept of it."""
        values = {name: value for name, value in vars(self).items() if name != "need"}
        return values | {"slowest": round(self.slowest, 3), "read": self.count - self.refused}


def refuses_all(
    read: Callable[[Path], object],
    file: Path,
    few: int = 100,
    *,
    reader: str,
    other: bytes = b"",
    typed: tuple[type[Exception], ...] = (EquipoiseError,),
) -> int:
    """Let `read` read damaged copies of `file`, which are written in its place.

    Returns how many were refused; a copy may also be as good as the file.

    Args:
        read: reads the file.
        file: a whole one.
        few: how many are tried, unless the environment asks for another number.
        reader: what reads it, for the evidence.
        other: bytes of which parts are spliced in.
        typed: the errors that it may raise.

    Raises:
        AssertionError: the error of one is not `typed` or has several lines, or it took too much time or
            memory; the message names the seed.
    """
    content, tried = file.read_bytes(), Tried(reader, file.name)
    read(file)  # which is whole; and whatever the reader imports is there
    with limited(file.name) as taken:
        read(file)
    tried.need = taken.bytes

    def try_one(damaged: bytes, what: str = file.name) -> None:
        file.write_bytes(damaged)
        with limited(what) as taken:
            said = refusal(read, file, typed, what)
        tried.add(what, said, taken)

    if guided := int(os.environ.get(GUIDED, "0")):
        row = explore(try_one, tried.row, (content, other), guided)
        file.write_bytes(content)
        add_row(**row)
        assert not row["failed"], row["failed"]
        return int(row["refused"])
    try:
        for seed in range(count_of(few)):
            try_one(mutated(content, seed, other), f"mutation {seed} of {file.name}")
    except (AssertionError, Late) as error:
        tried.failed = str(error)
        raise
    finally:
        file.write_bytes(content)
        add_row(**tried.row())
    read(file)
    return tried.refused


def refusal(
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
