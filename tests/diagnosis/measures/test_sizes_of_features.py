"""Features of any size: multiplied by a power of two, they give exactly the same numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import equipoise as eq
from equipoise.diagnosis.features.projections import KINDS, project

ONE = np.ones(5)
FACTORS = {
    "huge": 2.0**660 * ONE,  # 5e198: its square is infinite
    "the largest": 2.0**1020 * ONE,  # its range is infinite
    "tiny": 2.0**-600 * ONE,  # its square is zero
    "one huge": np.array([2.0**660, 1, 1, 1, 1]),
}


class Given(NamedTuple):
    """Features and labels of both splits, as `diagnose` takes them."""

    train: dict[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    val: dict[str, NDArray[np.float64]]
    val_labels: NDArray[np.int64]


@pytest.fixture(scope="module")
def given() -> Given:
    generator = np.random.default_rng(0)
    labels, val_labels = np.arange(60) % 3, np.arange(30) % 3
    centres = generator.normal(size=(3, 5))
    train, val = (centres[y] + generator.normal(size=(len(y), 5)) / 2 for y in (labels, val_labels))
    other, other_val = (generator.normal(size=(len(y), 2)) for y in (labels, val_labels))
    return Given({"a": train, "b": other}, labels, {"a": val, "b": other_val}, val_labels)


def scaled(given: Given, factor: NDArray[np.float64], kind: type = np.float64) -> Given:
    parts = [{**part, "a": (part["a"] * factor).astype(kind)} for part in (given.train, given.val)]
    return Given(parts[0], given.labels, parts[1], given.val_labels)


@pytest.fixture(scope="module")
def expected(given: Given) -> dict[str, eq.Diagnosis]:
    return eq.separability(*given, bootstrap=0)


@pytest.mark.parametrize("name", FACTORS)
def test_scores_and_contributions_are_those_of_features_of_usual_size(
    given: Given, expected: dict[str, eq.Diagnosis], name: str
) -> None:
    large = scaled(given, FACTORS[name])
    assert eq.separability(*large, bootstrap=0) == expected
    assert eq.contribution_of_features(*large).refitted == eq.contribution_of_features(*given).refitted
    assert eq.purity(large.train["a"], large.labels) == eq.purity(given.train["a"], given.labels)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_squares_beyond_float32(given: Given, size: float) -> None:
    """Rounded to float32 the features differ by 1e-7, which moves a silhouette as little."""
    found = eq.separability(*scaled(given, size * ONE, np.float32), ["silhouette", "linear-probe"])
    known = eq.separability(*scaled(given, ONE, np.float32), ["silhouette", "linear-probe"])
    for measure, states in known.items():
        assert found[measure]["a"].train_score == pytest.approx(states["a"].train_score, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["huge", "tiny"])
def test_pictures_are_the_same(given: Given, kind: str, name: str) -> None:
    pictures = [
        project(one.train["a"], one.labels, one.val["a"], one.val_labels, kind)
        for one in (scaled(given, FACTORS[name]), scaled(given, 2.0**9 * ONE if name == "huge" else ONE))
    ]
    assert np.isfinite(pictures[0].train).all()
    spread = [picture.train / np.abs(picture.train).max() for picture in pictures]
    assert spread[0].shape == spread[1].shape
    if kind == "pca":
        np.testing.assert_allclose(spread[0], spread[1], rtol=0, atol=1e-9)
