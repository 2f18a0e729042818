"""Methods in which the modalities take turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements, check_order
from equipoise.methods.core.run import Run
from equipoise.methods.shared.gradients import drop_gradients

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


@dataclass
class TakesTurns(Method):
    """A method that trains one modality at a time while the encoders of the others rest.

    Attributes:
        order: modalities in the order of their turns; the model's where it is empty.
    """

    order: list[str] = field(default_factory=list)

    family = "loop"
    requires = Requirements(min_modalities=2)
    replaces_loss = True

    def check(self, model: BalancedModel) -> None:
        """Refuse an order that does not name every modality once."""
        super().check(model)
        check_order(self.name, self.order, model)

    def turns(self, run: Run) -> Sequence[str]:
        """Return the modalities in the order of their turns."""
        return self.order or run.model.modalities


def let_rest(model: BalancedModel, modalities: Sequence[str]) -> None:
    """Take the gradients of the encoders of modalities, so that neither momentum nor decay moves them."""
    for modality in modalities:
        drop_gradients(model.encoder_parameters(modality))
