"""Intermediate fusion: encoders in lockstep, with MMTM blocks between their stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from torch import nn

from equipoise.models.contract import NamedParameter
from equipoise.models.encoders.base import Encoder
from equipoise.models.mid_fusion.lockstep import LockstepModel, widths_at
from equipoise.models.mid_fusion.mmtm import MMTM
from equipoise.models.options import positive
from equipoise.types import ModelError


class MidFusionModel(LockstepModel):
    """Encoders whose last stages exchange gates (MMTM), and a late fusion of their features.

    A block stands behind each of the last `stages` stages; the encoder with the fewest stages limits their
    number. Where modalities are left out of a pass, the blocks read zeros in place of what those would have
    told them, and leave the running means of their gates alone.

    Args:
        encoders: modality to an encoder that runs stage by stage; two modalities at least.
        fusion: the late fusion, as in `MultimodalModel`.
        num_classes: `C`; may be left out where the fusion has an attribute `num_classes`.
        blocks: MMTM blocks to use as they are, first one first, for instance those of another model.
        ratio: see `MMTM`.
        stages: the largest number of blocks.

    Raises:
        ModelError: one modality only, an encoder that does not run stage by stage, or parts that do not fit
            each other.
        UsageError: an impossible option.
    """

    name: ClassVar[str] = "mmtm"

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        num_classes: int | None = None,
        blocks: Sequence[nn.Module] | None = None,
        *,
        ratio: int = 4,
        stages: int = 3,
    ) -> None:
        super().__init__(encoders, fusion, num_classes, blocks, ratio=ratio, stages=stages)

    @property
    def blocks(self) -> list[MMTM]:
        """The blocks, first one first."""
        return cast("list[MMTM]", list(self.block_list))

    @property
    def capabilities(self) -> frozenset[str]:
        """What methods may require: those of every model with intermediate fusion, and `gates`."""
        return super().capabilities | {"gates"}

    def block_parameters(self, modality: str) -> list[NamedParameter]:
        """Return the parameters of the blocks that serve a modality, named as in `named_parameters`.

        These are its own layer `E_m` of every block and the squeezing layer `A`, which serves all of them and
        is thus in the list of each. They belong to `fusion_parameters`, and to no encoder's.

        Raises:
            ModelError: unknown modality.
        """
        self._require_known([modality])
        serving = [part for block in self.blocks for part in (block.squeeze, block.excite_layer(modality))]
        wanted = {parameter for part in serving for parameter in part.parameters()}
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter in wanted]

    def curate(self, modality: str | None) -> None:
        """Replace one modality's gates by their running means in all blocks, or nobody's; see `MMTM.curate`.

        It holds in evaluation mode too: call it with None before validating.

        Raises:
            ModelError: unknown modality.
        """
        if modality is not None:
            self._require_known([modality])
        for block in self.blocks:
            block.curate(modality)

    def _made(self, encoders: Mapping[str, Encoder], **options: Any) -> list[nn.Module]:
        stages = positive("stages", options["stages"])
        count = min(stages, *(len(encoder.stage_widths) for encoder in encoders.values()))
        dims = {m: encoder.channel_dim or 1 for m, encoder in encoders.items()}
        widths = [widths_at(encoders, k - count) for k in range(count)]
        return [MMTM(each, dims, ratio=options["ratio"]) for each in widths]

    def _check_blocks(self, encoders: Mapping[str, Encoder]) -> None:
        if not self.block_list:
            raise ModelError("found 0 blocks; expected one at least and no more than the fewest stages.")
        super()._check_blocks(encoders)

    def _check_block(self, number: int, block: nn.Module, encoders: Mapping[str, Encoder]) -> None:
        expected = widths_at(encoders, number - len(self.block_list))
        if not isinstance(block, MMTM) or list(block.widths.items()) != list(expected.items()):
            found = block.widths if isinstance(block, MMTM) else type(block).__name__
            raise ModelError(f"block {number} gates maps of {found} channels, the encoders' have {expected}.")
