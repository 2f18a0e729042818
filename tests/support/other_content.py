"""Valid JSON and YAML with other content than a reader expects: entries left out, added, or of another kind.

Damaged copies (see `mutations`) seldom parse; these always do, so that they reach what reads the entries.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from equipoise.types import EquipoiseError
from evidence import add_row
from limits import Late, limited
from mutations import Tried, count_of, refusal

Place = tuple[str | int, ...]
NAMES = ["", "x", "audio", "event", "epoch", "methods", "mean"]
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.sampled_from([10**30, -(2**63), 2**31]),
    st.floats(),
    st.sampled_from(NAMES),
    st.text(max_size=5),
)
CONTENT = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=5,
)


def places(content: Any, above: Place = ()) -> Iterator[Place]:
    """Yield the place of every entry."""
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield (*above, key)
        yield from places(content[key], (*above, key))


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """Draw a copy in which one to three entries are left out, added, or replaced."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        if not (known := list(places(content))):
            return draw(CONTENT)
        *above, last = draw(st.sampled_from(known))
        around = content
        for key in above:
            around = around[key]
        how = draw(st.sampled_from(["replace", "replace", "leave out", "add"]))
        if how == "leave out":
            del around[last]
        elif how == "replace":
            around[last] = draw(CONTENT)
        elif isinstance(around, dict):
            around[draw(st.sampled_from(NAMES))] = draw(CONTENT)
        else:
            around.insert(last, draw(CONTENT))
    return content


def load(file: Path) -> Any:
    """Return the content of a JSON or YAML file, or of JSON lines."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)


def dump(file: Path, content: Any) -> None:
    """Write what `load` reads."""
    if file.suffix == ".jsonl":
        lines = content if isinstance(content, list) else [content]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    else:
        file.write_text((json.dumps if file.suffix == ".json" else yaml.safe_dump)(content), encoding="utf-8")


def refuses_other_content(read: Callable[[Path], object], file: Path, *, reader: str, few: int = 60) -> None:
    """Let `read` read `file` with other content, which it reads or refuses in one line by a typed error.

    `EQUIPOISE_MUTATIONS` tries so many instead of `few`.

    Raises:
        AssertionError: the error of one is another, or it took too much time or memory; it is shown.
    """
    whole, content, tried = file.read_bytes(), load(file), Tried(f"{reader}, other content", file.name)
    read(file)
    with limited(file.name) as taken:
        read(file)
    tried.need = taken.bytes

    @settings(
        max_examples=count_of(few),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changed(content))
    def try_one(other: Any) -> None:
        dump(file, other)
        with limited(file.name) as taken:
            said = refusal(read, file, (EquipoiseError,), file.name)
        tried.add(file.name, said, taken)

    try:
        try_one()
    except (AssertionError, Late) as error:
        tried.failed = str(error)
        raise
    finally:
        file.write_bytes(whole)
        add_row(**tried.row())
