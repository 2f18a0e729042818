"""The largest memory that a run takes."""

from __future__ import annotations

from pathlib import Path

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"


class PeakMemory:
    """Watches the peak from its construction on.

    On a GPU it is what tensors took there. Elsewhere it is the resident memory of the whole process, the
    libraries included, and known on Linux alone.

    Args:
        device: of the run.
        earlier: peak of the parts of the run that an interruption ended.
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
            # The peak of the whole life of the process would be that of whichever run came before.
            self._known = False

    def bytes(self) -> int | None:
        """Return the peak in bytes, None where it cannot be known."""
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
