"""Joint training with a loss on each modality alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.unimodal_views import ReadsUnimodal
from equipoise.tasks import EVERY_TASK


@dataclass
class MultiLoss(ReadsUnimodal):
    """Add a loss on each modality alone: `L = CE(u, y) + weight * sum_m CE(u^m, y)`.

    Attributes:
        weight: of the unimodal losses.
        logits: source of `u^m`; `aux` is the "uniform baseline" of MMPareto.
    """

    weight: float = number(1.0)
    logits: str = choice("aux", "slice", "zero-feature")

    name = "multi-loss"
    family = "reference"
    summary = "the joint loss plus a loss on each modality alone"
    stacks = True
    shards = True
    source = "the uniform baseline of Wei and Hu, ICML 2024, arXiv 2405.17730"
    bibtex = ("wei2024mmpareto",)
    cost = "a linear head per modality"
    search_space = space(weight=LogUniform(0.1, 10))
    requires = Requirements(tasks=EVERY_TASK)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and the unimodal one."""
        if not self.weight:
            return {"joint": joint_loss(context)}
        return {"joint": joint_loss(context), "unimodal": self.weight * self.unimodal_loss(context)}
