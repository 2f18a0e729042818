"""Any method that fits a standard step, in anybody's training loop; `by_hand` is the way in."""

from __future__ import annotations

from equipoise.loops.plain.entry import by_hand
from equipoise.loops.plain.training import HandTraining

__all__ = ["HandTraining", "by_hand"]
