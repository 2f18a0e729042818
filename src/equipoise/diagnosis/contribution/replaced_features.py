"""Contribution of each modality to any model's predictions: forward hooks give it other features."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.diagnosis.contribution.subset_queries import PERMUTED, Query
from equipoise.types import ModelError

Leaves = list[Tensor]


class FeatureHooks:
    """Hooks on encoders that note what they return and, where asked, return something else.

    What is replaced are the floating-point tensors of an encoder's raw output, whatever it is: a tensor, or
    tensors in tuples, lists, mappings and dataclasses. Each must hold the batch in its first dimension, with
    one row a sample or the same number of rows for each, sample by sample (frames).

    Args:
        encoders: modality name to module. One that serves several modalities stands under each of their
            names, in the order in which the model calls it.
    """

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        self._names: dict[nn.Module, list[str]] = {}
        for name, module in encoders.items():
            self._names.setdefault(module, []).append(name)
        self._calls: dict[nn.Module, int] = {}
        self._given: Mapping[str, Leaves] = {}
        self._seen: dict[str, Leaves] = {}
        self._rows = 0

    @contextmanager
    def hooked(self) -> Iterator[FeatureHooks]:
        """Place the hooks for the time of a block."""
        handles = [module.register_forward_hook(self._hook) for module in self._names]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def call(
        self, forward: Callable[[], Any], rows: int, given: Mapping[str, Leaves] | None = None
    ) -> tuple[Any, dict[str, Leaves]]:
        """Call a model once.

        Args:
            forward: calls the model on a batch.
            rows: number of samples `B`.
            given: modality to tensors `[B, k, ...]` that take the place of what its encoder returned.

        Returns:
            What `forward` returned, and for each modality what its encoder returned, as `[B, k, ...]`.

        Raises:
            ModelError: an encoder was not called once for each of its modalities, or its output cannot be
                replaced.
        """
        self._calls = dict.fromkeys(self._names, 0)
        self._given, self._seen, self._rows = given or {}, {}, rows
        output = forward()
        for module, names in self._names.items():
            if self._calls[module] != len(names):
                raise ModelError(
                    f"the encoder handle of {' and '.join(map(repr, names))} ({type(module).__name__}) was "
                    f"called {self._calls[module]} times in one pass of the model; expected {len(names)}: "
                    "choose a module that is called once for each modality, and whose output reaches the "
                    "fusion."
                )
        return output, self._seen

    def _hook(self, module: nn.Module, _: Any, output: Any) -> Any:
        names, position = self._names[module], self._calls[module]
        self._calls[module] += 1
        if position >= len(names):
            return None  # reported when the pass is over
        name = names[position]
        seen = self._seen[name] = []
        given = self._given.get(name)

        def change(tensor: Tensor) -> Tensor:
            if tensor.ndim == 0 or tensor.shape[0] % self._rows or not tensor.shape[0]:
                raise ModelError(
                    f"the encoder of {name!r} returned a tensor of shape {list(tensor.shape)} for a batch of "
                    f"{self._rows} samples; expected the batch in the first dimension: choose another "
                    "module, such as one that picks or pools the feature."
                )
            by_sample = tensor.reshape(self._rows, -1, *tensor.shape[1:])
            seen.append(by_sample)
            if given is None:
                return tensor
            other = given[len(seen) - 1]
            if other.shape[1:] != by_sample.shape[1:]:
                raise shapes_differ(name, other, by_sample)
            return other.to(tensor).reshape(tensor.shape)

        changed = _map_tensors(output, change, name)
        if not seen:
            raise ModelError(
                f"the encoder of {name!r} returned a {type(output).__name__} without floating-point tensors; "
                "choose the module whose output reaches the fusion."
            )
        return None if given is None else changed


class MeanFeatures:
    """Running means of what encoders return, over samples."""

    def __init__(self) -> None:
        self._sums: dict[str, Leaves] = {}
        self._count = 0

    def add(self, seen: Mapping[str, Leaves], rows: int) -> None:
        """Take in a batch `{m: [[B, k, ...], ..]}`.

        Raises:
            ModelError: shapes differ between batches.
        """
        for name, leaves in seen.items():
            sums = [leaf.sum(dim=0, dtype=torch.float64, keepdim=True).cpu() for leaf in leaves]
            held = self._sums.get(name)
            for old, new in zip(held or sums, sums, strict=True):
                if old.shape != new.shape:
                    raise shapes_differ(name, old, new)
            self._sums[name] = sums if held is None else [a + b for a, b in zip(held, sums, strict=True)]
        self._count += rows

    def result(self) -> dict[str, Leaves]:
        """Return the means `{m: [[1, k, ...], ..]}`."""
        return {name: [total / self._count for total in sums] for name, sums in self._sums.items()}


class Kept:
    """What encoders return for a whole split, on the CPU."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Leaves]] = {}

    def add(self, seen: Mapping[str, Leaves]) -> None:
        """Take in a batch."""
        for name, leaves in seen.items():
            self._parts.setdefault(name, []).append([leaf.cpu() for leaf in leaves])

    def result(self) -> dict[str, Leaves]:
        """Return `{m: [[N, k, ...], ..]}`.

        Raises:
            ModelError: shapes differ between batches.
        """
        for name, parts in self._parts.items():
            for leaves in parts[1:]:
                for first, leaf in zip(parts[0], leaves, strict=True):
                    if first.shape[1:] != leaf.shape[1:]:
                        raise shapes_differ(name, first, leaf)
        return {
            name: [torch.cat(list(leaf)) for leaf in zip(*parts, strict=True)]
            for name, parts in self._parts.items()
        }


def stand_ins(
    query: Query,
    own: Mapping[str, Leaves],
    means: Mapping[str, Leaves],
    others: Mapping[str, Leaves] | None = None,
) -> dict[str, Leaves]:
    """Return what the absent modalities of a query give for a batch, `{m: [[B, k, ...], ..]}`.

    Args:
        query: what is asked.
        own: what the encoders returned for the batch.
        means: their means over the training split.
        others: what they returned for the samples that stand in, where the query permutes.
    """
    absent = [m for m in own if m not in query.present]
    if query.stand_in == PERMUTED:
        assert others is not None
        return {m: others[m] for m in absent}
    if query.stand_in == "zero":
        return {m: [torch.zeros_like(leaf) for leaf in own[m]] for m in absent}
    return {
        m: [mean.expand(leaf.shape[0], *mean.shape[1:]) for mean, leaf in zip(means[m], own[m], strict=True)]
        for m in absent
    }


def shapes_differ(name: str, one: Tensor, other: Tensor) -> ModelError:
    """Return the error for features that have no mean and cannot be exchanged."""
    return ModelError(
        f"the encoder of {name!r} returned {list(one.shape[1:])} numbers a sample in one batch and "
        f"{list(other.shape[1:])} in another; features of other samples can only stand in for those of one "
        "shape: choose a module behind the pooling, or pad all batches to one length."
    )


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor], name: str) -> Any:
    """Return a copy of an encoder's output with its floating-point tensors changed."""

    def mapped(entries: Iterable[Any]) -> Sequence[Any]:
        return [_map_tensors(entry, change, name) for entry in entries]

    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        changed = dict(zip(value, mapped(value.values()), strict=True))
        if not isinstance(value, MutableMapping):
            return type(value)(changed)  # type: ignore[call-arg]
        twin = copy.copy(value)
        for key, entry in changed.items():
            twin[key] = entry
        return twin
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        entries = mapped(getattr(value, field) for field in names)
        return dataclasses.replace(value, **dict(zip(names, entries, strict=True)))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*mapped(value))
    if isinstance(value, tuple | list):
        return type(value)(mapped(value))
    raise ModelError(
        f"the encoder of {name!r} returned a {type(value).__name__}; expected a tensor, or tensors in "
        "tuples, lists, mappings or dataclasses: choose another module as its handle."
    )
