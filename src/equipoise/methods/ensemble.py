"""Late fusion of unimodal models that were trained separately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch

from equipoise.methods.core.options import choice
from equipoise.methods.shared.unimodal_runs import StartsFromUnimodal
from equipoise.methods.unimodal import Unimodal
from equipoise.models import AverageFusion, BalancedModel, MultimodalModel
from equipoise.tasks import CLASSIFICATION
from equipoise.types import ModelError


@dataclass
class Ensemble(StartsFromUnimodal):
    """Combine the predictions of the unimodal runs, `p = mean_m softmax(u^m)`; nothing is trained.

    Plain ensembles beat many balancing methods in independent comparisons, so every comparison should include
    one.

    Attributes:
        rule: what is averaged: `probability`, `logit` (`mean_m u^m`) or `log-probability`. For multilabel and
            regression tasks it is the outputs.
    """

    rule: str = choice("probability", "logit", "log-probability")

    name = "ensemble"
    summary = "mean probability of separately trained unimodal models"
    cost = "the unimodal runs"
    trains = False

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders with a head for each modality whose predictions are averaged."""
        rule = self.rule if reference.task == CLASSIFICATION.name else "logit"  # others have no softmax
        fusion = AverageFusion(reference.feature_widths(), reference.num_outputs, rule=rule)
        return MultimodalModel({m: reference.encoder_module(m) for m in reference.modalities}, fusion)

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Copy encoders and heads of the unimodal models.

        Raises:
            ModelError: a unimodal model has no linear head.
        """
        super().load_parts(model, parts)
        heads = cast("AverageFusion", model.fusion).own.by_modality()
        for modality, own in heads.items():
            trained = parts[f"{Unimodal.name}:{modality}"].head
            if trained is None:
                raise ModelError(f"the unimodal model of {modality!r} has no linear head to copy.")
            with torch.no_grad():
                own.weight.copy_(trained.weight(modality))
                own.bias.copy_(trained.bias())
