"""The outputs of encoders: pooled to one vector per sample, or with other tensors in their place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from equipoise.types import ModelError, UsageError

Pool = Callable[[Any], Tensor]
POOLED, SEQUENCE = "pooler_output", "last_hidden_state"
"""Names of the pooled vector and of the sequence in the outputs of `transformers`."""


def pool_features(features: Tensor, batch_size: int | None = None) -> Tensor:
    """Average an encoder's output over space and time.

    Args:
        features: `[B, d]` (returned unchanged), `[B, T, d]` (sequence: mean over `T`), `[B, C, H, W]` or
            `[B, C, T, H, W]` (feature map: mean over all dimensions after the channels).
        batch_size: number of samples `B`, if known. An output of `k * B` rows, `k` frames of each sample in
            sequence, is averaged over the frames.

    Returns:
        `[B, d]`, on the same device and in the same precision.

    Raises:
        ModelError: the output has one dimension only, or its rows are not a multiple of `batch_size`.
    """
    if not isinstance(features, Tensor):
        raise ModelError(
            f"an encoder must return one tensor, found {type(features).__name__}; "
            "wrap the encoder in a module whose forward returns the feature tensor."
        )
    if features.ndim < 2:
        raise ModelError(
            f"an encoder returned features of shape {list(features.shape)}; expected [batch, features] "
            "or a map or sequence: give pool= to turn the encoder's output into one vector per sample."
        )
    pooled = features
    if features.ndim == 3:
        pooled = features.mean(dim=1)
    elif features.ndim > 3:
        pooled = features.flatten(2).mean(dim=2)
    rows = pooled.shape[0]
    if batch_size is None or rows == batch_size:
        return pooled
    if batch_size == 0 or rows % batch_size:
        raise ModelError(
            f"an encoder returned {rows} rows for a batch of {batch_size} samples; expected one row per "
            "sample, or the same number of frames for each: give pool= for another layout."
        )
    return pooled.reshape(batch_size, rows // batch_size, -1).mean(dim=1)


def pooled_output(
    name: str,
    output: Any,
    batch_size: int,
    pool: Pool | Mapping[str, Pool] | None = None,
    mask: Any = None,
) -> Tensor:
    """Return the feature `[B, d]` of an encoder's output, attached to its graph.

    Without `pool`, maps, sequences and frames are averaged (`equipoise.pooling.pool_features`). From a tuple
    the first entry is taken; from a mapping or dataclass, such as the outputs of `transformers`, its only
    tensor, else `pooler_output`, else the mean of `last_hidden_state` over the positions of the mask `[B, T]`
    that are not 0. `pool` goes from the output to `[B, d]`, for all modalities or by name.

    Raises:
        ModelError: the output cannot be pooled, or is complex.
    """
    chosen = pool.get(name) if isinstance(pool, Mapping) else pool
    if chosen is None:
        output = _feature_in(output, mask)
        if not isinstance(output, Tensor):
            what = f" with {', '.join(entries)}" if (entries := _entries(output)) else ""
            raise ModelError(
                f"the encoder of {name!r} returned a {type(output).__name__}{what}; expected a tensor, a "
                f"tuple that begins with one, {POOLED} or {SEQUENCE}: give pool= to return its features."
            )
        features = pool_features(output, batch_size)
    elif not callable(chosen):
        raise UsageError(f"pool is {chosen!r}; expected a function from an encoder's output to [B, d].")
    else:
        features = chosen(output)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != batch_size:
        raise ModelError(
            f"pool= returned {getattr(features, 'shape', type(features).__name__)} for {name!r}; "
            f"expected a tensor [{batch_size}, features]."
        )
    if features.is_complex():
        raise ModelError(
            f"the encoder of {name!r} returned complex features; expected real ones: give pool=, a function "
            "from its output to [B, d], such as lambda z: torch.view_as_real(z).flatten(1)."
        )
    return features


def _feature_in(output: Any, mask: Any) -> Any:
    """Return the tensor of features in an encoder's output, or the output if there is none."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    entries = _entries(output)
    tensors = [entry for entry in entries.values() if isinstance(entry, Tensor)]
    if len(tensors) == 1 and SEQUENCE not in entries:
        return tensors[0]
    if isinstance(entries.get(POOLED), Tensor):
        return entries[POOLED]
    sequence = entries.get(SEQUENCE)
    if not isinstance(sequence, Tensor):
        return output
    if isinstance(mask, Tensor) and mask.shape == sequence.shape[:2] and sequence.ndim == 3:
        weight = (mask != 0).to(sequence.dtype)[..., None]
        return (sequence * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    return sequence


def _entries(output: Any) -> dict[str, Any]:
    """Return the named entries of an output."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if is_dataclass(output) and not isinstance(output, type):
        return {entry.name: getattr(output, entry.name) for entry in fields(output)}
    return {}


def map_tensors(
    value: Any, change: Callable[[Tensor], Tensor], other: Callable[[Any], Any] = lambda entry: entry
) -> Any:
    """Return a copy of a tensor, or of tuples, lists, mappings or dataclasses of them, with each one changed.

    What is none of these is passed through `other`.
    """

    def mapped(entries: Iterable[Any]) -> list[Any]:
        return [map_tensors(entry, change, other) for entry in entries]

    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        changed = dict(zip(value, mapped(value.values()), strict=True))
        if not isinstance(value, MutableMapping):
            return type(value)(changed)  # type: ignore[call-arg]
        twin = copy.copy(value)
        for key, entry in changed.items():
            twin[key] = entry
        return twin
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.init]
        entries = mapped(getattr(value, field) for field in names)
        return replace(value, **dict(zip(names, entries, strict=True)))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*mapped(value))
    if isinstance(value, tuple | list):
        return type(value)(mapped(value))
    return other(value)
