"""Read texts, JSON and YAML that others wrote.

A damaged file can make a parser raise any error, and a file made for it can cost a parser any time or memory.
Here every error becomes one of Equipoise, and what a file may ask for is in proportion to its size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from equipoise.files.limits import check_machine
from equipoise.files.printable import printable
from equipoise.types import EquipoiseError

if TYPE_CHECKING:
    import yaml

Refuse = Callable[[str], EquipoiseError]
"""Returns the error for what was found, the middle of a sentence, often followed by what to do."""

DEEPEST: Final = 100
"""Containers inside one another; code that walks through them calls itself for each."""
LARGEST: Final = 2**30
"""Bytes of a text that is parsed at once."""
LARGEST_STREAM: Final = 2**24
"""Of one that is no file: a link may lead to a device without an end."""
LARGEST_YAML: Final = 2**24
_FEW: Final = 10_000
_MERGED: Final = 20
_LONGEST: Final = 300
# What parsers advise to make a file run its code after all: np.load, torch.load.
_HARMFUL: Final = re.compile(r"weights_only|allow_pickle|max_header_size|safe_globals")
_REQUESTED: Final = re.compile(r"GLOBAL ([\w.]+)")
ABSENT: Final = (FileNotFoundError, NotADirectoryError)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none, without harmful advice."""
    text = str(error)
    if _HARMFUL.search(text):
        named = _REQUESTED.search(text)
        found = f"requests the Python object {named[1]!r}" if named else "holds Python objects, or is damaged"
        return f"it {found}; such a file may run code, and is not opened"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, KeyError):
        return f"it has no {text}"
    text = text.partition("; use sys.")[0]  # Python advises how to read a number without an end after all
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return printable(next(filter(None, lines), type(error).__name__))[:_LONGEST]


@contextmanager
def parsing(refuse: Refuse, *passed: type[Exception]) -> Iterator[None]:
    """Raise what `refuse` returns for any error in a block that parses a file.

    The errors of Equipoise are raised as they are, and those that are `passed`.

    Raises:
        MachineLimitError: see `check_machine`.
    """
    kept: tuple[type[Exception], ...] = (EquipoiseError, *passed)
    try:
        yield
    except kept:
        raise
    except Exception as error:
        check_machine(error)
        raise refuse(first_line(error)) from error


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return a text; an encoding error says so, and one of more than a GiB is not read.

    Raises:
        OSError, ValueError: it cannot be read; for `parsing`.
    """
    most = LARGEST if path.is_file() else LARGEST_STREAM
    content = bytearray()
    with path.open("rb") as file:
        while part := file.read(2**20):  # asked for all at once, it takes the memory of the largest
            content += part
            if len(content) > most:
                raise ValueError(f"it has more than {most} bytes")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not {encoding} text ({error.reason} at byte {error.start})") from None


def read_json(path: Path, refuse: Refuse, kind: type = dict) -> Any:
    """Read a JSON file that holds a value of the type `kind`.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        EquipoiseError: what `refuse` returns: it cannot be read, is no JSON, holds another value, or is
            nested more than `DEEPEST` deep.
        MachineLimitError: see `check_machine`.
    """
    with parsing(refuse, *ABSENT):
        return parse_json(read_text(path), kind)


def parse_json(text: str, kind: type = dict) -> Any:
    """Parse JSON; see `read_json`.

    Raises:
        ValueError, RecursionError: it is invalid; for `parsing`.
    """
    return _checked(json.loads(text), kind, len(text))


def read_yaml(path: Path, refuse: Refuse, kind: type = dict) -> Any:
    """Read a YAML file of plain values; see `read_json`. Aliases and merges cannot multiply its content."""
    with parsing(refuse, *ABSENT):
        return parse_yaml(read_text(path), kind=kind)


def parse_yaml(text: str, loader: type[yaml.SafeLoader] | None = None, kind: type = object) -> Any:
    """Parse YAML with a safe loader; see `read_yaml`.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: it is invalid; for `parsing`.
    """
    import yaml

    if len(text) > LARGEST_YAML:
        raise ValueError(f"it has {len(text)} letters, expected at most {LARGEST_YAML}")
    base = loader or yaml.SafeLoader

    class Bounded(base):  # type: ignore[misc, valid-type]
        """Refuses keys that are merged into one another until there is no memory left."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            merged = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
            if sum(len(value.value) if value.id == "sequence" else 1 for value in merged) > _MERGED:
                raise ValueError(f"it merges (<<) more than {_MERGED} mappings into one")
            super().flatten_mapping(node)
            if len(node.value) > _FEW + len(text):
                raise ValueError("its merged keys (<<) multiply its content")

    return _checked(yaml.load(text, Bounded), kind, len(text))


def _checked(value: Any, kind: type, length: int) -> Any:
    """Check the kind of a parsed value, and that it is not much larger than the `length` of its text."""
    if not isinstance(value, kind):
        raise ValueError(f"it holds {_NAMES.get(type(value), 'a single value')}, expected {_NAMES[kind]}")
    if _measured(value, 0, {})[1] > _FEW + 10 * length:
        raise ValueError("its aliases multiply its content")
    return value


_NAMES: Final = {dict: "a mapping", list: "a list", str: "a text", object: "a value"}


def _measured(value: Any, depth: int, done: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return height and number of the values in a value, counting a shared one each time."""
    if not isinstance(value, dict | list | tuple | set):
        return 0, 1
    if id(value) not in done:
        if depth > DEEPEST:  # or it contains itself
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        entries = value.values() if isinstance(value, dict) else value
        inside = [_measured(entry, depth + 1, done) for entry in entries]
        height = 1 + max((one for one, _ in inside), default=0)
        if height > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        done[id(value)] = height, 1 + sum(size for _, size in inside)
    return done[id(value)]
