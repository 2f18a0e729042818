"""Replace the outputs of a model's encoders, for any structure of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.diagnosis.contribution.subset_queries import Query
from equipoise.diagnosis.features.capture import EncoderHooks
from equipoise.pooling import map_tensors
from equipoise.types import ModelError

Leaves = list[Tensor]
"""The floating-point tensors `[B, k, ...]` of an encoder's output, `k` rows for each sample."""


class FeatureHooks(EncoderHooks):
    """Hooks on encoders that record their outputs and replace them on request.

    The floating-point tensors of an encoder's output are replaced: the output itself, or tensors in tuples,
    lists, mappings and dataclasses. Each must have the batch in its first dimension, with one row per sample
    or the same number of rows for each, sample by sample (frames).
    """

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        super().__init__(encoders, self._replace)
        self._shapes: dict[str, list[torch.Size]] = {}
        self._given: Mapping[str, Leaves] = {}
        self._seen: dict[str, Leaves] = {}
        self._rows = 0

    def call(
        self, forward: Callable[[], Any], rows: int, given: Mapping[str, Leaves] | None = None
    ) -> tuple[Any, dict[str, Leaves]]:
        """Run a forward pass of `rows` samples; return its result and what each encoder returned.

        `given` has the tensors that replace those of an encoder.

        Raises:
            ModelError: an encoder was not called once for each of its modalities, its output cannot be
                replaced, or its shape differs between batches.
        """
        self._given, self._seen, self._rows = given or {}, {}, rows
        output = forward()
        self.end_pass()
        return output, self._seen

    def _replace(self, name: str, output: Any, _: Mapping[str, Any]) -> Any:
        seen: Leaves = []

        def record(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            if tensor.ndim == 0 or tensor.shape[0] % self._rows or not tensor.shape[0]:
                raise ModelError(
                    f"the encoder of {name!r} returned a tensor of shape {list(tensor.shape)} for a batch of "
                    f"{self._rows} samples; expected the batch in the first dimension: choose another "
                    "module, such as one that picks or pools the feature."
                )
            seen.append(tensor.reshape(self._rows, -1, *tensor.shape[1:]))
            return tensor

        def refuse(value: Any) -> Any:
            if value is None or isinstance(value, str | int | float):
                return value
            raise ModelError(
                f"the encoder of {name!r} returned a {type(value).__name__}; expected a tensor, or tensors "
                "in tuples, lists, mappings or dataclasses: choose another module as its handle."
            )

        map_tensors(output, record, refuse)
        if not seen:
            raise ModelError(
                f"the encoder of {name!r} returned a {type(output).__name__} without floating-point tensors; "
                "choose the module whose output reaches the fusion."
            )
        shapes = [leaf.shape[1:] for leaf in seen]
        if self._shapes.setdefault(name, shapes) != shapes:
            raise ModelError(
                f"the encoder of {name!r} returned {[list(s) for s in self._shapes[name]]} numbers per "
                f"sample in one batch and {[list(s) for s in shapes]} in another; features of other samples "
                "can only replace those of equal shape: choose a module after the pooling, or pad all "
                "batches to one length."
            )
        self._seen[name] = seen
        if name not in self._given:
            return None
        others = iter(self._given[name])

        def replace(own: Tensor) -> Tensor:
            return next(others).to(own).reshape(own.shape) if own.is_floating_point() else own

        return map_tensors(output, replace)


def stand_ins(query: Query, own: Mapping[str, Leaves], means: Mapping[str, Leaves]) -> dict[str, Leaves]:
    """Return zeros, or means over the training split `[1, k, ...]`, for the absent modalities of a query."""
    absent = [m for m in own if m not in query.present]
    if query.stand_in == "zero":
        return {m: [torch.zeros_like(leaf) for leaf in own[m]] for m in absent}
    return {
        m: [mean.expand(leaf.shape[0], *mean.shape[1:]) for mean, leaf in zip(means[m], own[m], strict=True)]
        for m in absent
    }
