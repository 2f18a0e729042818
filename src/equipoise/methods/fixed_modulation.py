"""Constant factors on the gradients of chosen encoders."""

from __future__ import annotations

from dataclasses import dataclass, field

from equipoise.methods.core.options import check_number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.shared.modulation import Modulates
from equipoise.methods.shared.windows import Windowed
from equipoise.models import BalancedModel
from equipoise.tasks import EVERY_TASK
from equipoise.types import check_known


@dataclass
class FixedModulation(Modulates, Windowed):
    """Multiply the gradient of encoder m by a constant: `grad theta_m <- k^m * grad theta_m`.

    It is the control for adaptive coefficients.

    Attributes:
        factors: modality to `k^m`; modalities that are not named are not scaled.
    """

    factors: dict[str, float] = field(kw_only=True)

    name = "fixed-modulation"
    family = "optimisation"
    summary = "constant factors on the encoders' gradients, a control for adaptive ones"
    stacks = True
    requires = Requirements(tasks=EVERY_TASK)
    source = "a control; two constants are also used in arXiv 2604.05773"

    def __post_init__(self) -> None:
        super().__post_init__()
        for modality, factor in self.factors.items():
            check_number(f"the factor of {modality!r}", factor)

    def check(self, model: BalancedModel) -> None:
        """Refuse factors of unknown modalities."""
        super().check(model)
        check_known("modality", self.factors, model.modalities)

    def after_backward(self, context: StepContext) -> None:
        """Scale the gradients."""
        if self.in_window(context.run):
            self.modulate(context, self.factors)
