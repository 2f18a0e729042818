"""Fusions: one file each, one feature vector per modality to joint logits."""

from __future__ import annotations

from equipoise.models.fusion.base import FUSIONS, Fusion
from equipoise.models.fusion.head import ConcatHead, HeadView, SumHead

__all__ = ["FUSIONS", "ConcatHead", "Fusion", "HeadView", "SumHead"]
