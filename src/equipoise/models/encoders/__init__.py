"""Encoders, one file each: the tensor of a sample to one feature vector."""

from __future__ import annotations

from equipoise.models.encoders.base import (
    DEFAULT_ENCODER,
    ENCODERS,
    KINDS,
    Encoder,
    FrameEncoder,
    default_encoder,
    fitting_encoders,
    stagewise_encoders,
)
from equipoise.models.encoders.stages import StagedPass, StagedRun, Stages

__all__ = [
    "DEFAULT_ENCODER",
    "ENCODERS",
    "KINDS",
    "Encoder",
    "FrameEncoder",
    "StagedPass",
    "StagedRun",
    "Stages",
    "default_encoder",
    "fitting_encoders",
    "stagewise_encoders",
]
