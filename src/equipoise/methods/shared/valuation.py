"""What each modality contributes to each training sample, and more of the samples where it is little."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from equipoise.diagnosis.contribution.shapley import shapley_values
from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.option_checks import check_choice, check_number
from equipoise.models import subset_logits
from equipoise.scopes import evaluating
from equipoise.types import Batch

BUDGETS = ("epochs", "fixed-steps")


@torch.no_grad()
def contributions(run: Run, batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Return the contribution `phi^m` `[N]` of each modality to each sample, in the order of the batches.

    It is the Shapley value of `v(S)`, which is `|S|` where the prediction from the modalities in S is right,
    else 0. The features outside S are zero, and the model is in evaluation mode.
    """
    found = []
    with evaluating(run.model):
        for batch in batches:
            found.append(shapley_values(_value(run, batch.to(run.device)), run.model.modalities))
    return {m: torch.cat([phi[m] for phi in found]) for m in run.model.modalities}


@dataclass
class Resamples(Method, ABC):
    """A method that trains on all samples and on copies of some in which one modality alone is kept.

    Attributes:
        warmup: epochs of joint training before the first copies.
        budget: `epochs` serves all originals and copies in an epoch; `fixed-steps` as many samples, drawn
            from both, as there are originals, in as many batches.
    """

    warmup: int = 5
    budget: str = "epochs"

    family = "data"
    source = "Wei, Feng, Wang and Hu, CVPR 2024, arXiv 2309.06255"
    requires = Requirements(min_modalities=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("warmup", self.warmup, low=1)
        check_choice("budget", self.budget, BUDGETS)

    @abstractmethod
    def copies(self, run: Run) -> Tensor:
        """Return the copies of the next epoch, `[K, 2]`: position in the split, index of what is kept."""

    def problems(self, plan: Plan) -> list[str]:
        """Say that the warm-up is all there is."""
        if plan.epochs > self.warmup:
            return super().problems(plan)
        return [
            *super().problems(plan),
            f"{self.name} copies no sample: its warm-up takes {self.warmup} of {plan.epochs} epochs; "
            "train longer, or lower warmup.",
        ]

    def setup(self, run: Run) -> None:
        """Start without copies."""
        super().setup(run)
        self._copies = torch.zeros(0, 2, dtype=torch.int64)

    def train_data(self, base: Iterable[Batch], run: Run) -> Iterable[Batch]:
        """Return originals and copies, mixed; without copies the batches as they are."""
        return self._mixed(run) if len(self._copies) else base

    def edit_features(self, z: dict[str, Tensor], context: StepContext) -> dict[str, Tensor]:
        """Set to zero what the copies do not keep."""
        z, keep = super().edit_features(z, context), context.batch.keep
        return z if keep is None else {m: x.masked_fill(~keep[m][:, None], 0) for m, x in z.items()}

    def epoch_end(self, run: Run) -> None:
        """Choose the copies of the next epoch, if there is one and the warm-up is over."""
        super().epoch_end(run)
        if self.warmup - 1 <= run.epoch < run.total_epochs - 1:
            self._copies = self.copies(run)

    def state_dict(self) -> dict[str, Any]:
        """Return the copies."""
        return {"copies": self._copies}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the copies."""
        self._copies = state["copies"]

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


def _value(run: Run, batch: Batch) -> Any:
    """Return v of a batch, a function of the set of modalities that are present."""
    with run.autocast():
        z = run.model.encode(batch)

    def value(present: frozenset[str]) -> Tensor:
        if not present:
            return torch.zeros(len(batch), dtype=torch.float64)
        with run.autocast():
            right = subset_logits(run.model, z, present).argmax(1) == batch.target
        return len(present) * right.cpu().double()

    return value


def record_copies(run: Run, means: Mapping[str, float], copies: int) -> None:
    """Write mean contributions and the number of copies into the run record."""
    run.record("valuation", contributions=dict(means), copies=copies)
