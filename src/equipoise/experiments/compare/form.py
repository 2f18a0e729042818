"""The form of `summary.json`, which tables, pages and sentences read without asking whether it is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, Final

from equipoise.files.untrusted import Refuse

LARGEST: Final = 2**63
"""Whole numbers are below it, so that a table can hold them."""
WORDS: Final = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class Rows:
    """A list, and the form of each entry."""

    form: Form


@dataclass(frozen=True)
class Block:
    """A mapping.

    Attributes:
        held: forms of the entries that it has.
        more: forms of entries that it may have.
        others: form of all others; None stands for any.
        absent: whether null may stand in its place.
    """

    held: Mapping[str, Form] = field(default_factory=dict)
    more: Mapping[str, Form] = field(default_factory=dict)
    others: Form | None = None
    absent: bool = False


Form = type | tuple[type, ...] | Rows | Block
NUMBER: Final = (int, float, NoneType)
COUNT: Final = int
TEXTS: Final = Rows(str)
DIFFERENCE: Final = Block(
    dict.fromkeys(("mean", "low", "high", "p_value"), NUMBER) | {"n": COUNT}, others=NUMBER, absent=True
)
FLOOR: Final = Block({"mean": NUMBER, "difference": NUMBER, "below": COUNT, "n": COUNT}, absent=True)
METHOD: Final = Block(
    {
        "n": COUNT,
        **dict.fromkeys(
            ("mean", "std", "train_seconds_mean", "forward_samples_mean", "macro_f1_mean"), NUMBER
        ),
    },
    {
        "difference_to_joint": DIFFERENCE,
        "cost": Block(others=NUMBER, absent=True),
        "floor": FLOOR,
        "failed": COUNT,
        "rank": (int, NoneType),
        "validation_mean": NUMBER,
        "experimental": bool,
        "train_data": (str, NoneType),
        "options": Block(absent=True),
    },
)
TUNED: Final = Block(
    {
        **dict.fromkeys(("finished", "pruned", "failed"), COUNT),
        **dict.fromkeys(("default", "best"), NUMBER),
        "trial": (int, NoneType),
        "chosen": Block(others=NUMBER),
        "options": Block(),
    }
)
TUNING: Final = Block(
    {"trials": COUNT, "figure": str, "seeds": Rows(COUNT), "methods": Block(others=TUNED)},
    {"budgets": Block(others=str), "folder": str},
    absent=True,
)
SUMMARY_FORM: Final = Block(
    {
        "dataset": str,
        "model": str,
        "seeds": Rows(COUNT),
        "metric": str,
        "not_ranked_because": TEXTS,
        "methods": Block(others=METHOD),
    },
    {
        "task": str,
        "ranked": bool,
        "ranked_despite": TEXTS,
        "left_out": Block(others=str),
        "missing_references": TEXTS,
        "tuning": TUNING,
    },
)


def check_form(value: Any, form: Form, refuse: Refuse, file: str, where: str = "") -> None:
    """Raise the error of `refuse` where what a file holds has another form."""
    place = f" for {where}" if where else ""
    if isinstance(form, Block):
        if value is None and form.absent:
            return
        if not isinstance(value, dict):
            raise refuse(f"{file} has {_short(value)}{place}, expected a mapping")
        inside = f" in {where}" if where else ""
        if lacking := [key for key in form.held if key not in value]:
            raise refuse(f"{file} has no {lacking[0]!r}{inside}")
        for key, entry in value.items():
            own = form.held.get(key, form.more.get(key, form.others))
            if own is not None:
                check_form(entry, own, refuse, file, f"{key!r}{inside}")
    elif isinstance(form, Rows):
        if not isinstance(value, list):
            raise refuse(f"{file} has {_short(value)}{place}, expected a list")
        for entry in value:
            check_form(entry, form.form, refuse, file, where)
    elif not _fits(value, form if isinstance(form, tuple) else (form,)):
        kinds = form if isinstance(form, tuple) else (form,)
        words = [WORDS[kind] for kind in kinds if kind in WORDS and not (kind is int and float in kinds)]
        raise refuse(f"{file} has {_short(value)}{place}, expected {' or '.join(words)}")


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool):  # which Python counts as a whole number
        return bool in kinds
    return isinstance(value, kinds) and not (isinstance(value, int) and abs(value) >= LARGEST)


def _short(value: Any) -> str:
    return repr(value)[:80]
