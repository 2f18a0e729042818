"""Joint training on encoders that were trained alone, finetuned or frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from equipoise.methods.core.method import Method
from equipoise.methods.core.options import number
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.turns import encoders_to_eval, freeze_step
from equipoise.methods.shared.unimodal_runs import StartsFromUnimodal
from equipoise.models import BalancedModel


@dataclass
class PretrainFinetune(StartsFromUnimodal):
    """Train the joint model from the encoders of the unimodal runs on: `min over theta, psi of CE(u, y)`.

    Attributes:
        encoder_factor: factor on the learning rate of the encoders.
        head_epochs: first epochs, in which only fusion and head are trained.
    """

    encoder_factor: float = number(1.0)
    head_epochs: int = number(0)

    name = "pretrain-finetune"
    summary = "joint training that starts from the unimodal encoders"
    stacks = True
    cost = "the unimodal runs"
    search_space = space(encoder_factor=LogUniform(0.01, 1))

    def stacks_now(self) -> bool:
        """Whether no encoder is frozen, which takes its gradients and its mode."""
        return self.head_epochs == 0

    def setup(self, run: Run) -> None:
        """Set the learning rate of the encoders."""
        for group in run.optimizer.param_groups:
            if group["name"] in run.model.modalities:
                group["factor"] = self.encoder_factor

    def epoch_start(self, run: Run) -> None:
        """Freeze the running statistics of the encoders in the first epochs."""
        if run.epoch < self.head_epochs:
            encoders_to_eval(run.model, run.model.modalities)

    def after_backward(self, context: StepContext) -> None:
        """Freeze the encoders in the first epochs."""
        if context.run.epoch < self.head_epochs:
            freeze_step(context.run.model, context.run.model.modalities)


@dataclass
class PretrainFrozen(StartsFromUnimodal):
    """Train fusion and head on the frozen encoders of the unimodal runs: `min over psi of CE(u, y)`.

    Neither weights nor running statistics of an encoder change.
    """

    name = "pretrain-frozen"
    summary = "fusion and head on top of frozen unimodal encoders"
    cost = "the unimodal runs, then forward passes only through the encoders"

    def conflicts(self, other: Method) -> str:
        """Refuse a method that acts on the frozen encoders."""
        if other.family == "optimisation" or isinstance(other, PretrainFinetune):
            return f"{self.name} freezes the encoders that {other.name} acts on"
        return super().conflicts(other)

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Copy the encoders and freeze them."""
        super().load_parts(model, parts)
        for modality in model.modalities:
            model.encoder_module(modality).requires_grad_(False)

    def epoch_start(self, run: Run) -> None:
        """Freeze the running statistics of the encoders."""
        encoders_to_eval(run.model, run.model.modalities)
