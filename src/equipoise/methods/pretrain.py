"""Joint training that starts from encoders trained alone, frozen or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.methods.base import Method
from equipoise.methods.context import StepContext
from equipoise.methods.ensemble import copy_encoders
from equipoise.methods.gradients import drop_gradients
from equipoise.methods.option_checks import check_number
from equipoise.methods.run import Run
from equipoise.methods.unimodal import Unimodal

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass
class PretrainFrozen(Method):
    """Train fusion and head on the frozen encoders of the unimodal runs: `min over psi of CE(u, y)`.

    Frozen means that nothing of an encoder changes: no weight, and no running statistic either.
    """

    name = "pretrain-frozen"
    family = "reference"
    summary = "fusion and head on top of frozen unimodal encoders"
    source = "the usual baseline"
    cost = "the unimodal runs, then forward passes only through the encoders"

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the unimodal runs."""
        return Unimodal.variants(modalities)

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Copy the encoders and freeze them."""
        copy_encoders(model, parts)
        for modality in model.modalities:
            model.encoder_module(modality).requires_grad_(False)

    def epoch_start(self, run: Run) -> None:
        """Keep the encoders in evaluation mode, so that their statistics stay too."""
        for modality in run.model.modalities:
            run.model.encoder_module(modality).eval()


@dataclass
class PretrainFinetune(Method):
    """Train the joint model from the encoders of the unimodal runs on: `min over theta, psi of CE(u, y)`.

    Attributes:
        encoder_factor: what the learning rate of the encoders is multiplied by.
        head_epochs: first epochs in which fusion and head alone are trained.
    """

    encoder_factor: float = 1.0
    head_epochs: int = 0

    name = "pretrain-finetune"
    family = "reference"
    summary = "joint training that starts from the unimodal encoders"
    source = "the usual baseline"
    cost = "the unimodal runs"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("encoder_factor", self.encoder_factor)
        check_number("head_epochs", self.head_epochs)

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the unimodal runs."""
        return Unimodal.variants(modalities)

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
