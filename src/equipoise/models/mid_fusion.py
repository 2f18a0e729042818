"""Intermediate fusion: encoders in lockstep, with MMTM blocks between their stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

from torch import Tensor, nn

from equipoise.models.contract import NamedParameter
from equipoise.models.encoders.base import Encoder, stagewise_encoders
from equipoise.models.encoders.stages import StagedPass, StagedRun
from equipoise.models.mmtm import MMTM
from equipoise.models.multimodal import MultimodalModel
from equipoise.models.options import positive
from equipoise.types import Batch, ModelError


class MidFusionModel(MultimodalModel):
    """Encoders whose last stages exchange gates (MMTM), and a late fusion of their features.

    A block stands behind each of the last `stages` stages. Encoders with different numbers of stages are
    matched from the last one backwards, and the one with the fewest limits the number of blocks.

    A feature `z^m` thus depends on every modality: passes that replace features alone do not take away what
    the encoders have already exchanged. The encoder of a modality called by itself is the plain encoder,
    without gates.

    Args:
        encoders: modality to an encoder that runs stage by stage; two modalities at least.
        fusion: the late fusion, as in `MultimodalModel`.
        num_classes: `C`; may be left out where the fusion has an attribute `num_classes`.
        blocks: MMTM blocks to use as they are, first one first, for instance those of another model.
        ratio: see `MMTM`.
        stages: the largest number of blocks.

    Attributes:
        block_list: the blocks, first one first.

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
        blocks: Sequence[MMTM] | None = None,
        *,
        ratio: int = 4,
        stages: int = 3,
    ) -> None:
        super().__init__(encoders, fusion, num_classes)
        checked = {m: _stagewise(m, encoder) for m, encoder in encoders.items()}
        if blocks is None:
            count = min(positive("stages", stages), *(len(e.stage_widths) for e in checked.values()))
            dims = {m: encoder.channel_dim or 1 for m, encoder in checked.items()}
            blocks = [MMTM(_widths(checked, k - count), dims, ratio=ratio) for k in range(count)]
        self.block_list = nn.ModuleList(blocks)
        self._check_blocks(checked)

    @property
    def blocks(self) -> list[MMTM]:
        """The blocks, first one first."""
        return cast("list[MMTM]", list(self.block_list))

    @property
    def capabilities(self) -> frozenset[str]:
        """What methods may require: those of every model, and `mid_fusion`."""
        return super().capabilities | {"mid_fusion"}

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

    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Encode the inputs of a batch in lockstep.

        Args:
            batch: a batch, or its inputs `{m: [B, ...]}`.
            only: modalities to encode; None is all. The blocks then read zeros in place of what the absent
                modalities would have told them, so that no signal crosses from those, and leave the running
                means of their gates alone.

        Returns:
            `{m: [B, d_m]}`, in the order of `modalities`.

        Raises:
            ModelError: `only` names an unknown modality, an input is missing or has another shape, or the
                inputs differ in their number of samples.
        """
        inputs = self._inputs(batch, only)
        sizes = {m: len(x) for m, x in inputs.items()}
        if len(set(sizes.values())) > 1:
            raise ModelError(f"the modalities must have the same number of samples; found {sizes}.")
        runs = {m: self._started(m, x) for m, x in inputs.items()}
        for block in self.blocks if runs else ():
            gated = block({m: run.map for m, run in runs.items()}, next(iter(sizes.values())))
            for m, run in runs.items():
                run.send(gated[m])
        return {m: self._finished(m, run) for m, run in runs.items()}

    def _started(self, modality: str, x: Tensor) -> StagedRun:
        encoder = _stagewise(modality, self.encoder_module(modality))
        try:
            run = StagedRun(encoder.stagewise(x))
        except ModelError as error:
            raise ModelError(f"modality {modality!r}: {error}") from error
        for _ in range(len(encoder.stage_widths) - len(self.block_list)):
            run.send(run.map)
        return run

    def _finished(self, modality: str, run: StagedRun) -> Tensor:
        if run.feature is None:
            raise ModelError(
                f"modality {modality!r}: the encoder has more stages than its 'stage_widths' tells."
            )
        # The encoder is called in the end, so that forward hooks on it see the feature.
        feature: Tensor = self.encoder_module(modality)(StagedPass(run.feature))
        return feature

    def _check_blocks(self, encoders: Mapping[str, Encoder]) -> None:
        count = len(self.block_list)
        if not 1 <= count <= min(len(encoder.stage_widths) for encoder in encoders.values()):
            raise ModelError(
                f"found {count} blocks; expected one at least and no more than the fewest stages."
            )
        for k, block in enumerate(self.blocks):
            expected = _widths(encoders, k - count)
            if list(block.widths.items()) != list(expected.items()):
                raise ModelError(
                    f"block {k} gates maps of {block.widths} channels, the encoders' have {expected}."
                )


def _widths(encoders: Mapping[str, Encoder], stage: int) -> dict[str, int]:
    return {m: encoder.stage_widths[stage] for m, encoder in encoders.items()}


def _stagewise(modality: str, encoder: nn.Module) -> Encoder:
    if isinstance(encoder, Encoder) and encoder.channel_dim is not None and encoder.stage_widths:
        return encoder
    name = getattr(encoder, "name", "") or type(encoder).__name__
    raise ModelError(
        f"modality {modality!r}: encoder {name!r} does not run stage by stage, which intermediate fusion "
        f"('mmtm') needs; these do: {', '.join(stagewise_encoders())}."
    )
