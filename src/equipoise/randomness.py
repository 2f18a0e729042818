"""Seeds that depend on names instead of call order, and guards for the caller's random streams."""

# The global streams that NPY002 warns of are the subject of this module.
# ruff: noqa: NPY002
from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*parts: object) -> int:
    """Turn names and numbers into a 63-bit seed; equal parts give equal seeds on every machine.

    Random streams that are keyed by what they are for (`derive_seed(seed, "order", epoch)`) do not shift
    when another part of the program draws more or fewer numbers.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Give back Python's, NumPy's and torch's global random states (CPU and CUDA) as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global random states from one number."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Run a block under the global random states of `seed`, then restore the caller's."""
    with isolated_rng():
        seed_everything(seed)
        yield
