"""Models whose prediction is a mean: of all heads, or of the model and earlier copies of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from equipoise.models.contract import BalancedModel, NamedParameter
from equipoise.models.fusion.own_heads import OwnHeads
from equipoise.models.precision import unit_rows
from equipoise.models.wrapped import WrappedModel
from equipoise.tasks import CLASSIFICATION
from equipoise.types import Batch, ModelOutput


class UnitModel(WrappedModel):
    """A model whose fusion reads features of length one, `z^m / |z^m|`; `encode` returns them as they are."""

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return the inner model's logits `[B, C]` of the directions of the features."""
        return self.inner.fuse({m: unit_rows(feature) for m, feature in z.items()})


class AllHeadsModel(WrappedModel):
    """A model with a linear head for each modality, whose prediction is the mean of all heads and its own.

    With the joint logits `u` and `u^m = z^m W_m^T + b_m` it is `log((softmax(u) + sum_m softmax(u^m)) / (M +
    1))`, or with `product` the mean of their logarithms, whose softmax is the product of the probabilities to
    the power of `1 / (M + 1)`; for labels and numbers it is the mean of the outputs.

    Attributes:
        inner: the model.
        own: the heads.
    """

    def __init__(self, inner: BalancedModel, *, product: bool = False) -> None:
        super().__init__(inner)
        self.product = product
        self.own = OwnHeads(inner.feature_widths(), inner.num_outputs)

    def fuse(self, z: Mapping[str, Tensor]) -> Tensor:
        """Return logits `[B, C]` of the mean prediction; in training those of the joint head alone."""
        if self.training:
            return self.inner.fuse(z)
        outputs = [self.inner.fuse(z), *self.own({m: z[m] for m in self.modalities}).values()]
        if self.product:
            return torch.stack(outputs).mean(dim=0)
        return mean_prediction(outputs, self.task)


class CopiesModel(WrappedModel):
    """A model whose prediction is the mean of its own and those of copies that were taken in training.

    The copies are constants: neither trained, nor in the groups of parameters.

    Args:
        inner: the model.
        copies: the largest number of copies.

    Attributes:
        taken: the number of copies so far, a buffer.
    """

    taken: Tensor | int

    def __init__(self, inner: BalancedModel, copies: int) -> None:
        super().__init__(inner)
        self.copies = nn.ModuleList(deepcopy(inner).requires_grad_(False) for _ in range(copies))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def settle(self) -> None:
        """Leave only the copies that were taken, in a number that is a constant, for an exported program."""
        count = int(self.taken)
        self.copies = nn.ModuleList(list(self.copies)[:count])
        del self.taken
        self.taken = count

    @torch.no_grad()
    def take(self) -> None:
        """Keep a copy of the present weights."""
        self.copies[int(self.taken)].load_state_dict(self.inner.state_dict())
        self.taken += 1

    def forward(self, batch: Batch | Mapping[str, Tensor]) -> ModelOutput:
        """Return logits `[B, C]` of the mean prediction, and the features of the present weights."""
        z = self.inner.encode(batch)
        outputs = [self.inner.fuse(z)]
        for copy in list(self.copies)[: int(self.taken)]:
            copy.eval()
            with torch.no_grad():
                outputs.append(copy(batch).logits)
        return ModelOutput(mean_prediction(outputs, self.task), z)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[NamedParameter]:
        """Yield the parameters of the present weights."""
        constant = set(self.copies.parameters())
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):
            if parameter not in constant:
                yield name, parameter


def mean_prediction(outputs: Sequence[Tensor], task: str) -> Tensor:
    """Return logits `[B, C]` whose softmax is the mean of those of all outputs; else the mean output."""
    if len(outputs) == 1:
        return outputs[0]
    stacked = torch.stack(list(outputs))
    if task != CLASSIFICATION.name:
        return stacked.mean(dim=0)
    # logsumexp is finite even if the probabilities underflow.
    return stacked.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(outputs))
