"""Noise that is added when samples are read, anew in each epoch of training: no network can memorise it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from equipoise.data.format.modality import ModalitySpec
from equipoise.data.format.normalize import Normalizer
from equipoise.randomness import derive_seed

PADDED = {"sequence": 2, "video": 2}
"""Kinds whose samples may be padded with steps of zeros, with the axes `[B, T]` before those of a step."""


class ReadNoise:
    """Gaussian noise on normalised inputs, see `ModalitySpec.noise`.

    With the level `a` of a modality, `x <- (x + a n) / sqrt(1 + a^2)` and `n ~ N(0, 1)`: the deviation stays
    1. The noise of a training batch depends on the seed of the run, the row and the epoch. Outside of
    training it depends on the row only, and equals that of no epoch. Steps and frames that are stored as
    zeros are padding and stay as they are.
    """

    def __init__(
        self, specs: Mapping[str, ModalitySpec], normalizers: Mapping[str, Normalizer], seed: int
    ) -> None:
        self.seed = seed
        self.levels = {name: spec.noise for name, spec in specs.items() if spec.noise is not None}
        self._padding = {
            name: torch.from_numpy(normalizers[name](np.zeros((1, *specs[name].shape), specs[name].dtype)))
            for name in self.levels
            if specs[name].kind in PADDED
        }

    def __call__(self, inputs: Mapping[str, Tensor], rows: Tensor, epoch: int | None) -> dict[str, Tensor]:
        """Return inputs `[B, ...]` with noise; the given ones, float32 and normalised, are not changed.

        `rows` `[B]` are those of the samples in the dataset; the epoch counts from 0, and is None outside of
        training.
        """
        return {name: self._changed(name, x, rows, epoch) for name, x in inputs.items()}

    def _changed(self, name: str, x: Tensor, rows: Tensor, epoch: int | None) -> Tensor:
        level = self.levels.get(name)
        if level is None:
            return x
        drawn = torch.empty_like(x)
        when = () if epoch is None else (self.seed, epoch)
        for place, row in enumerate(rows.tolist()):
            generator = torch.Generator().manual_seed(derive_seed("read-noise", name, row, *when))
            torch.randn(x.shape[1:], generator=generator, out=drawn[place])
        found = (x + level * drawn) / math.sqrt(1 + level**2)
        if name not in self._padding:
            return found
        padding = (x == self._padding[name]).flatten(PADDED["sequence"]).all(dim=-1)
        return torch.where(padding.reshape(*padding.shape, *[1] * (x.ndim - 2)), x, found)
