"""Models: encoders, fusions, and the contract with methods.

A model is one encoder per modality and a fusion (`MultimodalModel`), or any model that fulfils the contract
(`BalancedModel`): `encode` returns pooled features, `fuse` returns joint logits, and parameters are in
explicit groups.
"""

from __future__ import annotations

from equipoise.models.build import (
    MID_FUSIONS,
    available_models,
    build_encoder,
    build_fusion,
    build_mid_fusion,
    build_model,
    describe,
    encoder_names,
    fusion_names,
)
from equipoise.models.contract import BalancedModel
from equipoise.models.custom import check_contract, custom_model
from equipoise.models.encoders.base import DEFAULT_ENCODER, ENCODERS, KINDS, Encoder, stagewise_encoders
from equipoise.models.encoders.stages import StagedPass
from equipoise.models.fusion.average import AverageFusion
from equipoise.models.fusion.base import FUSIONS, Fusion
from equipoise.models.fusion.concat import ConcatFusion
from equipoise.models.fusion.film import FiLMFusion
from equipoise.models.fusion.gated import GatedFusion
from equipoise.models.fusion.head import ConcatHead, HeadView, SumHead
from equipoise.models.fusion.low_rank_bilinear import LowRankBilinearFusion
from equipoise.models.fusion.own_heads import OwnHeads
from equipoise.models.fusion.shared import SharedFusion, entropy_weights
from equipoise.models.fusion.sum import SumFusion
from equipoise.models.local_weights import LoadedWeights, load_weights
from equipoise.models.mid_fusion.bottlenecks import BottleneckModel
from equipoise.models.mid_fusion.crossmodal import CrossmodalModel
from equipoise.models.mid_fusion.lockstep import LockstepModel
from equipoise.models.mid_fusion.mmtm import MMTM, MidFusionModel
from equipoise.models.multimodal import MultimodalModel
from equipoise.models.subset_logits import ABSENCES, answers_to_zeros, subset_logits
from equipoise.models.unimodal_logits import LOGIT_SOURCES, prototype_logits, unimodal_logits
from equipoise.models.with_fusion import with_fusion

__all__ = [
    "ABSENCES",
    "DEFAULT_ENCODER",
    "ENCODERS",
    "FUSIONS",
    "KINDS",
    "LOGIT_SOURCES",
    "MID_FUSIONS",
    "MMTM",
    "AverageFusion",
    "BalancedModel",
    "BottleneckModel",
    "ConcatFusion",
    "ConcatHead",
    "CrossmodalModel",
    "Encoder",
    "FiLMFusion",
    "Fusion",
    "GatedFusion",
    "HeadView",
    "LoadedWeights",
    "LockstepModel",
    "LowRankBilinearFusion",
    "MidFusionModel",
    "MultimodalModel",
    "OwnHeads",
    "SharedFusion",
    "StagedPass",
    "SumFusion",
    "SumHead",
    "answers_to_zeros",
    "available_models",
    "build_encoder",
    "build_fusion",
    "build_mid_fusion",
    "build_model",
    "check_contract",
    "custom_model",
    "describe",
    "encoder_names",
    "entropy_weights",
    "fusion_names",
    "load_weights",
    "prototype_logits",
    "stagewise_encoders",
    "subset_logits",
    "unimodal_logits",
    "with_fusion",
]
