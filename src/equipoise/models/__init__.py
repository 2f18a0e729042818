"""Models: encoders, fusions, and the contract with methods.

A model is one encoder per modality and a fusion (`MultimodalModel`), or any model that fulfils the contract
(`BalancedModel`): `encode` returns pooled features, `fuse` returns joint logits, and parameters are in
explicit groups.
"""

from __future__ import annotations

from equipoise.models.build import build_model as build_model
from equipoise.models.contract import BalancedModel as BalancedModel
from equipoise.models.encoders.base import ENCODERS as ENCODERS
from equipoise.models.encoders.base import Encoder as Encoder
from equipoise.models.fusion.average import AverageFusion as AverageFusion
from equipoise.models.fusion.base import FUSIONS as FUSIONS
from equipoise.models.fusion.base import Fusion as Fusion
from equipoise.models.fusion.concat import ConcatFusion as ConcatFusion
from equipoise.models.fusion.film import FiLMFusion as FiLMFusion
from equipoise.models.fusion.gated import GatedFusion as GatedFusion
from equipoise.models.fusion.head import ConcatHead as ConcatHead
from equipoise.models.fusion.head import HeadView as HeadView
from equipoise.models.fusion.head import SumHead as SumHead
from equipoise.models.fusion.low_rank_bilinear import LowRankBilinearFusion as LowRankBilinearFusion
from equipoise.models.fusion.own_heads import OwnHeads as OwnHeads
from equipoise.models.fusion.shared import SharedFusion as SharedFusion
from equipoise.models.fusion.sum import SumFusion as SumFusion
from equipoise.models.mid_fusion.bottlenecks import BottleneckModel as BottleneckModel
from equipoise.models.mid_fusion.crossmodal import CrossmodalModel as CrossmodalModel
from equipoise.models.mid_fusion.mmtm import MidFusionModel as MidFusionModel
from equipoise.models.multimodal import MultimodalModel as MultimodalModel
from equipoise.models.subset_logits import subset_logits as subset_logits
from equipoise.models.unimodal_logits import unimodal_logits as unimodal_logits
from equipoise.models.with_fusion import with_fusion as with_fusion
