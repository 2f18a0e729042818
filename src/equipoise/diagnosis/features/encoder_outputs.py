"""From what anybody's encoder returns to one vector per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from equipoise.pooling import pool_features
from equipoise.types import ModelError

Pool = Callable[[Any], Tensor]
POOLED, SEQUENCE = "pooler_output", "last_hidden_state"
"""What the outputs of `transformers` call an encoder's vector of each sample, and its sequence."""


def pooled_output(
    name: str,
    output: Any,
    batch_size: int,
    pool: Pool | Mapping[str, Pool] | None = None,
    mask: Any = None,
) -> Tensor:
    """Return the feature `[B, d]` in what an encoder returned, attached to its graph.

    Without `pool`, maps, sequences and frames are averaged (`equipoise.pooling.pool_features`). Of a tuple
    the first entry counts; of a mapping or dataclass, such as the outputs of `transformers`, its only
    tensor, else `pooler_output`, else `last_hidden_state`, averaged over the positions of the mask.

    Args:
        name: the modality, for messages and for `pool`.
        output: what the encoder returned.
        batch_size: number of samples `B`.
        pool: from the output to `[B, d]`, for all modalities or by name.
        mask: `[B, T]`, 0 at the positions of `last_hidden_state` that are no part of a sample.

    Raises:
        ModelError: it cannot be pooled.
    """
    chosen = pool.get(name) if isinstance(pool, Mapping) else pool
    if chosen is None:
        output = _feature_in(output, mask)
        if not isinstance(output, Tensor):
            what = f" with {', '.join(entries)}" if (entries := _entries(output)) else ""
            raise ModelError(
                f"the encoder of {name!r} returned a {type(output).__name__}{what}; expected a tensor, a "
                f"tuple that begins with one, {POOLED} or {SEQUENCE}: give pool= to pick its features."
            )
        return pool_features(output, batch_size)
    features = chosen(output)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != batch_size:
        raise ModelError(
            f"pool= returned {getattr(features, 'shape', type(features).__name__)} for {name!r}; "
            f"expected a tensor [{batch_size}, features]."
        )
    return features


def _feature_in(output: Any, mask: Any) -> Any:
    """Return the tensor that stands for an encoder's features, or what is there in place of one."""
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
    """Return what an output holds by name."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if is_dataclass(output) and not isinstance(output, type):
        return {entry.name: getattr(output, entry.name) for entry in fields(output)}
    return {}
