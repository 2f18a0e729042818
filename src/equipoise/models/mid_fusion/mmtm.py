"""Multimodal transfer modules (Joze, Shaban, Iuzzolino, Koishida, CVPR 2020, arXiv 1911.08670)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from equipoise.models.encoders.stages import masked_mean
from equipoise.models.fusion.base import check_modalities
from equipoise.models.options import listed, positive
from equipoise.types import ModelError


class MMTM(nn.Module):
    """Gates on the channels of every modality's map that depend on the maps of all.

    With `s = [s^1 .. s^M]`, the means of the maps over their positions, and `e = relu(s A^T + a)` of width
    `2 * sum_m d_m / ratio`, the gates are `o^m = sigmoid(e E_m^T + e_m)` and the maps become `h^m * o^m`. The
    published block is that of two modalities; for more of them the formula is the same.

    The running mean of the gates serves the greedy-learning method (Wu, Jastrzebski, Cho, Geras, ICML 2022,
    arXiv 2202.05306): after every pass in training mode that holds all modalities and in which nothing is
    curated, `obar <- (obar * n + mean_batch(o)) / (n + 1)`. It is a buffer, so that it moves, is saved and is
    loaded with the weights.

    Args:
        widths: modality to channels `d_m` of its map, in the model's order.
        channel_dims: modality to the dimension of its map that holds the channels; 1 for those left out.
        ratio: by how much the squeezed vector is narrowed.

    Attributes:
        modalities: names, in order.
        squeeze: the layer `A`, which serves all modalities.
        excite: the layers `E_m`, in order.
        gate_count: the `n` of the running mean, the number of passes in it.

    Raises:
        ModelError: fewer than two modalities.
        UsageError: an impossible option.
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
        self._curated: str | None = None

    @property
    def curated(self) -> str | None:
        """The modality whose gates are replaced by their running mean, None where there is none."""
        return self._curated

    def curate(self, modality: str | None) -> None:
        """Replace the gates of one modality by their running mean, or of none.

        Until it is called with None the modality gets no signal from the others through this block, in
        evaluation mode too, and no running mean changes. Before the first pass in training mode, when there
        is no running mean yet, the mean over the batch at hand stands in.

        Raises:
            ModelError: unknown modality.
        """
        if modality is not None:
            self._position(modality)
        self._curated = modality

    def mean_gate(self, modality: str) -> Tensor:
        """Return the running mean of a modality's gates, `[d_m]`, the live buffer; zeros before any pass.

        Raises:
            ModelError: unknown modality.
        """
        mean: Tensor = getattr(self, self._mean_name(self._position(modality)))
        return mean

    def excite_layer(self, modality: str) -> nn.Module:
        """Return the layer `E_m` of a modality.

        Raises:
            ModelError: unknown modality.
        """
        return self.excite[self._position(modality)]

    def gates(self, squeezed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the gates `{m: [B, d_m]}` of the modalities that are given, running means not considered.

        Args:
            squeezed: `{m: [B, d_m]}`, the means over positions. What is missing counts as zeros.
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
                for the frames of videos, sample by sample: one sample has one squeezed vector and one gate
                for each channel, whatever the number of its frames.
            batch_size: `B`.
            padding: modality to `[B, T]` (bool), True at the steps of its map `[B, T, d_m]` that are padding
                and say nothing; none for those left out.

        Returns:
            The gated maps, in order, of the same shapes.

        Raises:
            ModelError: unknown or no modality, or a map with other channels or rows.
        """
        self._check(maps, batch_size)
        masks = padding or {}
        gates = self.gates({m: self._squeezed(m, h, batch_size, masks.get(m)) for m, h in maps.items()})
        if self._curated is not None and self._curated in gates:
            gates[self._curated] = self._mean_or(gates[self._curated])
        elif self.training and len(gates) == len(self.modalities):
            self._update_means(gates)
        return {m: self._gated(m, maps[m], gate) for m, gate in gates.items()}

    def _squeezed(self, modality: str, h: Tensor, batch_size: int, padding: Tensor | None) -> Tensor:
        if padding is not None:
            return masked_mean(h, padding)
        # Means of means are the mean over all positions, because every frame has as many.
        rows = (
            h.movedim(self.channel_dims[modality], 1).reshape(len(h), self.widths[modality], -1).mean(dim=2)
        )
        return rows.reshape(batch_size, -1, rows.shape[1]).mean(dim=1)

    def _gated(self, modality: str, h: Tensor, gate: Tensor) -> Tensor:
        gate = gate.repeat_interleave(len(h) // len(gate), dim=0)
        shape = [1] * h.ndim
        shape[0], shape[self.channel_dims[modality]] = gate.shape
        return h * gate.reshape(shape)

    @torch.no_grad()
    def _mean_or(self, gate: Tensor) -> Tensor:
        assert self._curated is not None
        mean = self.mean_gate(self._curated).to(gate.dtype)
        # Chosen on the device: asking the host for the count would wait for it at every block. The result is
        # a copy, which later updates of the buffer do not reach.
        mean = torch.where(self.gate_count > 0, mean, gate.mean(dim=0))
        return mean.expand_as(gate)

    @torch.no_grad()
    def _update_means(self, gates: Mapping[str, Tensor]) -> None:
        self.gate_count += 1
        for m, gate in gates.items():
            mean = self.mean_gate(m)
            mean += (gate.to(mean.dtype).mean(dim=0) - mean) / self.gate_count

    def _check(self, maps: Mapping[str, Tensor], batch_size: int) -> None:
        if not maps:
            raise ModelError(
                f"an MMTM block needs the map of one modality at least of {listed(self.modalities)}."
            )
        for m, h in maps.items():
            self._position(m)
            dim, width = self.channel_dims[m], self.widths[m]
            if h.ndim < 2 or h.shape[dim] != width or len(h) % batch_size:
                raise ModelError(
                    f"an MMTM block takes {width} channels in dimension {dim} of the map of modality {m!r} "
                    f"and rows for {batch_size} samples; found {tuple(h.shape)}."
                )

    def _position(self, modality: str) -> int:
        if modality not in self.modalities:
            raise ModelError(
                f"the MMTM block has no modality {modality!r}; it has {listed(self.modalities)}."
            )
        return self.modalities.index(modality)

    @staticmethod
    def _mean_name(index: int) -> str:
        # By position: the name of a buffer cannot hold every name that a modality may have.
        return f"gate_mean_{index}"
