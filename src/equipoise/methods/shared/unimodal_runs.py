"""Methods that start from the encoders of the finished unimodal runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equipoise.methods.core.method import Method
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.unimodal import Unimodal
from equipoise.models import BalancedModel
from equipoise.tasks import EVERY_TASK
from equipoise.types import UsageError


@dataclass
class StartsFromUnimodal(Method):
    """A method that joins the encoders of the runs `unimodal:m`."""

    family = "reference"
    source = "the usual baseline"
    requires = Requirements(tasks=EVERY_TASK)

    def check(self, model: BalancedModel) -> None:
        """Refuse a model whose encoders share parameters: trained separately, they would differ."""
        super().check(model)
        modules = {id(model.encoder_module(m)) for m in model.modalities}
        if model.shared_parameters() or len(modules) < len(model.modalities):
            raise UsageError(
                f"the method {self.name!r} joins encoders that were trained separately, and those of this "
                "model share parameters; choose another method, or separate encoders."
            )

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the unimodal runs."""
        return Unimodal.variants(modalities)

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Copy weights and buffers of the encoders."""
        for modality in model.modalities:
            trained = parts[f"{Unimodal.name}:{modality}"].encoder_module(modality)
            model.encoder_module(modality).load_state_dict(trained.state_dict())
