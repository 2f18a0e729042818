"""Late fusion of unimodal models that were trained separately."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.shared.option_checks import check_choice
from equipoise.methods.unimodal import Unimodal
from equipoise.tasks import CLASSIFICATION, EVERY_TASK
from equipoise.types import ModelError, UsageError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel

RULES = ("probability", "logit", "log-probability")


@dataclass
class Ensemble(Method):
    """Combine the predictions of the unimodal runs, `p = mean_m softmax(u^m)`; nothing is trained.

    Plain ensembles beat many balancing methods in independent comparisons, which is why they belong into
    every comparison.

    Attributes:
        rule: what is averaged: `probability`, `logit` (`mean_m u^m`) or `log-probability`. Where there is no
            one class to tell, outputs are averaged.
    """

    rule: str = "probability"

    name = "ensemble"
    family = "reference"
    summary = "mean probability of separately trained unimodal models"
    source = "the usual baseline"
    cost = "the unimodal runs"
    requires = Requirements(tasks=EVERY_TASK)
    trains = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("rule", self.rule, RULES)

    def check(self, model: BalancedModel) -> None:
        """Refuse encoders that share parameters."""
        super().check(model)
        check_separate(self.name, model)

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the unimodal runs."""
        return Unimodal.variants(modalities)

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders with a head for each modality whose predictions are averaged."""
        from equipoise.models import AverageFusion, MultimodalModel

        rule = self.rule if reference.task == CLASSIFICATION.name else "logit"  # others have no softmax
        fusion = AverageFusion(reference.feature_widths(), reference.num_outputs, rule=rule)
        return MultimodalModel({m: reference.encoder_module(m) for m in reference.modalities}, fusion)

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Copy encoders and heads of the unimodal models.

        Raises:
            ModelError: the models are not such as this method asks for.
        """
        copy_encoders(model, parts)
        heads = model.fusion.heads_by_modality()  # type: ignore[union-attr,operator]
        for modality, own in heads.items():
            trained = parts[f"{Unimodal.name}:{modality}"].head
            if trained is None:
                raise ModelError(f"the unimodal model of {modality!r} has no linear head to copy.")
            with torch.no_grad():
                own.weight.copy_(trained.weight(modality))
                own.bias.copy_(trained.bias())


def check_separate(method: str, model: BalancedModel) -> None:
    """Refuse a model whose encoders share parameters: trained apart, they would have different ones.

    Raises:
        UsageError: as said.
    """
    modules = {id(model.encoder_module(m)) for m in model.modalities}
    if model.shared_parameters() or len(modules) < len(model.modalities):
        raise UsageError(
            f"the method {method!r} joins encoders that were trained apart, and those of this model share "
            "parameters; choose another method, or encoders of their own."
        )


def copy_encoders(model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
    """Copy the encoders of finished unimodal runs, weights and buffers, into a model."""
    for modality in model.modalities:
        trained = parts[f"{Unimodal.name}:{modality}"].encoder_module(modality)
        model.encoder_module(modality).load_state_dict(trained.state_dict())
