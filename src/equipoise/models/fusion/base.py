"""The base of fusions: modules that turn one feature vector per modality into joint logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from equipoise.models.fusion.head import HeadView
from equipoise.models.options import listed, require_width
from equipoise.registry import Registry
from equipoise.types import ModelError


class Fusion(nn.Module, ABC):
    """Base of the fusions: `{m: [B, d_m]}` to joint logits `[B, C]`.

    A subclass sets `name`, takes its options, which its docstring describes, as keyword-only arguments of the
    constructor and defines `forward`. Modules of single modalities are in an `nn.ModuleList` in the order of
    `modalities`: a modality may have any name, but a key of an `nn.ModuleDict` may not contain a dot or be an
    attribute of a module.

    Args:
        widths: modality to feature width `d_m`, in the model's order.
        num_classes: `C`.

    Attributes:
        name: the fusion's name in the registry.
        modalities: names, in order.
        widths: as given.
        num_classes: as given.

    Raises:
        ModelError: there is no modality, a name is empty, or a width or the number of classes is below 1.
        UsageError: an option is invalid.
    """

    name: ClassVar[str] = ""

    def __init__(self, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        check_widths(widths, num_classes)
        self.modalities = tuple(widths)
        self.widths = {m: int(width) for m, width in widths.items()}
        self.num_classes = int(num_classes)

    @property
    def head(self) -> HeadView | None:
        """The view of an additive head, else None; a layer of a subclass needs another name."""
        return None

    def ordered(self, z: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the features in the order of `modalities`.

        Raises:
            ModelError: a modality is missing or has another shape than `[B, d_m]`.
        """
        if missing := [m for m in self.modalities if m not in z]:
            raise ModelError(f"fusion {self.name!r} misses the features of {listed(missing)}.")
        for m in self.modalities:
            self.require_width_of(m, z[m])
        return [z[m] for m in self.modalities]

    def require_width_of(self, modality: str, z: Tensor) -> None:
        """Raise ModelError if the feature of a modality has another shape than `[B, d_m]`."""
        width = self.widths[modality]
        require_width(z, width, f"fusion {self.name!r} takes [B, {width}] of modality {modality!r}")

    @abstractmethod
    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse pooled features `{m: [B, d_m]}` to joint logits `[B, C]`."""


FUSIONS: Registry[Fusion] = Registry(
    "fusion",
    Fusion,  # type: ignore[type-abstract]  # the registry builds none
    "equipoise.models.fusion",
    "equipoise.fusions",
)


def check_widths(widths: Mapping[str, int], num_classes: int) -> None:
    """Raise ModelError if modalities are invalid, or a width or the number of classes is below 1."""
    check_modalities(tuple(widths))
    if min(widths.values()) < 1 or num_classes < 1:
        raise ModelError(
            f"widths and classes must be at least 1; found {dict(widths)} and {num_classes} classes."
        )


def check_modalities(modalities: tuple[str, ...]) -> None:
    """Raise ModelError if there is no modality, or names are not different, non-empty strings."""
    if not modalities:
        raise ModelError("a model needs at least one modality.")
    if odd := [m for m in modalities if not isinstance(m, str) or not m]:
        raise ModelError(f"a modality's name must be a non-empty string; found {listed(odd)}.")
    if len(set(modalities)) < len(modalities):
        raise ModelError(f"modalities must have different names; found {listed(modalities)}.")
