"""What methods share that begin with encoders trained alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.methods.core.method import Method
from equipoise.methods.ensemble import check_separate
from equipoise.methods.unimodal import Unimodal

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass
class Pretrained(Method):
    """Joint training on top of encoders that were trained alone."""

    family = "reference"
    source = "the usual baseline"

    def check(self, model: BalancedModel) -> None:
        """Refuse encoders that share parameters."""
        super().check(model)
        check_separate(self.name, model)

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the unimodal runs."""
        return Unimodal.variants(modalities)
