"""Seeds derived from names, and random streams restored for the caller."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from equipoise import randomness
from equipoise.randomness import derive_seed, isolated_rng, seed_everything, seeded_rng


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def test_derived_seeds_depend_on_every_part_and_nothing_else():
    assert derive_seed(0, "order", 3) == derive_seed(0, "order", 3)
    many = {derive_seed(seed, what, e) for seed in range(20) for what in ("order", "init") for e in range(20)}
    assert len(many) == 800
    assert all(0 <= seed < 2**63 for seed in many)
    assert derive_seed(1, "2") != derive_seed("1", 2) != derive_seed("1", "2")
    # The same number on every machine and in every version: resumed runs depend on it.
    assert derive_seed(0, "order", 3) == 8244215730568551301


def test_isolation_restores_the_streams_even_after_an_error():
    before = states()
    with pytest.raises(ValueError, match="stop"), isolated_rng():
        draw()
        seed_everything(3)
        raise ValueError("stop")
    assert states() == before


def test_seeding():
    seed_everything(derive_seed("a large one"))
    first = draw()
    seed_everything(derive_seed("a large one"))
    assert draw() == first
    before = states()
    with seeded_rng(7):
        inside = draw()
    assert states() == before
    seed_everything(7)
    assert draw() == inside


@pytest.mark.parametrize("accelerators", [True, False])
def test_seeds_are_those_of_torch_with_and_without_accelerators(accelerators, monkeypatch):
    monkeypatch.setattr(randomness, "ACCELERATORS", accelerators)
    torch.manual_seed(11)
    expected = float(torch.rand(()))
    seed_everything(11)
    assert float(torch.rand(())) == expected
