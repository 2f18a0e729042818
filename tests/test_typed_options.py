from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_type_hints

import pytest

from equipoise.methods import METHODS
from equipoise.training.settings import Budget, Settings
from equipoise.typed_options import check_types, in_words
from equipoise.types import UsageError


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (float, "a number"),
        (int | None, "a whole number or None"),
        (int | Literal["run"], "a whole number or 'run'"),
        (float | dict[str, float] | None, "a number, a mapping or None"),
        (list[str] | tuple[str, ...] | None, "a list of texts or None"),
        (Sequence[int], "a list of whole numbers"),
        (str | Mapping[str, str], "a text or a mapping"),
        (bool, "True or False"),
    ],
)
def test_types_in_words(kind: Any, words: str) -> None:
    assert in_words(kind) == words


def test_no_option_shows_the_notation_of_python() -> None:
    for declared in (Settings, Budget, *METHODS.values()):
        hints = get_type_hints(declared)
        for name in declared.__dataclass_fields__:  # type: ignore[union-attr]
            assert not set("|[]") & set(in_words(hints[name])), (declared, name)
    with pytest.raises(UsageError, match=r"option 'lr' is 'fast'; expected a number or None\."):
        check_types(Budget, {"lr": "fast"})
