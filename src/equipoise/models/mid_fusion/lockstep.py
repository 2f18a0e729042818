"""Run encoders in lockstep, with blocks between their stages that exchange signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from equipoise.models.encoders.base import Encoder, stagewise_encoders
from equipoise.models.encoders.stages import StagedPass, StagedRun, Stages
from equipoise.models.multimodal import MultimodalModel
from equipoise.types import Batch, ModelError, UnfitModelError


class LockstepModel(MultimodalModel):
    """Base of the models with intermediate fusion: there is a block after each of the last stages.

    Encoders with different numbers of stages are aligned at their last stage. A block is a module
    `block(maps, batch_size, padding)`: it takes the maps of the encoders after a stage and returns the input
    of the next stage: `{m: [B, ...]}`, or `B * T` rows for the frames of videos.

    The diagnosis and the late fusion read the final feature `z^m` of each encoder. It depends on all
    modalities: replacing the features of a modality does not remove the signals it has already sent to the
    others (`encode` with `only` does). Snapshots, freezing and re-learning apply to the encoders. An encoder
    called alone works without blocks, as in the unimodal models for comparison. Blocks belong to the fusion.

    Args:
        encoders: modality to an encoder that runs stage by stage; at least two modalities.
        fusion: the late fusion, as in `MultimodalModel`.
        num_classes: `C`; not needed if the fusion has an attribute `num_classes`.
        blocks: existing blocks in order, for instance those of another model.
        options: of new blocks; see the subclass.

    Attributes:
        name: of this kind of fusion in `build_model`.
        late: name and options of the default late fusion.
        new_blocks: returns new blocks for checked encoders; its keyword-only parameters are the options.
        block_kind: class of blocks that have the channels of each map in the attribute `widths`; a model with
            other blocks checks them in `_check_block`.
        block_list: the blocks in order.

    Raises:
        ModelError: there is only one modality, an encoder does not run stage by stage, or parts do not match.
        UsageError: an option is invalid.
    """

    name: ClassVar[str] = ""
    late: ClassVar[tuple[str, Mapping[str, object]]] = ("average", {"rule": "logit"})
    new_blocks: Callable[..., list[nn.Module]]
    block_kind: ClassVar[type[nn.Module]]

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        num_classes: int | None = None,
        blocks: Sequence[nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(encoders, fusion, num_classes)
        checked = {m: self._stagewise(m, encoder) for m, encoder in encoders.items()}
        if len(checked) < 2:
            raise UnfitModelError(
                f"intermediate fusion ({self.name!r}) joins at least two modalities; found {len(checked)}: "
                "for one modality use the encoder alone, with the fusion 'concat'."
            )
        self.block_list = nn.ModuleList(self.new_blocks(checked, **options) if blocks is None else blocks)
        self._check_blocks(checked)

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities of every model, and `mid_fusion`."""
        return super().capabilities | {"mid_fusion"}

    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Encode the inputs of a batch in lockstep; modalities left out by `only` send no signals.

        Raises:
            ModelError: see `MultimodalModel.encode`; or the inputs differ in their number of samples.
        """
        inputs = self._inputs(batch, only)
        # Not len(x), which torch.export would take for a constant.
        sizes = {m: x.shape[0] for m, x in inputs.items()}
        if any(size != next(iter(sizes.values())) for size in sizes.values()):
            raise ModelError(f"the modalities must have the same number of samples; found {sizes}.")
        runs = {m: self._started(m, x) for m, x in inputs.items()}
        padding = {m: self._encoder(m).padding(x) for m, x in inputs.items()}
        masks = {m: mask for m, mask in padding.items() if mask is not None}
        for block in self.block_list if runs else ():
            changed = block({m: run.map for m, run in runs.items()}, next(iter(sizes.values())), masks)
            for m, run in runs.items():
                run.send(changed[m])
        return {m: self._finished(m, run) for m, run in runs.items()}

    def _check_block(self, number: int, block: nn.Module, encoders: Mapping[str, Encoder]) -> None:
        """Raise ModelError if a block does not match the maps of its stage."""
        expected = widths_at(encoders, number - len(self.block_list))
        kind = type(block).__name__
        found = getattr(block, "widths", kind) if isinstance(block, self.block_kind) else kind
        if not isinstance(found, dict) or list(found.items()) != list(expected.items()):
            raise ModelError(f"block {number} joins maps of {found} channels, the encoders' have {expected}.")

    def _check_blocks(self, encoders: Mapping[str, Encoder]) -> None:
        if len(self.block_list) > min(self._places(encoder) for encoder in encoders.values()):
            raise ModelError(f"found {len(self.block_list)} blocks; expected no more than the fewest stages.")
        for number, block in enumerate(self.block_list):
            self._check_block(number, block, encoders)

    def _started(self, modality: str, x: Tensor) -> StagedRun:
        """Run the stages before the first block."""
        encoder = self._encoder(modality)
        try:
            run = StagedRun(self._stages(encoder, x))
        except ModelError as error:
            raise ModelError(f"modality {modality!r}: {error}") from error
        # Stop before the map that the first block reads; without blocks, run to the end.
        for _ in range(self._places(encoder) - len(self.block_list)):
            run.send(run.map)
        return run

    def _stages(self, encoder: Encoder, x: Tensor) -> Stages:
        """Start an encoder."""
        return encoder.stagewise(x)

    def _places(self, encoder: Encoder) -> int:
        """Return the number of stages of `_stages`, which is the maximum number of blocks."""
        return len(encoder.stage_widths)

    def _finished(self, modality: str, run: StagedRun) -> Tensor:
        if run.feature is None:
            raise ModelError(f"modality {modality!r}: the encoder has more stages than its 'stage_widths'.")
        # The final call of the encoder triggers its forward hooks with the feature.
        feature: Tensor = self.encoder_module(modality)(StagedPass(run.feature))
        return feature

    def _encoder(self, modality: str) -> Encoder:
        return self._stagewise(modality, self.encoder_module(modality))

    def _stagewise(self, modality: str, encoder: nn.Module) -> Encoder:
        if isinstance(encoder, Encoder) and encoder.channel_dim is not None and encoder.stage_widths:
            return encoder
        name = getattr(encoder, "name", "") or type(encoder).__name__
        built = " with these options" if name in stagewise_encoders() else ""
        raise UnfitModelError(
            f"modality {modality!r}: encoder {name!r} does not run stage by stage{built}, which intermediate "
            f"fusion ({self.name!r}) needs; these do: {', '.join(stagewise_encoders())}."
        )


def widths_at(encoders: Mapping[str, Encoder], stage: int) -> dict[str, int]:
    """Return the channels of every encoder's map after a stage, counted from the end: -1, -2, ..."""
    return {m: encoder.stage_widths[stage] for m, encoder in encoders.items()}
