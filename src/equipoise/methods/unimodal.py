"""Each modality alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.models import BalancedModel, ConcatFusion, MultimodalModel
from equipoise.tasks import EVERY_TASK
from equipoise.types import check_known


@dataclass
class Unimodal(Method):
    """Train one modality's encoder with a separate linear head: `L = CE(h_m(z^m), y)`.

    The encoder has the same class and initial weights as in joint training with the same seed.

    Attributes:
        modality: the modality that is used.
    """

    modality: str

    name = "unimodal"
    family = "reference"
    summary = "each modality alone, with a linear head"
    stacks = True
    source = "the usual baseline"
    cost = "one smaller run for each modality"
    requires = Requirements(tasks=EVERY_TASK)
    argument = "modality"

    @classmethod
    def variants(cls, modalities: Sequence[str]) -> list[str]:
        """Return one name for each modality, such as `unimodal:audio`."""
        return [f"{cls.name}:{modality}" for modality in modalities]

    def check(self, model: BalancedModel) -> None:
        """Refuse an unknown modality."""
        check_known("modality", [self.modality], model.modalities)

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoder with a plain linear head, independent of the fusion of the joint model."""
        encoder = reference.encoder_module(self.modality)
        width = reference.feature_widths()[self.modality]
        head = ConcatFusion({self.modality: width}, reference.num_outputs)
        return MultimodalModel({self.modality: encoder}, head)
