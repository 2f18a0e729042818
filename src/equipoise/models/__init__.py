"""Models: encoders, fusions, and what methods may ask of them.

A model is one encoder per modality and a fusion (`MultimodalModel`), or whatever keeps the contract
(`BalancedModel`): `encode` gives pooled features, `fuse` gives joint logits, and parameters come in explicit
groups.
"""

from __future__ import annotations

from equipoise.models.build import (
    available_models,
    build_encoder,
    build_fusion,
    build_model,
    describe,
    encoder_names,
)
from equipoise.models.contract import BalancedModel
from equipoise.models.custom import check_contract, custom_model
from equipoise.models.encoders import DEFAULT_ENCODER, ENCODERS, KINDS, Encoder
from equipoise.models.fusion import FUSIONS, ConcatHead, Fusion, HeadView, SumHead
from equipoise.models.fusion.average import AverageFusion
from equipoise.models.fusion.concat import ConcatFusion
from equipoise.models.fusion.sum import SumFusion
from equipoise.models.multimodal import MultimodalModel
from equipoise.models.unimodal_logits import LOGIT_SOURCES, prototype_logits, unimodal_logits

__all__ = [
    "DEFAULT_ENCODER",
    "ENCODERS",
    "FUSIONS",
    "KINDS",
    "LOGIT_SOURCES",
    "AverageFusion",
    "BalancedModel",
    "ConcatFusion",
    "ConcatHead",
    "Encoder",
    "Fusion",
    "HeadView",
    "MultimodalModel",
    "SumFusion",
    "SumHead",
    "available_models",
    "build_encoder",
    "build_fusion",
    "build_model",
    "check_contract",
    "custom_model",
    "describe",
    "encoder_names",
    "prototype_logits",
    "unimodal_logits",
]
