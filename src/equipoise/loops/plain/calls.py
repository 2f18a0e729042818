"""Hooks on a model's encoders: record their outputs, or replace them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.types import ModelError


class Encoded(Exception):  # noqa: N818 - not an error: it ends a forward pass early
    """All encoders have been called."""


class Returned(NamedTuple):
    """The output of an encoder, and its mask of padding, if any."""

    output: Any
    mask: Any


class EncoderCalls:
    """Hooks on the encoders of a model.

    Args:
        encoders: modality to module. A module that serves several modalities is given for each of them, in
            the order in which the model calls it.
    """

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        self._names: dict[nn.Module, list[str]] = {}
        for name, module in encoders.items():
            self._names.setdefault(module, []).append(name)

    @contextmanager
    def recorded(self, *, stop: bool = False) -> Iterator[dict[str, Returned]]:
        """Record the output of each encoder, by modality, with its graph; with `stop` end the pass then.

        Raises:
            Encoded: within the block, to stop.
            ModelError: an encoder was not called once for each of its modalities.
        """
        found: dict[str, Returned] = {}
        calls = dict.fromkeys(self._names, 0)
        wanted = sum(map(len, self._names.values()))

        def note(module: nn.Module, _: Any, given: dict[str, Any], output: Any) -> None:
            names, position = self._names[module], calls[module]
            calls[module] += 1
            if position < len(names):
                found[names[position]] = Returned(output, given.get("attention_mask"))
            if stop and len(found) == wanted:
                raise Encoded

        with ExitStack() as stack:
            for module in self._names:
                stack.callback(module.register_forward_hook(note, with_kwargs=True).remove)
            try:
                yield found
            except Encoded:
                return
        self._check(calls)

    @contextmanager
    def replaced(
        self, outputs: Mapping[str, Any], on_last: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Let encoders return the given outputs, by modality, without running.

        Args:
            outputs: modality to the output of its encoder.
            on_last: called when the last of them is called.

        Raises:
            ModelError: an encoder was not called once for each of its modalities.
        """
        calls = dict.fromkeys(self._names, 0)
        wanted = sum(map(len, self._names.values()))

        def answer(module: nn.Module) -> Any:
            names, position = self._names[module], calls[module]
            calls[module] += 1
            if on_last is not None and sum(calls.values()) == wanted:
                on_last()
            return outputs[names[min(position, len(names) - 1)]]

        with ExitStack() as stack:
            for module in self._names:
                stack.enter_context(_forward_replaced(module, answer))
            yield
        self._check(calls)

    @contextmanager
    def zeroed(self) -> Iterator[None]:
        """Replace the first tensor argument of each encoder by zeros."""
        with ExitStack() as stack:
            for module in self._names:
                hook = module.register_forward_pre_hook(_first_zeroed, with_kwargs=True)
                stack.callback(hook.remove)
            yield

    def _check(self, calls: Mapping[nn.Module, int]) -> None:
        for module, names in self._names.items():
            if calls[module] == len(names):
                continue
            what = " and ".join(repr(name) for name in names)
            remedy = "choose a module that is called once for each modality."
            if not calls[module]:
                remedy = (
                    "choose the module whose output reaches the fusion, and make sure that the model calls "
                    "it; where the whole model is compiled, compile its encoders instead."
                )
            raise ModelError(
                f"the encoder handle of {what} ({type(module).__name__}) was called {calls[module]} times in "
                f"one pass of the model; expected {len(names)}: {remedy}"
            )


def with_feature(output: Any, old: Tensor, new: Tensor, modality: str) -> Any:
    """Return an encoder's output with its feature replaced.

    Args:
        output: the feature itself, or tuples, lists, mappings and dataclasses that contain it.
        old: the feature in it, the same tensor object.
        new: the tensor that replaces it.
        modality: for messages.

    Raises:
        ModelError: the feature was computed from the output, so it cannot be replaced.
    """
    if output is old:
        return new
    exchanged, found = _exchanged(output, old, new)
    if not found:
        raise ModelError(
            f"the feature of {modality!r} is pooled from its encoder's output, so that it cannot be "
            "replaced; choose as its handle a module that returns the feature [B, d] itself, or a method "
            "that does not change features."
        )
    return exchanged


def _exchanged(value: Any, old: Tensor, new: Tensor) -> tuple[Any, bool]:
    if value is old:
        return new, True
    if isinstance(value, Mapping):
        pairs = {key: _exchanged(entry, old, new) for key, entry in value.items()}
        if not any(hit for _, hit in pairs.values()):
            return value, False
        return type(value)(**{key: entry for key, (entry, _) in pairs.items()}), True
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        parts = {name: _exchanged(getattr(value, name), old, new) for name in names}
        if not any(hit for _, hit in parts.values()):
            return value, False
        return dataclasses.replace(value, **{name: entry for name, (entry, _) in parts.items()}), True
    if isinstance(value, tuple | list):
        entries = [_exchanged(entry, old, new) for entry in value]
        if not any(hit for _, hit in entries):
            return value, False
        kept = [entry for entry, _ in entries]
        named = isinstance(value, tuple) and hasattr(value, "_fields")
        return (type(value)(*kept) if named else type(value)(kept)), True
    return value, False


@contextmanager
def _forward_replaced(module: nn.Module, answer: Callable[[nn.Module], Any]) -> Iterator[None]:
    """Replace a module's `forward`; other forward hooks still see its output."""
    own = module.__dict__.get("forward")
    module.__dict__["forward"] = lambda *_, **__: answer(module)
    try:
        yield
    finally:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own


def _first_zeroed(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    for position, value in enumerate(args):
        if isinstance(value, Tensor):
            return (*args[:position], torch.zeros_like(value), *args[position + 1 :]), kwargs
    for name, value in kwargs.items():
        if isinstance(value, Tensor):
            return args, {**kwargs, name: torch.zeros_like(value)}
    return args, kwargs
