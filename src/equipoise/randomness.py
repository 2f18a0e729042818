"""Seeds derived from names instead of call order, and protection of the global random states."""

# This module saves and restores the global random states that NPY002 warns of.
# ruff: noqa: NPY002
from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch

ACCELERATORS: Final = bool(torch.version.cuda or torch.version.hip or torch.backends.mps.is_built())
"""Whether this build of torch has generators besides that of the CPU, which take most of the time to seed."""


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed from names and numbers; equal parts give equal seeds on every machine.

    A generator seeded by its purpose (`derive_seed(seed, "order", epoch)`) does not depend on how many
    numbers other parts of the program draw.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def isolated_rng() -> Iterator[None]:
    """Restore the global random states of Python, NumPy and torch (CPU and CUDA) after the block."""
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
    """Seed the global random states of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if ACCELERATORS:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Run a block with the global random states of `seed`, then restore the caller's."""
    with isolated_rng():
        seed_everything(seed)
        yield
