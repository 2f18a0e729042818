"""Each modality alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.methods.base import Method
from equipoise.types import UnknownNameError


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
    argument = "modality"

    @classmethod
    def variants(cls, modalities: Sequence[str]) -> list[str]:
        """Return one name for each modality, `unimodal:audio` for instance."""
        return [f"{cls.name}:{modality}" for modality in modalities]

    def modalities(self, available: Sequence[str]) -> tuple[str, ...]:
        """Return the one modality.

        Raises:
            UnknownNameError: the data do not have it.
        """
        if self.modality not in available:
            raise UnknownNameError("modality", self.modality, available)
        return (self.modality,)

    def fusion(self, chosen: str) -> str:
        """Return the plain linear head, whatever the fusion of the joint model."""
        return "concat"
