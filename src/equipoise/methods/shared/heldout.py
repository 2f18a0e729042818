"""Methods that evaluate themselves on samples held out from the training split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.methods.core.method import Method
from equipoise.methods.core.options import number
from equipoise.methods.core.run import Run
from equipoise.methods.shared.positions import stratified
from equipoise.sharing import SharedBatch
from equipoise.types import Batch, UsageError

LEAST = 2
"""Size of the smallest batch served: batch normalisation cannot train on one sample."""


@dataclass
class HoldsOut(Method):
    """A method that holds out a part of the training split.

    The part is drawn in `setup` from the run's stream, so a resumed run draws the same one. It is never
    trained on, as generalisation must be estimated on unseen samples. The validation split, which selects the
    epoch, is not used.

    Attributes:
        heldout: share of each class that is held out, above 0 and at most 0.5; for multilabel or regression
            targets the share of all samples.
    """

    heldout: float = number(0.1, high=0.5, above=0)

    def holds_out(self) -> bool:
        """Whether a part is held out with the present options."""
        return True

    def setup(self, run: Run) -> None:
        """Draw the part."""
        super().setup(run)
        self.seen_positions, self.held_positions = torch.arange(run.train_size), torch.arange(0)
        self._held_rows = torch.arange(0)
        if not self.holds_out():
            return
        held = stratified(run.train_target, self.heldout, run.generator)
        if not held.any():
            raise UsageError(
                f"the method {self.name!r} needs at least two samples of a class, one to train on and one to "
                "hold out; give it more data."
            )
        self.seen_positions, self.held_positions = (~held).nonzero()[:, 0], held.nonzero()[:, 0]
        self._held_rows = run.take(self.held_positions.tolist()).index

    def changes_data(self) -> bool:
        """Whether samples are left out."""
        return self.holds_out()

    def train_data(self, base: Iterable[Batch], run: Run) -> Iterable[Batch]:
        """Return the batches without the held-out samples."""
        return without(base, self._held_rows) if self.holds_out() else base


def without(base: Iterable[Batch], rows: Tensor) -> Iterator[Batch]:
    """Yield batches without the samples of some `Batch.index`; too small ones are joined to the next one.

    The last one has none, and is left out if it is too small.
    """
    waiting: Batch | None = None
    for batch in base:
        left = _rows_of(batch, ~torch.isin(batch.index, rows.to(batch.index.device)))
        if waiting is not None:
            left = _joined(waiting, left)
        waiting = left if len(left) < LEAST else None
        if waiting is None:
            yield left


def _rows_of(batch: Batch, chosen: Tensor) -> Batch:
    if isinstance(batch, SharedBatch):
        return batch.chosen(chosen)
    inputs = {name: x[chosen] for name, x in batch.inputs.items()}
    return Batch(inputs, batch.target[chosen], batch.index[chosen])


def _joined(first: Batch, second: Batch) -> Batch:
    if isinstance(first, SharedBatch) and isinstance(second, SharedBatch):
        return first.followed_by(second)
    inputs = {name: torch.cat([x, second.inputs[name]]) for name, x in first.inputs.items()}
    target = torch.cat([first.target, second.target])
    return Batch(inputs, target, torch.cat([first.index, second.index]))
