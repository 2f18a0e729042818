"""From gap to strength: the formula of the paper, other kinds, and bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.diagnosis import relearning_strength
from equipoise.types import UnknownNameError, UsageError


@pytest.mark.parametrize(("gap", "alpha"), [(0.0, 0.0), (0.1, 0.291), (0.3, 0.716), (0.5, 0.905)])
def test_values_of_the_paper(gap, alpha):
    assert relearning_strength(gap) == pytest.approx(alpha, abs=5e-4)
    assert relearning_strength(gap, lam=3.0) == relearning_strength(gap)


def test_kinds():
    assert relearning_strength(0.2, 2.0, kind="linear") == pytest.approx(0.4)
    assert relearning_strength(0.8, 2.0, kind="linear") == 1.0
    assert (
        relearning_strength(0.0, 0.25, kind="fixed") == relearning_strength(0.9, 0.25, kind="fixed") == 0.25
    )
    assert relearning_strength(0.1, 3.0, kind="fixed") == 1.0
    assert relearning_strength(0.5, 3.0, max_strength=0.3) == 0.3


@given(st.floats(0, 100), st.floats(0, 100), st.sampled_from(["tanh", "linear", "fixed"]), st.floats(0, 1))
def test_stays_between_zero_and_the_limit(gap, lam, kind, limit):
    strength = relearning_strength(gap, lam, kind=kind, max_strength=limit)
    assert 0 <= strength <= limit
    assert relearning_strength(gap, 0.0, kind=kind) == 0.0


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 5))
def test_grows_with_the_gap(one, other, lam):
    low, high = sorted([one, other])
    assert relearning_strength(low, lam) <= relearning_strength(high, lam)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gap": -0.1}, "gap is -0.1"),
        ({"gap": math.nan}, "gap is nan"),
        ({"gap": math.inf}, "gap is inf"),
        ({"gap": 0.1, "lam": -1}, "lam is -1"),
        ({"gap": 0.1, "lam": math.nan}, "lam is nan"),
        ({"gap": 0.1, "max_strength": 1.5}, "max_strength is 1.5"),
        ({"gap": 0.1, "max_strength": math.nan}, "max_strength is nan"),
    ],
)
def test_invalid_values(arguments, message):
    with pytest.raises(UsageError, match=message):
        relearning_strength(**arguments)


def test_an_unknown_kind_gives_a_suggestion():
    with pytest.raises(UnknownNameError, match="did you mean linear"):
        relearning_strength(0.1, kind="liner")
