"""From a module, earlier weights and a strength to the re-learnt module."""

from equipoise.relearning.optimizer_state import LearningRateRewarm, settle_optimizer_state
from equipoise.relearning.recovery import recalibrate_norms, refit_head
from equipoise.relearning.reinitialize import snapshot, soft_reinitialize
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.relearning.selection import select_buffers, select_parameters
from equipoise.relearning.targets import redrawn_state, update_average

__all__ = [
    "LearningRateRewarm",
    "RelearningSchedule",
    "recalibrate_norms",
    "redrawn_state",
    "refit_head",
    "select_buffers",
    "select_parameters",
    "settle_optimizer_state",
    "snapshot",
    "soft_reinitialize",
    "update_average",
]
