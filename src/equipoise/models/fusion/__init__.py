"""Fusions: one file each, one feature vector per modality to joint logits."""

from __future__ import annotations

from equipoise.models.fusion.base import Fusion

__all__ = ["Fusion"]
