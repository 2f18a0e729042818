"""The base of models around another model, whose encoders they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from equipoise.models.contract import BalancedModel
from equipoise.types import Batch


class WrappedModel(BalancedModel):
    """A wrapper that encodes and fuses as the model inside does."""

    def __init__(self, inner: BalancedModel) -> None:
        super().__init__()
        self.modalities = tuple(inner.modalities)
        self.num_outputs, self.task = inner.num_outputs, inner.task
        self.inner = inner

    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the inner model's features `{m: [B, d_m]}`."""
        return self.inner.encode(batch, only)

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the inner model's logits `[B, C]`."""
        return self.inner.fuse(z)

    def encoder_module(self, modality: str) -> nn.Module:
        """Return the inner model's encoder of a modality."""
        return self.inner.encoder_module(modality)

    def feature_widths(self) -> dict[str, int]:
        """Return the inner model's feature widths."""
        return self.inner.feature_widths()
