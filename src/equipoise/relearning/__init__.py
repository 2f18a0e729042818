"""Diagnosing & Re-learning: the whole method, for any training loop."""

from equipoise.relearning.adapters import adapter_parameters, refuse_merged
from equipoise.relearning.blocks import block_names, depths_from_top
from equipoise.relearning.copies import copied_encoder
from equipoise.relearning.optimizer_state import (
    LearningRateRewarm,
    Optimizers,
    as_optimizers,
    settle_optimizer_state,
)
from equipoise.relearning.recovery import recalibrate_norms, refit_head
from equipoise.relearning.redraw import Factory, redrawn_state
from equipoise.relearning.reinitialize import snapshot, soft_reinitialize
from equipoise.relearning.relearner import DiagnoseRelearn
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.relearning.selection import select_buffers, select_parameters
from equipoise.relearning.targets import update_average, weights_origin

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
