"""One classifier for each modality: the heads of late fusion, and auxiliary heads of any model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from equipoise.models.fusion.base import check_widths
from equipoise.models.options import require_modalities, require_width


class OwnHeads(nn.Module):
    """One linear classifier for each modality: `u^m = z^m W_m^T + b_m`.

    Args:
        widths: modality to feature width `d_m`, in the model's order.
        num_classes: `C`.

    Attributes:
        modalities: names, in order.
        linears: the classifiers, in the same order.

    Raises:
        ModelError: there is no modality, a name is empty, or a width or the number of classes is below 1.
    """

    def __init__(self, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        check_widths(widths, num_classes)
        self.modalities = tuple(widths)
        self.linears = nn.ModuleList(nn.Linear(int(d), int(num_classes)) for d in widths.values())

    def by_modality(self) -> dict[str, nn.Linear]:
        """Return the classifiers by modality, in order."""
        return dict(zip(self.modalities, cast("list[nn.Linear]", list(self.linears)), strict=True))

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return the logits `[B, C]` of the classifier of one modality for its feature `[B, d_m]`.

        Raises:
            ModelError: unknown modality, or `z` has another width.
        """
        require_modalities([modality], self.modalities, "there is no head of")
        head = self.by_modality()[modality]
        width = head.in_features
        require_width(z, width, f"the head of modality {modality!r} takes [B, {width}]")
        logits: Tensor = head(z)
        return logits

    def forward(self, z: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the logits `{m: [B, C]}` of the given features `{m: [B, d_m]}`, in order.

        Raises:
            ModelError: a modality is unknown, or a feature has another width.
        """
        require_modalities(z, self.modalities, "there is no head of")
        return {m: self.own_logits(m, z[m]) for m in self.modalities if m in z}
