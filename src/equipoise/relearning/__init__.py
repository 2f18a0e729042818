"""Diagnosing & Re-learning: the whole method, for any training loop."""

from equipoise.relearning.blend import soft_reinitialize
from equipoise.relearning.monitor import Monitor
from equipoise.relearning.optimizer_state import settle_optimizer_state
from equipoise.relearning.relearner import DiagnoseRelearn

__all__ = ["DiagnoseRelearn", "Monitor", "settle_optimizer_state", "soft_reinitialize"]
