"""Count the samples that pass through the encoders of a run, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from equipoise.methods import Counters


class PassCounter:
    """Counts by hooks, so that every pass is counted once, whoever makes it.

    A backward pass is counted where a gradient arrives at an encoder's output. Nothing is counted outside
    `counting()`: evaluation is the same for all methods.

    Args:
        counters: to which the counts are added.
    """

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self._on = False

    def watch(self, module: nn.Module) -> None:
        """Count the passes through a module as passes of one encoder."""
        module.register_forward_hook(self._passed)

    @contextmanager
    def counting(self, on: bool = True) -> Iterator[None]:
        """Turn counting on, or off, within a block."""
        before, self._on = self._on, on
        try:
            yield
        finally:
            self._on = before

    def _passed(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not self._on:
            return
        tensor = _first_tensor(output)
        if tensor is None or not tensor.ndim:
            return
        samples = len(tensor)
        self.counters.forward_passes += samples
        if tensor.requires_grad:
            tensor.register_hook(lambda _: self._returned(samples))  # type: ignore[no-untyped-call]

    def _returned(self, samples: int) -> None:
        if self._on:
            self.counters.backward_passes += samples


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, tuple | list):
        return next((found for entry in output if (found := _first_tensor(entry)) is not None), None)
    return None
