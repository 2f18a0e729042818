"""Read batches, call a model on them, and pool the outputs of its encoders to features."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.distributed import unwrapped
from equipoise.pooling import pool_features
from equipoise.types import Batch, ModelError, UsageError

TARGET_KEYS = ("target", "targets", "label", "labels", "y")


@dataclass(frozen=True)
class BatchReader:
    """How a loader's batches are read and passed to the model.

    By default a batch is an `equipoise.Batch`; a tuple or list whose last entry is the target and whose other
    entries are the model's arguments; or a mapping with a key `target`, `targets`, `label`, `labels` or `y`.
    A mapping of inputs is passed by keyword if the parameters of `forward` have the names of its keys, else
    as one argument; the target is passed too if `forward` requires it.

    Attributes:
        inputs_of: batch to the model's input: a mapping, a tuple of arguments, or one value.
        target_of: batch to target `[B]`.
        forward: called as `forward(model, batch)` instead of all the above.
    """

    inputs_of: Callable[[Any], Any] | None = None
    target_of: Callable[[Any], Tensor] | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None

    def target(self, batch: Any) -> Tensor:
        """Return the targets of a batch, `[B]`."""
        if self.target_of is not None:
            return torch.as_tensor(self.target_of(batch))
        if isinstance(batch, Batch):
            return batch.target
        if isinstance(batch, Mapping):
            return torch.as_tensor(batch[_target_key(batch)])
        if isinstance(batch, tuple | list) and len(batch) >= 2:
            return torch.as_tensor(batch[-1])
        raise UsageError(
            f"a batch of type {type(batch).__name__} has no known target; "
            "give target_of=, a function from batch to labels."
        )

    def run(self, model: nn.Module, batch: Any) -> Any:
        """Call the model on a batch on the model's device."""
        if self.forward is not None:
            return self.forward(model, batch)
        if self.inputs_of is not None:
            inputs = self.inputs_of(batch)
        elif isinstance(batch, Batch):
            return model(batch)
        elif isinstance(batch, Mapping):
            key = _target_key(batch)
            inputs = {name: value for name, value in batch.items() if name != key}
            if _keywords(model, inputs) is None and (named := _keywords(model, batch)) is not None:
                return model(**named)  # it cannot be called without the target
        elif isinstance(batch, tuple | list) and len(batch) >= 2:
            inputs = tuple(batch[:-1]) if len(batch) > 2 else batch[0]
        else:
            raise UsageError(
                f"a batch of type {type(batch).__name__} has no known inputs; give inputs_of=, "
                "a function from batch to the model's input, or forward=, called with model and batch."
            )
        if isinstance(inputs, Mapping):
            keywords = _keywords(model, inputs)
            return model(inputs) if keywords is None else model(**keywords)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)

    def logits(self, model: nn.Module, batch: Any) -> Tensor:
        """Call the model and return its logits `[B, C]`: its output, or the output's attribute `logits`.

        Raises:
            UsageError: the model returns neither.
        """
        output = self.run(model, batch)
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor):
            raise UsageError(
                f"the model returned a {type(logits).__name__}; expected logits: a tensor, or an output with "
                "the attribute 'logits'; give forward= to return them."
            )
        return logits


def _target_key(batch: Mapping[Any, Any]) -> str:
    for key in TARGET_KEYS:
        if key in batch:
            return key
    raise UsageError(
        f"the batch has the keys {sorted(map(str, batch))} and none of {', '.join(TARGET_KEYS)}; "
        "give target_of= and inputs_of=, functions from batch to labels and to the model's input."
    )


def _keywords(model: nn.Module, inputs: Mapping[Any, Any]) -> dict[str, Any] | None:
    """Return the inputs that are parameters of `forward`, or None if it takes the mapping itself."""
    parameters = inspect.signature(unwrapped(model).forward).parameters.values()
    single = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    named = {p.name for p in single if p.kind is not p.POSITIONAL_ONLY}
    if not {p.name for p in single if p.default is p.empty} <= set(inputs):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return {str(key): value for key, value in inputs.items()}
    if named & set(inputs):
        return {key: value for key, value in inputs.items() if key in named}
    return None


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter or buffer; the CPU if it has none."""
    return next((p.device for p in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def moved_batches(loader: Iterable[Any], device: torch.device, *, repeat: bool = False) -> Iterator[Any]:
    """Yield a loader's batches on `device`; with `repeat` again and again, until an iteration gives none.

    The loader is first iterated when the first batch is taken, as it may draw random numbers.
    """
    found = True
    while found:
        found = False
        for batch in loader:
            found = repeat
            yield move_batch(batch, device)


def move_batch(value: Any, device: torch.device) -> Any:
    """Return a batch of any structure with its tensors on `device`."""
    if isinstance(value, Tensor | Batch):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: move_batch(entry, device) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(move_batch(entry, device) for entry in value))
    if isinstance(value, tuple | list):
        return type(value)(move_batch(entry, device) for entry in value)
    return value


Pool = Callable[[Any], Tensor]
POOLED, SEQUENCE = "pooler_output", "last_hidden_state"
"""Names of the pooled vector and of the sequence in the outputs of `transformers`."""


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
    tensor, else `pooler_output`, else the mean of `last_hidden_state` over the positions of the mask.

    Args:
        name: the modality, for messages and for `pool`.
        output: the output of the encoder.
        batch_size: number of samples `B`.
        pool: from the output to `[B, d]`, for all modalities or by name.
        mask: `[B, T]`, 0 at the padded positions of `last_hidden_state`.

    Raises:
        ModelError: the output cannot be pooled.
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
        return pool_features(output, batch_size)
    features = chosen(output)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != batch_size:
        raise ModelError(
            f"pool= returned {getattr(features, 'shape', type(features).__name__)} for {name!r}; "
            f"expected a tensor [{batch_size}, features]."
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
