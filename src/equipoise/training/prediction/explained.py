"""Predictions of a model batch by batch, and what each modality adds to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equipoise.data import ModalitySpec
from equipoise.diagnosis.contribution.shapley import gains, shapley_values
from equipoise.diagnosis.contribution.subset_queries import Choices
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.models import BalancedModel
from equipoise.scopes import evaluating
from equipoise.types import Batch, ModelError

Value = Callable[[Tensor], Tensor]
"""From logits `[B, C]` to what is explained `[B]`."""
TRIED = 2


@dataclass(frozen=True)
class Explanation:
    """The prediction of a batch.

    Attributes:
        logits: `[B, C]` (float32).
        contributions: modality to the Shapley value of the explained number `[B]`.
        without_any: the explained number where all features are the mean ones `[B]`.
    """

    logits: Tensor
    contributions: Mapping[str, Tensor]
    without_any: Tensor


class Explained:
    """A model whose features may be absent: the mean feature of the training split stands in for them.

    With intermediate fusion, features contain signal from other modalities. A set of modalities is then
    encoded anew, without what the absent ones would have added to the others.

    Args:
        model: in evaluation mode.
        means: modality to mean feature `[d_m]`; empty if unknown.
        present: modalities of the batches; the others are absent in all predictions.
    """

    def __init__(
        self, model: BalancedModel, means: Mapping[str, NDArray[np.float64]], present: Sequence[str]
    ) -> None:
        self.model, self.present = model, tuple(m for m in model.modalities if m in present)
        self._means = {m: torch.from_numpy(mean) for m, mean in means.items()}
        self._mixed = "mid_fusion" in model.capabilities
        self._choices = Choices()

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Return the logits `[B, C]` of a batch (float32)."""
        return self._logits(batch)[0]

    @torch.no_grad()
    def explain(self, batch: Batch, value_of: Callable[[Tensor], Value]) -> Explanation:
        """Return the prediction, and what each present modality contributes to a number of it.

        `value_of` gets the logits, and returns the number that is explained as a function of logits. The
        contributions add up to its value minus that without any modality. Of more than 8 modalities, they are
        means over sampled orders of joining, which add up, too.
        """
        logits, z = self._logits(batch)
        value = value_of(logits)
        known = {frozenset(self.present): value(logits)}

        def of_subset(subset: frozenset[str]) -> Tensor:
            if subset not in known:
                known[subset] = value(self._fused(batch, z, subset))
            return known[subset]

        without_any = of_subset(frozenset())
        orders = self._choices.orders(self.present)
        if orders:
            found = [gains(of_subset, order) for order in orders]
            shares = {m: torch.stack([one[m] for one in found]).mean(dim=0) for m in self.present}
        else:
            shares = shapley_values(of_subset, self.present)
        return Explanation(logits, shares, without_any)

    def _logits(self, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return logits and features of the present modalities; with all of them, as evaluation computes."""
        if len(self.present) == len(self.model.modalities):
            output = self.model(batch)
            return output.logits.float(), output.features
        z = self.model.encode(batch, only=self.present)
        return self.model.fuse(self._whole(z)).float(), z

    def _fused(self, batch: Batch, z: Mapping[str, Tensor], subset: frozenset[str]) -> Tensor:
        chosen = [m for m in self.present if m in subset]
        kept = {m: z[m] for m in chosen}
        if self._mixed and chosen:
            kept = self.model.encode(batch, only=chosen)
        like = next(iter(z.values()))
        return self.model.fuse(self._whole(kept, like)).float()

    def _whole(self, z: Mapping[str, Tensor], like: Tensor | None = None) -> dict[str, Tensor]:
        """Return the features of all modalities, the mean ones for those that are not in `z`."""
        like = next(iter(z.values())) if like is None else like
        return {
            m: z[m] if m in z else self._means[m].to(like).expand(len(like), -1)
            for m in self.model.modalities
        }


def is_explicable(model: BalancedModel, specs: Mapping[str, ModalitySpec]) -> bool:
    """Return whether a model's prediction is its fusion of the features that it encodes, tried on zeros.

    That of a mean over several networks is not.
    """
    inputs = _zeros(model, specs)
    with evaluating(model), torch.no_grad():
        return torch.allclose(model(inputs).logits, model.fuse(model.encode(inputs)), rtol=1e-4, atol=1e-5)


def check_partial(model: BalancedModel, specs: Mapping[str, ModalitySpec], present: Sequence[str]) -> None:
    """Check that a model encodes some modalities without the others, tried on zeros.

    Raises:
        ModelError: it does not.
    """
    inputs = {m: x for m, x in _zeros(model, specs).items() if m in present}
    try:
        with evaluating(model), torch.no_grad():
            found = set(model.encode(inputs, only=present))
    except Exception as error:  # of a user's model, which may raise any
        raise _not_partial(present, f"{type(error).__name__}: {error}") from error
    if found != set(present):
        raise _not_partial(present, f"it returns features of {', '.join(sorted(found)) or 'none'}")


def _not_partial(present: Sequence[str], found: str) -> ModelError:
    return ModelError(
        f"the model cannot encode {', '.join(present)} without its other modalities ({found}); give all of "
        "them."
    )


def _zeros(model: BalancedModel, specs: Mapping[str, ModalitySpec]) -> dict[str, Tensor]:
    parameter = next(model.parameters(), torch.empty(0))
    kind = parameter.dtype if parameter.is_floating_point() else torch.float32
    return {
        m: torch.zeros(TRIED, *specs[m].shape, dtype=kind, device=parameter.device) for m in model.modalities
    }


@contextmanager
def on_device(model: BalancedModel, device: torch.device) -> Iterator[None]:
    """Move a model to a device for a block, with the memory layout that training gives it there."""
    before = next((p.device for p in model.parameters()), torch.device("cpu"))
    turned = [one for one in encoders_of(model).values() if getattr(one, "channels_last", False)]
    turned = turned if device.type == "cpu" else []
    model.to(device)
    try:
        for encoder in turned:
            encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        yield
    finally:
        for encoder in turned:
            encoder.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        model.to(before)
