"""Joint training with a loss on each modality alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.option_checks import check_number
from equipoise.methods.shared.unimodal_views import LOSSES, ReadsUnimodal, unimodal_loss
from equipoise.tasks import EVERY_TASK


@dataclass
class MultiLoss(ReadsUnimodal):
    """Add a loss on each modality alone: `L = CE(u, y) + weight * sum_m CE(u^m, y)`.

    Attributes:
        weight: of the unimodal losses.
        logits: source of `u^m`; `aux` is the "uniform baseline" of MMPareto.
    """

    weight: float = 1.0
    logits: str = "aux"

    name = "multi-loss"
    family = "reference"
    summary = "the joint loss plus a loss on each modality alone"
    source = "the uniform baseline of Wei and Hu, ICML 2024, arXiv 2405.17730"
    cost = "a linear head a modality"
    requires = Requirements(tasks=EVERY_TASK)
    sources = LOSSES

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("weight", self.weight)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and the unimodal ones."""
        if not self.weight:
            return {"joint": joint_loss(context)}
        unimodal = unimodal_loss(self.unimodal(context), context.batch.target, context.run.loss)
        return {"joint": joint_loss(context), "unimodal": self.weight * unimodal}
