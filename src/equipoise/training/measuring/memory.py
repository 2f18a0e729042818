"""The peak memory of a run."""

from __future__ import annotations

from pathlib import Path

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"


class PeakMemory:
    """Measures the peak from its construction on.

    On a GPU it is the memory of tensors. Elsewhere it is the resident memory of the whole process, with its
    libraries, and available on Linux only.

    Args:
        device: of the run.
        earlier: peak of the run before it was interrupted.
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
