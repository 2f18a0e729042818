"""The samples on which an exported model is compared with the original."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from equipoise.randomness import derive_seed
from equipoise.training.assembly import prepare_data
from equipoise.training.prediction.used_run import UsedRun
from equipoise.training.record import fingerprints
from equipoise.types import EquipoiseError, warn

MOST: Final = 256
"""Samples that are compared at most."""
DRAWN: Final = 16
"""Samples that are drawn where those of validation are gone."""


@dataclass(frozen=True)
class CheckSamples:
    """Samples `{m: [n, ...]}` in the order of the model's modalities.

    Attributes:
        inputs: normalised, as the model takes them.
        of_validation: whether they are of the run's validation split, or were drawn.
    """

    inputs: dict[str, Tensor]
    of_validation: bool

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def example(self) -> dict[str, Tensor]:
        """Two samples, from which a program is traced."""
        rows = torch.arange(2) % len(self)
        return {m: x[rows] for m, x in self.inputs.items()}

    def batches(self) -> Iterator[dict[str, Tensor]]:
        """Yield the samples in batches of different sizes, as the batch axis must be free."""
        start, size = 0, 1
        while start < len(self):
            yield {m: x[start : start + size] for m, x in self.inputs.items()}
            start, size = start + size, min(2 * size + 1, 64)


def check_samples(run: UsedRun) -> CheckSamples:
    """Return validation samples of a run; with a warning drawn ones where its data are gone or changed."""
    modalities = run.model.modalities
    try:
        _, data = prepare_data(run.settings)
        found = fingerprints.of_data(data)
        changed = [key for key, value in found.items() if run.summary.get(key, value) != value]
        if not changed:
            parts: dict[str, list[Tensor]] = {m: [] for m in modalities}
            count = 0
            for batch in data.val:
                for m in modalities:
                    parts[m].append(batch.inputs[m])
                count += len(batch)
                if count >= MOST:
                    break
            return CheckSamples({m: torch.cat(own)[:MOST] for m, own in parts.items()}, True)
        why = f"they have changed since, {', '.join(changed)} differ"
    except EquipoiseError as error:
        why = str(error).rstrip(".")
    warn(
        f"the data of the run cannot be used ({why}), so the exported model is compared on random samples; "
        "restore them, and export again, to compare on validation."
    )
    return CheckSamples(_drawn(run), False)


def _drawn(run: UsedRun) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(derive_seed("export", *run.model.modalities))
    found = {}
    for m in run.model.modalities:
        spec = run.inputs.specs[m]
        shape = (DRAWN, *spec.shape)
        if spec.kind == "tokens":  # every vocabulary has padding and one token
            found[m] = torch.randint(0, 2, shape, generator=generator).float()
        else:
            found[m] = torch.randn(shape, generator=generator)
    return found
