"""Encoders, one file each: the tensor of a sample to one feature vector."""

from __future__ import annotations

from equipoise.models.encoders.base import Encoder, FrameEncoder
from equipoise.models.encoders.stages import Stages

__all__ = ["Encoder", "FrameEncoder", "Stages"]
