"""The search space of every method: options, defaults inside, and ends that are valid."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from equipoise.methods import METHODS, create_method
from equipoise.methods.core.search import Choice, LogUniform, Uniform, Whole, space
from equipoise.types import UsageError

NEEDED: dict[str, dict[str, Any]] = {"fixed-modulation": {"factors": {"video": 0.5}}}
WITHOUT = {"joint", "unimodal", "ensemble", "pretrain-frozen", "fixed-modulation", "mla"}
"""Methods without options of their own that are numbers to tune."""


def named(method: str) -> str:
    return f"{method}:audio" if METHODS[method].argument else method


@pytest.mark.parametrize("method", METHODS)
def test_it_names_options_and_holds_their_defaults(method: str) -> None:
    searched = METHODS[method].search_space
    assert set(searched) <= {option.name for option in fields(METHODS[method])}
    # The settings that are searched for every method are told apart by their names.
    assert not {"lr", "weight_decay"} & set(searched)
    defaults = create_method(named(method), NEEDED.get(method)).options()
    for option, allowed in searched.items():
        assert defaults[option] in allowed, f"{method}.{option}: {defaults[option]} is not in {allowed}"


@pytest.mark.parametrize("method", METHODS)
def test_all_ends_are_valid(method: str) -> None:
    for option, allowed in METHODS[method].search_space.items():
        for end in allowed.ends:
            made = create_method(named(method), {**NEEDED.get(method, {}), option: end})
            assert made.options()[option] == end


def test_every_method_with_something_to_tune_has_one() -> None:
    assert {method for method in METHODS if not METHODS[method].search_space} == WITHOUT


def test_what_a_range_contains() -> None:
    assert 0.5 in Uniform(0, 1)
    assert 1 in Uniform(0, 1)
    assert 1.1 not in Uniform(0, 1)
    assert True not in Uniform(0, 1)
    assert 3 in Whole(1, 3)
    assert 2.5 not in Whole(1, 3)
    assert "b" in Choice(("a", "b"))
    assert "c" not in Choice(("a", "b"))
    around = LogUniform.around(0.1)
    assert (around.low, around.high) == (pytest.approx(0.01), pytest.approx(1.0))
    assert 0.1 in around


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: Uniform(1, 1), "the smaller first"),
        (lambda: Uniform(0, float("inf")), "finite"),
        (lambda: LogUniform(0, 1), "above 0"),
        (lambda: Whole(3, 2), "the smaller first"),
        (lambda: Choice(("a",)), "at least two"),
        (lambda: Choice(("a", "a")), "different"),
    ],
)
def test_an_impossible_range(make: Any, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        make()


def test_a_space_cannot_be_changed() -> None:
    made = space(alpha=Uniform(0, 1))
    with pytest.raises(TypeError):
        made["alpha"] = Uniform(0, 2)  # type: ignore[index]
