"""Copies of drawn samples for the modality that contributes least on the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.methods.core.run import Run
from equipoise.methods.shared.option_checks import check_choice, check_number
from equipoise.methods.shared.positions import chunks
from equipoise.methods.shared.valuation import Resamples, contributions, record_copies

RATES = ("linear", "tanh", "power")


def copy_rate(means: Mapping[str, float], alpha: float, rate: str) -> float:
    """Return the copies that the modality of the lowest mean gets, as a share of the training samples.

    With `x = 2/3 * (mean contribution of the others - lowest)`: `alpha * x`, `tanh(alpha * x)` or
    `alpha * x^1.5`. For two modalities the bracket is `|gap^1 - gap^2|` with `gap^m = 1 - mean phi^m`.
    """
    lowest = min(means.values())
    # Rounded, what others have beyond the lowest may come out below 0, which has no power of 1.5.
    beyond = max(0.0, math.fsum(means.values()) - len(means) * lowest)
    x = 2 / 3 * beyond / (len(means) - 1)
    if rate == "power":
        return alpha * math.pow(x, 1.5)
    return math.tanh(alpha * x) if rate == "tanh" else alpha * x


@dataclass
class ModalityValuation(Resamples):
    """Copy drawn samples for the modality that contributes least on the whole.

    After every epoch the mean contributions (`contributions`) over a drawn part of the training split say
    which modality is lowest and how many copies it gets (`copy_rate`).

    Attributes:
        alpha: strength; 0 is joint training.
        part: share of the training split over which contributions are averaged.
        rate: how the number of copies grows with the gap, see `copy_rate`.
        warmup: epochs of joint training before the first copies.
        budget: see `Resamples`.
    """

    alpha: float = 1.0
    part: float = 0.2
    rate: str = "linear"

    name = "modality-valuation"
    summary = "copy drawn samples for the modality that contributes least"
    cost = "a fifth of an epoch of forward passes an epoch; longer epochs"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha)
        check_number("part", self.part, low=1e-6, high=1)
        check_choice("rate", self.rate, RATES)

    def changes_data(self) -> bool:
        """Tell whether anything can be copied."""
        return self.alpha > 0 and super().changes_data()

    def copies(self, run: Run) -> Tensor:
        """Choose copies of the lowest modality; where several are, each copy draws one of them."""
        if not self.alpha:
            return torch.zeros(0, 2, dtype=torch.int64)
        drawn = torch.randperm(run.train_size, generator=run.generator)
        part = drawn[: max(1, int(self.part * run.train_size))]
        pieces = chunks(part, run.batch_size)
        found = contributions(run, (run.take(piece.tolist()) for piece in pieces))
        means = {m: float(phi.mean()) for m, phi in found.items()}
        count = int(copy_rate(means, self.alpha, self.rate) * run.train_size)
        record_copies(run, means, count)
        lowest = torch.tensor([i for i, mean in enumerate(means.values()) if mean == min(means.values())])
        kept = lowest[torch.randint(len(lowest), (count,), generator=run.generator)]
        positions = torch.randint(run.train_size, (count,), generator=run.generator)
        return torch.stack([positions, kept], dim=1)
