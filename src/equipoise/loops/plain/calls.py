"""Hooks on a model's encoders: record their outputs, or replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.diagnosis.features.capture import EncoderHooks
from equipoise.diagnosis.features.reading import device_of
from equipoise.pooling import map_tensors
from equipoise.types import ModelError

WHERE_COMPILED = "; where the whole model is compiled, compile its encoders instead"


class Encoded(Exception):  # noqa: N818 - not an error: it ends a forward pass early
    """All encoders have been called."""


class Returned(NamedTuple):
    """The output of an encoder, and its mask of padding, if any."""

    output: Any
    mask: Any


class EncoderCalls:
    """Hooks on the encoders of a model, given as for `EncoderHooks`.

    Attributes:
        autocast: device type and precision of autocast in the last recorded pass, also where a wrapper of
            the model (accelerate, Fabric) turns it on; None if it was off.
    """

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        self._encoders = dict(encoders)
        self.autocast: tuple[str, torch.dtype] | None = None

    @contextmanager
    def recorded(self, *, stop: bool = False) -> Iterator[dict[str, Returned]]:
        """Record the output of each encoder, by modality, with its graph; with `stop` end the pass then.

        Raises:
            Encoded: within the block, to stop.
            ModelError: an encoder was not called once for each of its modalities.
        """
        found: dict[str, Returned] = {}

        def note(modality: str, output: Any, given: Mapping[str, Any]) -> None:
            found[modality] = Returned(output, given.get("attention_mask"))
            kind = device_of(self._encoders[modality]).type
            enabled = torch.is_autocast_enabled(kind)
            self.autocast = (kind, torch.get_autocast_dtype(kind)) if enabled else None
            if stop and len(found) == len(self._encoders):
                raise Encoded

        hooks = EncoderHooks(self._encoders, note)
        with hooks.registered():
            try:
                yield found
            except Encoded:
                return
        hooks.end_pass(WHERE_COMPILED)

    @contextmanager
    def replaced(
        self, outputs: Mapping[str, Any], on_last: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Let encoders return the given outputs, by modality, without running.

        `on_last` is called when the last of them is called.

        Raises:
            ModelError: an encoder was not called once for each of its modalities.
        """
        hooks, calls = EncoderHooks(self._encoders), count(1)

        def answer(module: nn.Module) -> Any:
            modality, _ = hooks.called(module)
            if next(calls) == len(self._encoders) and on_last is not None:
                on_last()
            return outputs[modality]

        with ExitStack() as stack:
            for module in dict.fromkeys(self._encoders.values()):
                stack.enter_context(_forward_replaced(module, answer))
            yield
        hooks.end_pass(WHERE_COMPILED)

    @contextmanager
    def zeroed(self) -> Iterator[None]:
        """Replace the first tensor argument of each encoder by zeros."""
        with ExitStack() as stack:
            for module in dict.fromkeys(self._encoders.values()):
                hook = module.register_forward_pre_hook(_first_zeroed, with_kwargs=True)
                stack.callback(hook.remove)
            yield


def with_feature(output: Any, old: Tensor, new: Tensor, modality: str) -> Any:
    """Return an encoder's output with its feature, the tensor object `old`, replaced; see `map_tensors`.

    Raises:
        ModelError: the feature was computed from the output, so it cannot be replaced.
    """
    found = []

    def exchange(tensor: Tensor) -> Tensor:
        found.append(tensor is old)
        return new if tensor is old else tensor

    exchanged = map_tensors(output, exchange)
    if not any(found):
        raise ModelError(
            f"the feature of {modality!r} is pooled from its encoder's output, so that it cannot be "
            "replaced; choose as its handle a module that returns the feature [B, d] itself, or a method "
            "that does not change features."
        )
    return exchanged


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
