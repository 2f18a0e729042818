"""Late fusion of unimodal models that were trained separately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from equipoise.methods.base import Method
from equipoise.methods.unimodal import Unimodal
from equipoise.models import AverageFusion, BalancedModel
from equipoise.types import ModelError


@dataclass
class Ensemble(Method):
    """Average the predictions of the unimodal runs: `p = mean_m softmax(u^m)`; nothing is trained.

    Plain ensembles beat many balancing methods in independent comparisons, which is why they belong into
    every comparison.
    """

    name = "ensemble"
    family = "reference"
    summary = "mean probability of separately trained unimodal models"
    source = "the usual baseline"
    cost = "the unimodal runs"
    trains = False

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the unimodal runs."""
        return Unimodal.variants(modalities)

    def fusion(self, chosen: str) -> str:
        """Return the fusion that averages the probabilities of one head for each modality."""
        return "average"

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Copy encoders and heads of the unimodal models.

        Raises:
            ModelError: the models are not such as this method asks for.
        """
        fusion = getattr(model, "fusion", None)
        if not isinstance(fusion, AverageFusion):
            raise ModelError(f"an ensemble needs the fusion 'average'; found {type(fusion).__name__}.")
        for modality, own in zip(model.modalities, fusion.heads, strict=True):
            trained = parts[f"{Unimodal.name}:{modality}"]
            model.encoder_module(modality).load_state_dict(trained.encoder_module(modality).state_dict())
            head = trained.head
            if head is None or not isinstance(own, nn.Linear):
                raise ModelError(f"the unimodal model of {modality!r} has no linear head to copy.")
            with torch.no_grad():
                own.weight.copy_(head.weight(modality))
                own.bias.copy_(head.bias())
