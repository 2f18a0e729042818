"""Valuation of modalities sample by sample: more training samples for a modality that contributes little."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from equipoise.diagnosis.contribution.shapley import shapley_values
from equipoise.methods.core.method import Method
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run, StepContext
from equipoise.methods.core.search import LogUniform, Whole, space
from equipoise.methods.shared.positions import chunks
from equipoise.models import subset_logits
from equipoise.scopes import evaluating
from equipoise.types import Batch

BOUNDS = (1.0, 0.4, -0.1)
"""Contributions below which a sample is copied once, twice, and three times."""


@torch.no_grad()
def contributions(run: Run, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Return the contribution `phi^m` `[N]` of each modality to each sample, in the order of the batches.

    It is the Shapley value of `v(S)`, which is `|S|` where the prediction from the modalities in S is right,
    else 0. The features outside S are zero, and the model is in evaluation mode.
    """
    with evaluating(run.model):
        found = [_shapley(run, batch.to(run.device)) for batch in batches]
    return {m: torch.cat([phi[m] for phi in found]) for m in run.model.modalities}


def copy_counts(contribution: Tensor) -> Tensor:
    """Return how often each sample is copied for a modality that contributes `[N]` to it."""
    # Shapley values are sums of fractions: an exact 1 may be rounded down.
    return torch.stack([contribution < bound - 1e-6 for bound in BOUNDS]).sum(0)


def copy_rate(means: Mapping[str, float], alpha: float, rate: str) -> float:
    """Return the copies for the modality of the lowest mean, as a share of the training samples.

    With `x = 2/3 * (mean contribution of the others - lowest)`: `alpha * x`, `tanh(alpha * x)` or
    `alpha * x^1.5`. For two modalities the bracket is `|gap^1 - gap^2|` with `gap^m = 1 - mean phi^m`.
    """
    lowest = min(means.values())
    # Rounding may give a difference below 0, whose power of 1.5 is not defined.
    beyond = max(0.0, math.fsum(means.values()) - len(means) * lowest)
    x = 2 / 3 * beyond / (len(means) - 1)
    if rate == "power":
        return alpha * math.pow(x, 1.5)
    return math.tanh(alpha * x) if rate == "tanh" else alpha * x


@dataclass
class Resamples(Method, ABC):
    """A method that trains on all samples and on copies of some, in which only one modality is kept.

    Attributes:
        warmup: epochs of joint training before the first copies.
        budget: `epochs` serves all originals and copies in an epoch; `fixed-steps` serves as many samples,
            drawn from both, as there are originals, in as many batches.
    """

    warmup: int = number(5, low=1)
    budget: str = choice("epochs", "fixed-steps")

    family = "data"
    source = "Wei, Feng, Wang and Hu, CVPR 2024, arXiv 2309.06255"
    bibtex = ("wei2024enhancing",)
    requires = Requirements(min_modalities=2)
    remembered = ("_copies",)

    @abstractmethod
    def copies(self, run: Run) -> Tensor:
        """Return the copies of the next epoch, `[K, 2]`: position in the split, index of kept modality."""

    def problems(self, plan: Plan) -> list[str]:
        """Warn that training ends with the warm-up."""
        found = super().problems(plan)
        if plan.epochs <= self.warmup:
            found.append(
                f"{self.name} copies no sample: its warm-up takes {self.warmup} of {plan.epochs} epochs; "
                "train longer, or lower warmup."
            )
        return found

    def setup(self, run: Run) -> None:
        """Start without copies."""
        super().setup(run)
        self._copies = torch.zeros(0, 2, dtype=torch.int64)

    def train_data(self, base: Iterable[Batch], run: Run) -> Iterable[Batch]:
        """Return originals and copies, mixed; without copies the batches as they are."""
        return self._mixed(run) if len(self._copies) else base

    def edit_features(self, z: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Set the modalities that copies do not keep to zero."""
        z, keep = super().edit_features(z, context), context.batch.keep
        return z if keep is None else {m: x.masked_fill(~keep[m][:, None], 0) for m, x in z.items()}

    def epoch_end(self, run: Run) -> None:
        """Choose the copies of the next epoch, if there is one and the warm-up is over."""
        super().epoch_end(run)
        if self.warmup - 1 <= run.epoch < run.total_epochs - 1:
            self._copies = self.copies(run)

    def _mixed(self, run: Run) -> Iterator[Batch]:
        originals = torch.arange(run.train_size)
        positions = torch.cat([originals, self._copies[:, 0]])
        kept = torch.cat([torch.full_like(originals, -1), self._copies[:, 1]])
        order = torch.randperm(len(positions), generator=run.generator)
        if self.budget == "fixed-steps":
            order = order[: run.train_size]
        steps = math.ceil(len(order) * run.steps_per_epoch / run.train_size)
        for chosen in order.tensor_split(steps):
            own = kept[chosen]
            keep = {m: (own == place) | (own < 0) for place, m in enumerate(run.model.modalities)}
            yield replace(run.take(positions[chosen].tolist()), keep=keep)


@dataclass
class SampleValuation(Resamples):
    """Copy each sample for the modalities that contribute little to it; each copy keeps one of them.

    After every epoch from the warm-up on, but the last, `phi^m_i` (`contributions`) is computed for all
    samples; sample i is copied for m once where `phi^m_i` is below 1, twice below 0.4, three times below -0.1
    (for two modalities: at 0.5, 0 and -0.5).
    """

    name = "sample-valuation"
    summary = "copy samples for the modalities that contribute little to them"
    cost = "an epoch of forward passes per epoch; epochs of up to 1 + 3M times the samples"
    search_space = space(warmup=Whole(1, 10))

    def copies(self, run: Run) -> Tensor:
        """Choose copies sample by sample."""
        found, chosen = contributions(run, run.train_eval), []
        for place, phi in enumerate(found.values()):
            positions = torch.arange(len(phi)).repeat_interleave(copy_counts(phi))
            chosen.append(torch.stack([positions, torch.full_like(positions, place)], dim=1))
        means = {m: float(phi.mean()) for m, phi in found.items()}
        run.record("valuation", contributions=means, copies=sum(map(len, chosen)))
        return torch.cat(chosen)


@dataclass
class ModalityValuation(Resamples):
    """Copy random samples for the modality that contributes least on average.

    After every epoch from the warm-up on, but the last, the mean contributions (`contributions`) over a
    random part of the training split decide which modality is lowest and how many copies it gets
    (`copy_rate`).

    Attributes:
        alpha: strength; 0 is joint training.
        part: share of the training split over which contributions are averaged.
        rate: how the number of copies grows with the gap, see `copy_rate`.
    """

    alpha: float = number(1.0)
    part: float = number(0.2, low=1e-6, high=1)
    rate: str = choice("linear", "tanh", "power")

    name = "modality-valuation"
    summary = "copy drawn samples for the modality that contributes least"
    cost = "a fifth of an epoch of forward passes per epoch; longer epochs"
    search_space = space(warmup=Whole(1, 10), alpha=LogUniform(0.1, 10))

    def changes_data(self) -> bool:
        """Whether anything can be copied."""
        return self.alpha > 0 and super().changes_data()

    def copies(self, run: Run) -> Tensor:
        """Choose copies of the lowest modality; if several are lowest, each copy draws one of them."""
        if not self.alpha:
            return torch.zeros(0, 2, dtype=torch.int64)
        drawn = torch.randperm(run.train_size, generator=run.generator)
        part = drawn[: max(1, int(self.part * run.train_size))]
        pieces = chunks(part, run.batch_size)
        found = contributions(run, (run.take(piece.tolist()) for piece in pieces))
        means = {m: float(phi.mean()) for m, phi in found.items()}
        count = int(copy_rate(means, self.alpha, self.rate) * run.train_size)
        run.record("valuation", contributions=means, copies=count)
        lowest = torch.tensor([i for i, mean in enumerate(means.values()) if mean == min(means.values())])
        kept = lowest[torch.randint(len(lowest), (count,), generator=run.generator)]
        positions = torch.randint(run.train_size, (count,), generator=run.generator)
        return torch.stack([positions, kept], dim=1)


def _shapley(run: Run, batch: Batch) -> dict[str, Tensor]:
    """Return the Shapley values `[B]` of a batch."""
    with run.autocast():
        z = run.model.encode(batch)

    def value(present: frozenset[str]) -> Tensor:
        if not present:
            return torch.zeros(len(batch), dtype=torch.float64)
        with run.autocast():
            right = subset_logits(run.model, z, present).argmax(1) == batch.target
        return len(present) * right.cpu().double()

    return shapley_values(value, run.model.modalities)
