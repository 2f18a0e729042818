"""Joint training that starts from encoders trained alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run
from equipoise.methods.core.step import StepContext
from equipoise.methods.ensemble import copy_encoders
from equipoise.methods.pretrained import Pretrained
from equipoise.methods.shared.gradients import drop_gradients
from equipoise.methods.shared.option_checks import check_number
from equipoise.tasks import EVERY_TASK

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass
class PretrainFinetune(Pretrained):
    """Train the joint model from the encoders of the unimodal runs on: `min over theta, psi of CE(u, y)`.

    Attributes:
        encoder_factor: what the learning rate of the encoders is multiplied by.
        head_epochs: first epochs in which fusion and head alone are trained.
    """

    encoder_factor: float = 1.0
    head_epochs: int = 0

    name = "pretrain-finetune"
    summary = "joint training that starts from the unimodal encoders"
    cost = "the unimodal runs"
    requires = Requirements(tasks=EVERY_TASK)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("encoder_factor", self.encoder_factor)
        check_number("head_epochs", self.head_epochs)

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Copy the encoders."""
        copy_encoders(model, parts)

    def setup(self, run: Run) -> None:
        """Set the learning rate of the encoders."""
        for group in run.optimizer.param_groups:
            if group["name"] in run.model.modalities:
                group["factor"] = self.encoder_factor

    def epoch_start(self, run: Run) -> None:
        """Keep the encoders as they are while the head warms up."""
        if run.epoch < self.head_epochs:
            for modality in run.model.modalities:
                run.model.encoder_module(modality).eval()

    def after_backward(self, context: StepContext) -> None:
        """Take the encoders' gradients while the head warms up."""
        if context.run.epoch < self.head_epochs:
            for modality in context.run.model.modalities:
                drop_gradients(context.run.model.encoder_parameters(modality))
