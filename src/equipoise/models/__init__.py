"""Models: encoders, fusions, and the contract with methods.

A model is one encoder per modality and a fusion (`MultimodalModel`), or any model that fulfils the contract
(`BalancedModel`): `encode` returns pooled features, `fuse` returns joint logits, and parameters are in
explicit groups.
"""

from __future__ import annotations

from equipoise.models.build import build_model
from equipoise.models.contract import BalancedModel
from equipoise.models.encoders.base import ENCODERS, Encoder
from equipoise.models.fusion.average import AverageFusion
from equipoise.models.fusion.base import FUSIONS, Fusion
from equipoise.models.fusion.concat import ConcatFusion
from equipoise.models.fusion.film import FiLMFusion
from equipoise.models.fusion.gated import GatedFusion
from equipoise.models.fusion.head import ConcatHead, HeadView, SumHead
from equipoise.models.fusion.low_rank_bilinear import LowRankBilinearFusion
from equipoise.models.fusion.own_heads import OwnHeads
from equipoise.models.fusion.shared import SharedFusion
from equipoise.models.fusion.sum import SumFusion
from equipoise.models.mid_fusion.bottlenecks import BottleneckModel
from equipoise.models.mid_fusion.crossmodal import CrossmodalModel
from equipoise.models.mid_fusion.mmtm import MidFusionModel
from equipoise.models.multimodal import MultimodalModel
from equipoise.models.subset_logits import subset_logits
from equipoise.models.unimodal_logits import unimodal_logits
from equipoise.models.with_fusion import with_fusion

__all__ = [
    "ENCODERS",
    "FUSIONS",
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
    "LowRankBilinearFusion",
    "MidFusionModel",
    "MultimodalModel",
    "OwnHeads",
    "SharedFusion",
    "SumFusion",
    "SumHead",
    "build_model",
    "subset_logits",
    "unimodal_logits",
    "with_fusion",
]
