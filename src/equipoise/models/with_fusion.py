"""Replace the late fusion of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from torch import Tensor, nn

from equipoise.models.build import MID_FUSIONS
from equipoise.models.contract import BalancedModel, NamedParameter
from equipoise.models.fusion.head import HeadView
from equipoise.models.mid_fusion.lockstep import LockstepModel
from equipoise.models.mid_fusion.mmtm import MMTM, MidFusionModel
from equipoise.models.multimodal import MultimodalModel, check_fusion, head_of
from equipoise.models.wrapped import WrappedModel


def with_fusion(model: BalancedModel, fusion: nn.Module, num_classes: int | None = None) -> BalancedModel:
    """Return a model with the encoders of `model` and another fusion.

    Encoders, and the blocks of intermediate fusion, are shared and not copied: training one model trains
    the other. For a `MultimodalModel` and the models of `MID_FUSIONS` the result is of the same class,
    without the old fusion. Any other model, including subclasses of these, is wrapped (`OtherFusionModel`);
    only its `fuse` and `forward` are replaced.

    Args:
        model: the model with the encoders.
        fusion: a `Fusion`, or any module that takes `{m: [B, d_m]}` and returns logits `[B, C]`.
        num_classes: `C`; not needed if the fusion has an attribute `num_classes`.

    Raises:
        ModelError: the fusion does not match the encoders.
    """
    changed: BalancedModel
    # A subclass may have other parts than encoders; rebuilding it from them would lose these parts.
    if isinstance(model, LockstepModel) and type(model) in MID_FUSIONS.values():
        changed = type(model)(model.encoders, fusion, num_classes, list(model.block_list))
    elif type(model) is MultimodalModel:
        changed = MultimodalModel(model.encoders, fusion, num_classes)
    else:
        # Wrappers are not nested.
        inner = model.inner if type(model) is OtherFusionModel else model
        changed = OtherFusionModel(inner, fusion, num_classes)
    changed.task = model.task
    return changed


class OtherFusionModel(WrappedModel):
    """A wrapper with the `encode` of another model and a new fusion.

    The wrapper contains the other model completely. If that model names its old fusion (`_fusion_module`),
    the parameters that only the old fusion uses are excluded from `parameters()` and from every group.
    Otherwise they cannot be distinguished from parameters that `encode` needs: they stay in
    `fusion_parameters`, but never get a gradient, so that optimisers skip them. In both cases `state_dict`
    contains them.

    Around a model with the capability `gates` it has the interface of a `MidFusionModel`; blocks belong to
    `fusion_parameters`.
    """

    def __init__(self, inner: BalancedModel, fusion: nn.Module, num_classes: int | None = None) -> None:
        super().__init__(inner)
        self.num_outputs = check_fusion(fusion, self.modalities, num_classes)
        self.fusion = fusion

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the new fusion's logits `[B, C]`."""
        logits: Tensor = self.fusion(z)
        return logits

    @property
    def head(self) -> HeadView | None:
        """The new fusion's view of an additive head, else None."""
        return head_of(self.fusion)

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities of the features and the new fusion, and what the encoders exchange."""
        return super().capabilities | (self.inner.capabilities & {"mid_fusion", "gates"})

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield all parameters except those that only the old fusion used."""
        retired = self._retired()
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):
            if parameter not in retired:
                yield name, parameter

    def _retired(self) -> set[nn.Parameter]:
        fusion_of = getattr(self.inner, "_fusion_module", None)
        old = fusion_of() if callable(fusion_of) else None
        if old is None:
            return set()
        in_use = [self.fusion, *(self.encoder_module(m) for m in self.modalities)]
        return set(old.parameters()) - {parameter for module in in_use for parameter in module.parameters()}

    def _fusion_module(self) -> nn.Module:
        return self.fusion

    @property
    def blocks(self) -> list[MMTM]:
        """The inner model's blocks in order."""
        return self._mid.blocks

    def block_parameters(self, modality: str) -> list[NamedParameter]:
        """Return the block parameters of a modality, named as in `named_parameters`."""
        wanted = {parameter for _, parameter in self._mid.block_parameters(modality)}
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter in wanted]

    def curate(self, modality: str | None) -> None:
        """Replace the gates of a modality by their running means in all blocks; None ends this."""
        self._mid.curate(modality)

    @property
    def _mid(self) -> MidFusionModel:
        return cast("MidFusionModel", self.inner)
