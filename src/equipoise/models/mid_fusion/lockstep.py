"""Encoders in lockstep, with blocks between their stages through which they exchange signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from equipoise.models.encoders.base import Encoder, stagewise_encoders
from equipoise.models.encoders.stages import StagedPass, StagedRun, Stages
from equipoise.models.multimodal import MultimodalModel
from equipoise.types import Batch, ModelError


class LockstepModel(MultimodalModel):
    """Base of the models with intermediate fusion: a block stands behind each of the last stages.

    Encoders with different numbers of stages are matched from the last one backwards. A block is a module
    `block(maps, batch_size, padding)` that takes the maps of the encoders after a stage and returns those
    that they go on with: `{m: [B, ...]}`, or `B * T` rows for the frames of videos.

    What is diagnosed, and what the late fusion reads, is the feature `z^m` that an encoder ends with. It
    depends on every modality: passes that replace features alone do not take away what the encoders have
    already exchanged (`encode` with `only` does). What is snapshot, frozen and re-learned is the encoder,
    which called by itself is the plain one, as it is in the unimodal models that methods are compared with;
    blocks belong to the fusion.

    Args:
        encoders: modality to an encoder that runs stage by stage; two modalities at least.
        fusion: the late fusion, as in `MultimodalModel`.
        num_classes: `C`; may be left out where the fusion has an attribute `num_classes`.
        blocks: blocks to use as they are, first one first, for instance those of another model.
        options: what the blocks are made with where none are given; see the subclass.

    Attributes:
        name: what `build_model` calls this kind of fusion.
        late: name and options of the late fusion that it comes with.
        block_list: the blocks, first one first.

    Raises:
        ModelError: one modality only, an encoder that does not run stage by stage, or parts that do not fit
            each other.
        UsageError: an impossible option.
    """

    name: ClassVar[str] = ""
    late: ClassVar[tuple[str, Mapping[str, object]]] = ("average", {"rule": "logit"})

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
            raise ModelError(
                f"intermediate fusion ({self.name!r}) joins at least two modalities; found {len(checked)}: "
                "for one modality use the encoder alone, with the fusion 'concat'."
            )
        self.block_list = nn.ModuleList(self._made(checked, **options) if blocks is None else blocks)
        self._check_blocks(checked)

    @property
    def capabilities(self) -> frozenset[str]:
        """What methods may require: those of every model, and `mid_fusion`."""
        return super().capabilities | {"mid_fusion"}

    def encode(
        self, batch: Batch | Mapping[str, Tensor], only: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Encode the inputs of a batch in lockstep.

        Args:
            batch: a batch, or its inputs `{m: [B, ...]}`.
            only: modalities to encode; None is all. No signal then crosses from those that are absent.

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
        padding = {m: self._encoder(m).padding(x) for m, x in inputs.items()}
        masks = {m: mask for m, mask in padding.items() if mask is not None}
        for block in self.block_list if runs else ():
            changed = block({m: run.map for m, run in runs.items()}, next(iter(sizes.values())), masks)
            for m, run in runs.items():
                run.send(changed[m])
        return {m: self._finished(m, run) for m, run in runs.items()}

    def _made(self, encoders: Mapping[str, Encoder], **options: Any) -> list[nn.Module]:
        """Return new blocks for these encoders, first one first."""
        raise NotImplementedError

    def _check_block(self, number: int, block: nn.Module, encoders: Mapping[str, Encoder]) -> None:
        """Refuse a block that does not fit the maps of its stage."""

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
        # The map that a block reads is not sent on yet; without any block the last one is.
        for _ in range(self._places(encoder) - len(self.block_list)):
            run.send(run.map)
        return run

    def _stages(self, encoder: Encoder, x: Tensor) -> Stages:
        """Start an encoder."""
        return encoder.stagewise(x)

    def _places(self, encoder: Encoder) -> int:
        """Return how many stages `_stages` has, and with that places where blocks may stand."""
        return len(encoder.stage_widths)

    def _finished(self, modality: str, run: StagedRun) -> Tensor:
        if run.feature is None:
            raise ModelError(
                f"modality {modality!r}: the encoder has more stages than its 'stage_widths' tells."
            )
        # The encoder is called in the end, so that forward hooks on it see the feature.
        feature: Tensor = self.encoder_module(modality)(StagedPass(run.feature))
        return feature

    def _encoder(self, modality: str) -> Encoder:
        return self._stagewise(modality, self.encoder_module(modality))

    def _stagewise(self, modality: str, encoder: nn.Module) -> Encoder:
        if isinstance(encoder, Encoder) and encoder.channel_dim is not None and encoder.stage_widths:
            return encoder
        name = getattr(encoder, "name", "") or type(encoder).__name__
        built = " with these options" if name in stagewise_encoders() else ""
        raise ModelError(
            f"modality {modality!r}: encoder {name!r} does not run stage by stage{built}, which intermediate "
            f"fusion ({self.name!r}) needs; these do: {', '.join(stagewise_encoders())}."
        )


def widths_at(encoders: Mapping[str, Encoder], stage: int) -> dict[str, int]:
    """Return the channels of every encoder's map after a stage, counted from the last one: -1, -2, ..."""
    return {m: encoder.stage_widths[stage] for m, encoder in encoders.items()}
