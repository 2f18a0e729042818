"""The reason for the preset `robust`: purity is biased by the number of samples (methods.md, B.4)."""

from __future__ import annotations

import numpy as np

from equipoise.diagnosis import diagnose


def gaps(preset: str, draws: int = 4) -> list[float]:
    """Gaps between 3000 training and 400 validation samples of the SAME distribution: the truth is 0."""
    found = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(6, 64)) * 0.30
        y, y_val = rng.integers(0, 6, 3000), rng.integers(0, 6, 400)
        train, val = (centres[labels] + rng.normal(size=(len(labels), 64)) for labels in (y, y_val))
        found.append(diagnose({"m": train}, y, {"m": val}, y_val, preset=preset)["m"].gap)
    return found


def test_the_official_estimate_finds_a_gap_between_equal_distributions():
    assert np.mean(gaps("paper")) > 0.15


def test_the_robust_estimate_does_not():
    assert np.mean(gaps("robust")) < 0.08
