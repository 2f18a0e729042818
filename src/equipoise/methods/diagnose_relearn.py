"""Diagnosing & Re-learning as a method of the toolkit's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.search import LogUniform, Whole, space
from equipoise.methods.shared.relearns import Relearns
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.tasks import EVERY_TASK

PAPER_EPOCHS, PAPER_EVERY = 90, 20


@dataclass
class DiagnoseRelearnMethod(Relearns):
    """Pull each encoder toward its initial weights by how much it is over-trained, every few epochs.

    With purities `P_T`, `P_V` of k-means clusters of the training and validation features,
    `theta_m <- (1 - alpha_m) * theta_m + alpha_m * theta0_m`, `alpha_m = tanh(lam * |P_T - P_V|)`.
    See `DiagnoseRelearn` for the options.

    Attributes:
        every: epochs between re-learnings; None keeps the paper's proportion, 20 of 90 epochs.
        count: number of re-learnings.
        epochs: explicit epochs in place of `every` and `count`.
    """

    every: int | None = None
    count: int = 3
    epochs: list[int] | None = None

    name = "diagnose-relearn"
    family = "optimisation"
    summary = "soft re-initialisation of over-trained encoders, by the purity gap of their features"
    stacks = True
    shards = True
    source = "Wei et al., ECCV 2024, arXiv 2407.09705"
    bibtex = ("wei2024diagnosing",)
    cost = "a pass over train and validation and 2 k-means per modality, per re-learning"
    search_space = space(lam=LogUniform(0.3, 30), count=Whole(1, 4))
    requires = Requirements(tasks=EVERY_TASK)

    @classmethod
    def create(cls, options: Mapping[str, Any]) -> Method:
        """Build the method; options that are no fields go to `RelearnOptions` and `DiagnosisOptions`."""
        method = super().create(options)
        method.schedule(PAPER_EPOCHS)  # type: ignore[attr-defined]  # raises where it is impossible
        return method

    def schedule(self, total_epochs: int) -> RelearningSchedule:
        """Return after which epochs the encoders are re-learnt."""
        every = self.every
        if every is None:
            every = max(1, round(total_epochs * PAPER_EVERY / PAPER_EPOCHS))
        return RelearningSchedule(every, self.count, self.epochs)
