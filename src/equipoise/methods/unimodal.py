"""Each modality alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.tasks import EVERY_TASK
from equipoise.types import UnknownNameError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass
class Unimodal(Method):
    """Train one modality's encoder with a linear head of its own: `L = CE(h_m(z^m), y)`.

    The encoder has the class and the initial weights that it has in joint training with the same seed.

    Attributes:
        modality: the modality that is seen.
    """

    modality: str

    name = "unimodal"
    family = "reference"
    summary = "each modality alone, with a linear head"
    source = "the usual baseline"
    cost = "one smaller run for each modality"
    requires = Requirements(tasks=EVERY_TASK)
    argument = "modality"

    @classmethod
    def variants(cls, modalities: Sequence[str]) -> list[str]:
        """Return one name for each modality, `unimodal:audio` for instance."""
        return [f"{cls.name}:{modality}" for modality in modalities]

    def check(self, model: BalancedModel) -> None:
        """Refuse a modality that the data do not have.

        Raises:
            UnknownNameError: as said.
        """
        if self.modality not in model.modalities:
            raise UnknownNameError("modality", self.modality, model.modalities)

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the one encoder with a plain linear head, whatever the fusion of the joint model."""
        from equipoise.models import ConcatFusion, MultimodalModel

        encoder = reference.encoder_module(self.modality)
        width = reference.feature_widths()[self.modality]
        head = ConcatFusion({self.modality: width}, reference.num_outputs)
        return MultimodalModel({self.modality: encoder}, head)
