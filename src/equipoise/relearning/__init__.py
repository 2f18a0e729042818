"""Diagnosing & Re-learning: the whole method, for any training loop."""

from equipoise.relearning.aftermath import copied_encoder, recalibrate_norms, refit_head
from equipoise.relearning.blend import snapshot, soft_reinitialize
from equipoise.relearning.optimizer_state import (
    LearningRateRewarm,
    Optimizers,
    as_optimizers,
    settle_optimizer_state,
)
from equipoise.relearning.options import Factory
from equipoise.relearning.relearner import DiagnoseRelearn
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.relearning.selection import (
    adapter_parameters,
    block_names,
    depths_from_top,
    refuse_merged,
    select_buffers,
    select_parameters,
)
from equipoise.relearning.targets import redrawn_state, update_average, weights_origin

__all__ = [
    "DiagnoseRelearn",
    "Factory",
    "LearningRateRewarm",
    "Optimizers",
    "RelearningSchedule",
    "adapter_parameters",
    "as_optimizers",
    "block_names",
    "copied_encoder",
    "depths_from_top",
    "recalibrate_norms",
    "redrawn_state",
    "refit_head",
    "refuse_merged",
    "select_buffers",
    "select_parameters",
    "settle_optimizer_state",
    "snapshot",
    "soft_reinitialize",
    "update_average",
    "weights_origin",
]
