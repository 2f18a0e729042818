"""Multimodal transfer modules (MMTM: Joze, Shaban, Iuzzolino, Koishida, CVPR 2020, arXiv 1911.08670)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from equipoise.models.contract import NamedParameter
from equipoise.models.encoders.base import Encoder
from equipoise.models.encoders.stages import masked_mean
from equipoise.models.fusion.base import check_modalities
from equipoise.models.mid_fusion.lockstep import LockstepModel, widths_at
from equipoise.models.options import listed, positive, require_modalities
from equipoise.sharing import mean_of_rows
from equipoise.types import ModelError


class MMTM(nn.Module):
    """Gates the channels of every modality's map, depending on the maps of all modalities.

    With `s = [s^1 .. s^M]`, the means of the maps over their positions, and `e = relu(s A^T + a)` of width
    `2 * sum_m d_m / ratio`, the gates are `o^m = sigmoid(e E_m^T + e_m)` and the maps become `h^m * o^m`. The
    published block has two modalities; the formula is the same for more.

    The greedy-learning method (Wu, Jastrzebski, Cho, Geras, ICML 2022, arXiv 2202.05306) uses the running
    mean of the gates: after every forward pass in training mode with all modalities and without curation,
    `obar <- (obar * n + mean_batch(o)) / (n + 1)`. It is a buffer and thus part of the state dict.

    Args:
        widths: modality to channels `d_m` of its map, in the model's order.
        channel_dims: modality to the channel dimension of its map; default 1.
        ratio: reduction of the squeezed vector.

    Attributes:
        modalities: names, in order.
        squeeze: the layer `A`, common to all modalities.
        excite: the layers `E_m`, in order.
        gate_count: the number `n` of forward passes in the running mean.
        curated: the modality whose gates are replaced by their running mean, or None; see `curate`.

    Raises:
        ModelError: there are fewer than two modalities, or a method is given an unknown one.
        UsageError: an option is invalid.
    """

    gate_count: Tensor

    def __init__(
        self, widths: Mapping[str, int], channel_dims: Mapping[str, int] | None = None, *, ratio: int = 4
    ) -> None:
        super().__init__()
        check_modalities(tuple(widths))
        if len(widths) < 2:
            raise ModelError(
                f"an MMTM block joins at least two modalities; found {listed(widths)}: for one modality use "
                "the encoder alone, with the fusion 'concat'."
            )
        self.modalities = tuple(widths)
        self.widths = dict(widths)
        self.channel_dims = {m: (channel_dims or {}).get(m, 1) for m in widths}
        total = sum(widths.values())
        narrow = max(1, 2 * total // positive("ratio", ratio))
        self.squeeze = nn.Linear(total, narrow)
        self.excite = nn.ModuleList(nn.Linear(narrow, d) for d in widths.values())
        for index, d in enumerate(widths.values()):
            self.register_buffer(self._mean_name(index), torch.zeros(d))
        self.register_buffer("gate_count", torch.zeros((), dtype=torch.long))
        self.curated: str | None = None

    def curate(self, modality: str | None) -> None:
        """Replace the gates of one modality by their running mean; None ends this.

        Until then the modality gets no signal from the others through this block, in evaluation mode too, and
        the running means do not change. Before the first forward pass in training mode, the mean over the
        current batch is used.
        """
        if modality is not None:
            self._position(modality)
        self.curated = modality

    def mean_gate(self, modality: str) -> Tensor:
        """Return the buffer with the running mean of a modality's gates `[d_m]`, at first zeros."""
        mean: Tensor = getattr(self, self._mean_name(self._position(modality)))
        return mean

    def excite_layer(self, modality: str) -> nn.Module:
        """Return the layer `E_m` of a modality."""
        return self.excite[self._position(modality)]

    def gates(self, squeezed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the gates `{m: [B, d_m]}` of the given modalities, without curation.

        They depend on the means over positions `{m: [B, d_m]}`; missing modalities count as zeros.
        """
        first = next(iter(squeezed.values()))
        parts = [
            squeezed[m] if m in squeezed else first.new_zeros(len(first), self.widths[m])
            for m in self.modalities
        ]
        narrow = self.squeeze(torch.cat(parts, dim=1)).relu()
        return {m: self.excite_layer(m)(narrow).sigmoid() for m in self.modalities if m in squeezed}

    def forward(
        self, maps: Mapping[str, Tensor], batch_size: int, padding: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Gate maps.

        Args:
            maps: modality to map, with channels in the dimension of `channel_dims` and `B` rows, or `B * T`
                rows for the frames of videos, sample by sample. All frames of a sample have the same gates.
            batch_size: `B`.
            padding: modality to `[B, T]` (bool), True at the steps of its map `[B, T, d_m]` that are padding.

        Returns:
            The gated maps, in order, of the same shapes.

        Raises:
            ModelError: a modality is unknown, there is none, or a map has other channels or rows.
        """
        self._check(maps, batch_size)
        masks = padding or {}
        gates = self.gates({m: self._squeezed(m, h, batch_size, masks.get(m)) for m, h in maps.items()})
        if self.curated is not None and self.curated in gates:
            gates[self.curated] = self._mean_or(gates[self.curated])
        elif self.training and len(gates) == len(self.modalities):
            self._update_means(gates)
        return {m: self._gated(m, maps[m], gate) for m, gate in gates.items()}

    def _squeezed(self, modality: str, h: Tensor, batch_size: int, padding: Tensor | None) -> Tensor:
        if padding is not None:
            return masked_mean(h, padding)
        # The mean of means is the mean over all positions, because all frames are equally large.
        channels = h.movedim(self.channel_dims[modality], 1)
        rows = channels.reshape(h.shape[0], self.widths[modality], -1).mean(dim=2)
        return rows.reshape(batch_size, -1, rows.shape[1]).mean(dim=1)

    def _gated(self, modality: str, h: Tensor, gate: Tensor) -> Tensor:
        gate = gate.repeat_interleave(h.shape[0] // gate.shape[0], dim=0)
        shape = [1] * h.ndim
        shape[0], shape[self.channel_dims[modality]] = gate.shape
        return h * gate.reshape(shape)

    @torch.no_grad()
    def _mean_or(self, gate: Tensor) -> Tensor:
        assert self.curated is not None
        mean = self.mean_gate(self.curated).to(gate.dtype)
        # torch.where avoids a synchronisation of the device at every block, and returns a copy that later
        # updates of the buffer do not change.
        mean = torch.where(self.gate_count > 0, mean, gate.mean(dim=0))
        return mean.expand_as(gate)

    @torch.no_grad()
    def _update_means(self, gates: Mapping[str, Tensor]) -> None:
        self.gate_count += 1
        for m, gate in gates.items():
            mean = self.mean_gate(m)
            mean += (mean_of_rows(gate.to(mean.dtype)) - mean) / self.gate_count

    def _check(self, maps: Mapping[str, Tensor], batch_size: int) -> None:
        if not maps:
            raise ModelError(f"an MMTM block needs the map of at least one of {listed(self.modalities)}.")
        for m, h in maps.items():
            self._position(m)
            dim, width = self.channel_dims[m], self.widths[m]
            if h.ndim < 2 or h.shape[dim] != width or h.shape[0] % batch_size:
                raise ModelError(
                    f"an MMTM block takes {width} channels in dimension {dim} of the map of modality {m!r} "
                    f"and rows for {batch_size} samples; found {tuple(h.shape)}."
                )

    def _position(self, modality: str) -> int:
        require_modalities([modality], self.modalities, "the MMTM block has no modality")
        return self.modalities.index(modality)

    @staticmethod
    def _mean_name(index: int) -> str:
        # By position: a modality may have a name that is not valid for a buffer.
        return f"gate_mean_{index}"


class MidFusionModel(LockstepModel):
    """Encoders whose last stages exchange gates (MMTM), and a late fusion of their features.

    There is a block after each of the last `stages` stages; the encoder with the fewest stages limits their
    number. In a forward pass without some modalities, the blocks read zeros in their place and do not update
    running means.

    Args:
        ratio: see `MMTM`; for the other arguments see `LockstepModel`.
        stages: maximum number of blocks.

    Raises:
        ModelError: see `LockstepModel`; or a method is given an unknown modality.
        UsageError: an option is invalid.
    """

    name: ClassVar[str] = "mmtm"

    block_kind: ClassVar[type[nn.Module]] = MMTM

    def new_blocks(
        self, encoders: Mapping[str, Encoder], *, ratio: int = 4, stages: int = 3
    ) -> list[nn.Module]:
        """Return a block after each of the last stages."""
        count = min(positive("stages", stages), *(len(encoder.stage_widths) for encoder in encoders.values()))
        dims = {m: encoder.channel_dim or 1 for m, encoder in encoders.items()}
        return [MMTM(widths_at(encoders, k - count), dims, ratio=ratio) for k in range(count)]

    @property
    def blocks(self) -> list[MMTM]:
        """The blocks in order."""
        return cast("list[MMTM]", list(self.block_list))

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities of a model with intermediate fusion, and `gates`."""
        return super().capabilities | {"gates"}

    def block_parameters(self, modality: str) -> list[NamedParameter]:
        """Return the block parameters of a modality, named as in `named_parameters`.

        These are its layers `E_m` and the layers `A`, which all modalities have in common. They belong to
        `fusion_parameters`.
        """
        self._require_known([modality])
        serving = [part for block in self.blocks for part in (block.squeeze, block.excite_layer(modality))]
        wanted = {parameter for part in serving for parameter in part.parameters()}
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter in wanted]

    def curate(self, modality: str | None) -> None:
        """Replace the gates of a modality by their running means in all blocks; see `MMTM.curate`.

        This also applies in evaluation mode: call it with None before validation.
        """
        if modality is not None:
            self._require_known([modality])
        for block in self.blocks:
            block.curate(modality)

    def _check_blocks(self, encoders: Mapping[str, Encoder]) -> None:
        if not self.block_list:
            raise ModelError("found 0 blocks; expected at least one, and no more than the fewest stages.")
        super()._check_blocks(encoders)
