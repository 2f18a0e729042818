"""Joint training that starts from encoders trained alone, frozen or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.methods.base import Method
from equipoise.methods.context import StepContext
from equipoise.methods.ensemble import check_separate, copy_encoders
from equipoise.methods.gradients import drop_gradients
from equipoise.methods.option_checks import check_number
from equipoise.methods.run import Run
from equipoise.methods.unimodal import Unimodal

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass
class _Pretrained(Method):
    """What both have in common: the unimodal runs."""

    family = "reference"
    source = "the usual baseline"

    def check(self, model: BalancedModel) -> None:
        """Refuse encoders that share parameters."""
        super().check(model)
        check_separate(self.name, model)

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the unimodal runs."""
        return Unimodal.variants(modalities)


@dataclass
class PretrainFrozen(_Pretrained):
    """Train fusion and head on the frozen encoders of the unimodal runs: `min over psi of CE(u, y)`.

    Frozen means that nothing of an encoder changes: no weight, and no running statistic either.
    """

    name = "pretrain-frozen"
    summary = "fusion and head on top of frozen unimodal encoders"
    cost = "the unimodal runs, then forward passes only through the encoders"

    def conflicts(self, other: Method) -> str:
        """Refuse what acts on the encoders, which stay as they are."""
        if other.family == "optimisation" or isinstance(other, PretrainFinetune):
            return f"{self.name} freezes the encoders that {other.name} acts on"
        return super().conflicts(other)

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
class PretrainFinetune(_Pretrained):
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
