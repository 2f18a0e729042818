"""Fusion and head on top of encoders that were trained alone and stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run
from equipoise.methods.ensemble import copy_encoders
from equipoise.methods.pretrain_finetune import PretrainFinetune
from equipoise.methods.pretrained import Pretrained
from equipoise.tasks import EVERY_TASK

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass
class PretrainFrozen(Pretrained):
    """Train fusion and head on the frozen encoders of the unimodal runs: `min over psi of CE(u, y)`.

    Frozen means that nothing of an encoder changes: no weight, and no running statistic either.
    """

    name = "pretrain-frozen"
    summary = "fusion and head on top of frozen unimodal encoders"
    cost = "the unimodal runs, then forward passes only through the encoders"
    requires = Requirements(tasks=EVERY_TASK)

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
