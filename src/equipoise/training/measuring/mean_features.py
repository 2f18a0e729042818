"""The mean feature of each encoder over a split, added up while the model passes over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from equipoise.diagnosis.features.reading import BatchReader
from equipoise.distributed import gathered
from equipoise.types import Batch, ModelOutput


class MeanFeatures:
    """Adds up the features of the batches that `reader` gives to a model."""

    def __init__(self) -> None:
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._count = 0

    @property
    def reader(self) -> BatchReader:
        """The reader for a pass over the split, of which several processes may each take a part."""
        return BatchReader(forward=self._add)

    def means(self) -> dict[str, NDArray[np.float64]]:
        """Return the means `{m: [d_m]}` of all processes; empty without a pass. All must call it."""
        every = gathered((self._sums, self._count))
        count = sum(number for _, number in every)
        names = next((sums for sums, _ in every if sums), {})
        return {m: np.sum([sums[m] for sums, _ in every if sums], axis=0) / count for m in names}

    def _add(self, model: nn.Module, batch: Batch) -> Any:
        output: ModelOutput = model(batch)
        for m, z in output.features.items():
            # Not every device has double precision.
            total = z.detach().cpu().double().sum(dim=0).numpy()
            self._sums[m] = self._sums[m] + total if m in self._sums else total
        self._count += len(batch)
        return output
