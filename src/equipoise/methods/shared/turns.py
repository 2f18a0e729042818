"""Methods that train the modalities in turns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from equipoise.methods.core.method import Method
from equipoise.methods.core.options import check_number
from equipoise.methods.core.requirements import Requirements, check_every_modality
from equipoise.methods.core.run import Run
from equipoise.methods.shared.gradients import drop_gradients
from equipoise.models import BalancedModel
from equipoise.scopes import modes_restored
from equipoise.types import UsageError


@dataclass
class TakesTurns(Method):
    """A method that trains one modality at a time.

    Attributes:
        order: the modalities in the order of their turns; empty is the order of the model.
    """

    order: list[str] = field(default_factory=list)

    family = "loop"
    requires = Requirements(min_modalities=2)
    replaces_loss = True

    def check(self, model: BalancedModel) -> None:
        """Refuse an order that does not name every modality once."""
        super().check(model)
        check_every_modality(self.name, "order", self.order, model)

    def turns(self, run: Run) -> Sequence[str]:
        """Return the modalities in the order of their turns."""
        return self.order or run.model.modalities


@dataclass
class WeighsTurns(TakesTurns):
    """A method that combines the predictions of separately trained modalities by weights.

    Attributes:
        weights: modality to its weight at inference; empty is the method's default.
    """

    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for modality, weight in self.weights.items():
            check_number(f"the weight of {modality!r}", weight)
        if self.weights and not any(self.weights.values()):
            raise UsageError("all weights are zero; expected at least one above zero.")

    def check(self, model: BalancedModel) -> None:
        """Refuse weights that do not name every modality."""
        super().check(model)
        check_every_modality(self.name, "weights", self.weights, model)


def encoders_to_eval(model: BalancedModel, modalities: Sequence[str]) -> None:
    """Set encoders to evaluation mode, so that their running statistics stay fixed.

    Modules that they share with other encoders keep their mode.
    """
    with ExitStack() as stack:
        for other in model.modalities:
            if other not in modalities:
                stack.enter_context(modes_restored(model.encoder_module(other)))
        for modality in modalities:
            model.encoder_module(modality).eval()


def freeze_step(model: BalancedModel, modalities: Sequence[str]) -> None:
    """Remove the gradients of these encoders, so that neither momentum nor weight decay moves them."""
    for modality in modalities:
        drop_gradients(model.encoder_parameters(modality))
