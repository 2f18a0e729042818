"""Methods that fit a standard step, in a user-defined training loop; `by_hand` is the entry point."""

from __future__ import annotations

from equipoise.loops.plain.entry import by_hand
from equipoise.loops.plain.training import HandTraining

__all__ = ["HandTraining", "by_hand"]
