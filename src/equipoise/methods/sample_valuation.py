"""Copies of each sample for the modalities that contribute little to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.methods.core.run import Run
from equipoise.methods.shared.valuation import Resamples, contributions, record_copies

BOUNDS = (1.0, 0.4, -0.1)
"""Contributions below which a sample is copied once, twice, and three times."""


def copy_counts(contribution: Tensor) -> Tensor:
    """Return how often each sample is copied for a modality that contributes `[N]` to it."""
    # Shapley values add up fractions: what is meant to be 1 may come out a little below.
    return torch.stack([contribution < bound - 1e-6 for bound in BOUNDS]).sum(0)


@dataclass
class SampleValuation(Resamples):
    """Copy each sample for the modalities that contribute little to it, and keep those alone in the copies.

    After every epoch `phi^m_i` (`contributions`) is found for all samples; sample i is copied for m once
    where `phi^m_i` is below 1, twice below 0.4, three times below -0.1 (for two modalities: at 0.5, 0 and
    -0.5).

    Attributes:
        warmup: epochs of joint training before the first copies.
        budget: see `Resamples`.
    """

    name = "sample-valuation"
    summary = "copy samples for the modalities that contribute little to them"
    cost = "an epoch of forward passes an epoch; epochs of up to 1 + 3M times the samples"

    def copies(self, run: Run) -> Tensor:
        """Choose copies sample by sample."""
        found, chosen = contributions(run, run.train_eval), []
        for place, phi in enumerate(found.values()):
            positions = torch.arange(len(phi)).repeat_interleave(copy_counts(phi))
            chosen.append(torch.stack([positions, torch.full_like(positions, place)], dim=1))
        record_copies(run, {m: float(phi.mean()) for m, phi in found.items()}, sum(map(len, chosen)))
        return torch.cat(chosen)
