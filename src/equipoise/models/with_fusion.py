"""The same encoders under another late fusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from equipoise.models.build import MID_FUSIONS
from equipoise.models.contract import BalancedModel, NamedParameter
from equipoise.models.fusion.head import HeadView
from equipoise.models.mid_fusion.lockstep import LockstepModel
from equipoise.models.mid_fusion.mmtm import MMTM
from equipoise.models.mid_fusion.model import MidFusionModel
from equipoise.models.multimodal import MultimodalModel, check_fusion, head_of
from equipoise.types import Batch


def with_fusion(model: BalancedModel, fusion: nn.Module, num_classes: int | None = None) -> BalancedModel:
    """Return a model that encodes as `model` does and fuses with another module.

    Encoders, and the blocks of intermediate fusion, are used and not copied: training the one model trains
    the other. A `MultimodalModel` and the models of `MID_FUSIONS` give one of their kind, without the old
    fusion. Any other model, a subclass of these too, is wrapped (`OtherFusionModel`, `OtherMidFusionModel`
    where it offers `mid_fusion`, or `OtherGatedModel` where it offers `gates`) and keeps what it has of its
    own, but for `fuse` and `forward`.

    Args:
        model: the model whose encoders are used.
        fusion: a `Fusion`, or any module that takes `{m: [B, d_m]}` and returns logits `[B, C]`.
        num_classes: `C`; may be left out where the fusion has an attribute `num_classes`.

    Raises:
        ModelError: the fusion does not fit the encoders.
    """
    changed: BalancedModel
    wrapper: type[OtherFusionModel]
    # A subclass may be more than encoders, anywhere: rebuilding it from them would lose that.
    if isinstance(model, LockstepModel) and type(model) in MID_FUSIONS.values():
        changed = type(model)(model.encoders, fusion, num_classes, list(model.block_list))
    elif type(model) is MultimodalModel:
        changed = MultimodalModel(model.encoders, fusion, num_classes)
    else:
        wrapper = OtherMidFusionModel if "mid_fusion" in model.capabilities else OtherFusionModel
        wrapper = OtherGatedModel if "gates" in model.capabilities else wrapper
        inner: BalancedModel = model
        if isinstance(model, OtherFusionModel) and type(model) in (OtherFusionModel, wrapper):
            inner = model.inner  # wrappers do not pile up
        changed = wrapper(inner, fusion, num_classes)
    changed.task = model.task
    return changed


class OtherFusionModel(BalancedModel):
    """A model that encodes as another one does and fuses anew.

    The other model is held as a whole. Where it says which module its old fusion is (`_fusion_module`), the
    parameters of that module which no encoder uses are left out of `parameters()` and of every group, since
    nothing reaches them any more. Where it does not say so, they cannot be told from parameters that `encode`
    needs beside the encoders: they stay in `fusion_parameters`, never get a gradient, and optimisers pass
    over them. Either way `state_dict` holds them.

    Args:
        inner: the model that encodes.
        fusion: as in `with_fusion`.
        num_classes: as in `with_fusion`.

    Attributes:
        inner: as given.
        fusion: as given.

    Raises:
        ModelError: the fusion does not fit the model.
    """

    def __init__(self, inner: BalancedModel, fusion: nn.Module, num_classes: int | None = None) -> None:
        super().__init__()
        self.modalities = tuple(inner.modalities)
        self.num_outputs = check_fusion(fusion, self.modalities, num_classes)
        self.task = inner.task
        self.inner = inner
        self.fusion = fusion

    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the inner model's features `{m: [B, d_m]}`."""
        return self.inner.encode(batch, only)

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the new fusion's logits `[B, C]`."""
        logits: Tensor = self.fusion(z)
        return logits

    def encoder_module(self, modality: str) -> nn.Module:
        """Return the inner model's encoder of a modality."""
        return self.inner.encoder_module(modality)

    def feature_widths(self) -> dict[str, int]:
        """Return the inner model's feature widths."""
        return self.inner.feature_widths()

    @property
    def head(self) -> HeadView | None:
        """The new fusion's view of its head where it is additive, else None."""
        return head_of(self.fusion)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield all parameters but those that the old fusion alone used."""
        retired = self._retired()
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):
            if parameter not in retired:
                yield name, parameter

    def _retired(self) -> set[nn.Parameter]:
        ask = getattr(self.inner, "_fusion_module", None)
        old = ask() if callable(ask) else None
        if old is None:
            return set()
        in_use = [self.fusion, *(self.encoder_module(m) for m in self.modalities)]
        return set(old.parameters()) - {parameter for module in in_use for parameter in module.parameters()}

    def _fusion_module(self) -> nn.Module:
        return self.fusion


class OtherMidFusionModel(OtherFusionModel):
    """The same around a model with intermediate fusion, whose blocks stay between the encoders.

    It offers `mid_fusion` as the inner model does; the blocks belong to `fusion_parameters`.
    """

    @property
    def capabilities(self) -> frozenset[str]:
        """What methods may require, `mid_fusion` among it."""
        return super().capabilities | {"mid_fusion"}


class OtherGatedModel(OtherMidFusionModel):
    """The same around a model whose encoders exchange gates.

    It offers `gates` as the inner model does, and with it what methods use of a `MidFusionModel`.
    """

    @property
    def capabilities(self) -> frozenset[str]:
        """What methods may require, `gates` among it."""
        return super().capabilities | {"gates"}

    @property
    def blocks(self) -> list[MMTM]:
        """The inner model's blocks, first one first."""
        return self._mid.blocks

    def block_parameters(self, modality: str) -> list[NamedParameter]:
        """Return the parameters of the blocks that serve a modality, named as in `named_parameters`."""
        wanted = {parameter for _, parameter in self._mid.block_parameters(modality)}
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter in wanted]

    def curate(self, modality: str | None) -> None:
        """Replace one modality's gates by their running means in all blocks, or nobody's."""
        self._mid.curate(modality)

    @property
    def _mid(self) -> MidFusionModel:
        return cast("MidFusionModel", self.inner)
