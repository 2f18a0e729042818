"""The cost of a run: samples that pass through the encoders, forward and backward, and peak memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.methods import Counters

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"


class PassCounter:
    """Counts by hooks, so that every pass is counted once, whoever makes it.

    A backward pass is counted where a gradient arrives at an encoder's output. Nothing is counted outside
    `counting()`: evaluation is the same for all methods.
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


class PeakMemory:
    """Measures the peak from its construction on.

    On a GPU it is the memory of tensors. Elsewhere it is the resident memory of the whole process, with its
    libraries, and available on Linux only. `earlier` is the peak of a run before it was interrupted.
    """

    def __init__(self, device: torch.device, earlier: int | None = None) -> None:
        self._device, self._earlier = device, earlier
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        try:
            CLEAR.write_text(RESET_PEAK)
            self._known = True
        except OSError:
            # Without the reset the peak could be that of an earlier run in the process.
            self._known = False

    def bytes(self) -> int | None:
        """Return the peak in bytes, None where it is not available."""
        now = self._now()
        known = [value for value in (now, self._earlier) if value is not None]
        return max(known) if known else None

    def _now(self) -> int | None:
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        if not self._known:
            return None
        for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
