"""Alternating training of the modalities, with more classifier layers for the weakest one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.options import number
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.core.search import LogUniform, Uniform, space
from equipoise.methods.shared.turns import WeighsTurns, encoders_to_eval, freeze_step
from equipoise.methods.shared.unimodal_views import true_class_probability
from equipoise.models import BalancedModel, Fusion, with_fusion
from equipoise.scopes import modes_restored
from equipoise.types import Batch

CHECKS = 10
"""Default number of times that growth is considered in a training."""


class GrowingFusion(Fusion):
    """Classifiers that can grow: `u = sum_m w_m u^m`, `u^m = sum_{j=0..k_m} V relu(E^m_j z^m)`.

    The output layer V is shared. All layers exist from the start, so checkpoints have a fixed structure;
    layers that are not in use yet get no gradient.

    Args:
        hidden: units of each layer `E^m_j`.
        layers: how many layers a modality can grow beyond its first.
        weights: modality to `w_m`, scaled to the sum 1; empty is `1 / M` each.

    Attributes:
        grown: layers in use beyond the first, `[M]`.
    """

    name: ClassVar[str] = ""
    grown: Tensor

    def __init__(
        self,
        widths: Mapping[str, int],
        num_classes: int,
        *,
        hidden: int,
        layers: int,
        weights: Mapping[str, float],
    ) -> None:
        super().__init__(widths, num_classes)
        self.embeddings = nn.ModuleList(
            nn.ModuleList(nn.Linear(d, hidden) for _ in range(layers + 1)) for d in self.widths.values()
        )
        self.output = nn.Linear(hidden, self.num_classes)
        self.register_buffer("grown", torch.zeros(len(self.widths), dtype=torch.int64))
        chosen = weights or dict.fromkeys(self.modalities, 1.0)
        self.weights = {m: chosen[m] / sum(chosen.values()) for m in self.modalities}

    def layer_logits(self, modality: str, z: Tensor) -> list[Tensor]:
        """Return `a_0 .. a_k`, the logits `[B, C]` of each layer in use of a modality for `z` `[B, d_m]`."""
        place = self.modalities.index(modality)
        layers = list(cast("nn.ModuleList", self.embeddings[place]))[: int(self.grown[place]) + 1]
        return [self.output(layer(z).relu()) for layer in layers]

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return `u^m` `[B, C]` of the feature `[B, d_m]` of one modality."""
        return torch.stack(self.layer_logits(modality, z)).sum(0)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        pairs = zip(self.modalities, self.ordered(z), strict=True)
        return torch.stack([self.weights[m] * self.own_logits(m, feature) for m, feature in pairs]).sum(0)

    def grow(self, modality: str) -> bool:
        """Add a layer to a modality; return whether one was left."""
        place = self.modalities.index(modality)
        left = int(self.grown[place]) + 1 < len(cast("nn.ModuleList", self.embeddings[place]))
        self.grown[place] += int(left)
        return left


def residual_loss(logits: list[Tensor], target: Tensor, weight: float) -> Tensor:
    """Return the loss of the logits `a_0 .. a_k` `[B, C]` of one modality, and target `[B]`.

    With `u = sum_j a_j`, `o` the sum of all but the newest `a_k` and the constant `q = softmax(o)` it is
    `CE(u, y) + CE(o, y) + CE(a_k, y) - weight * mean(q_y * -log softmax(a_k)_y)`; with one layer `CE(u, y)`.
    """
    whole = F.cross_entropy(torch.stack(logits).sum(0), target)
    if len(logits) == 1:
        return whole
    older, newest = torch.stack(logits[:-1]).sum(0), logits[-1]
    explained = true_class_probability(older.detach(), target)
    surprise = F.cross_entropy(newest, target, reduction="none")
    return whole + F.cross_entropy(older, target) + ((1 - weight * explained) * surprise).mean()


@dataclass
class AUG(WeighsTurns):
    """Train the modalities in turns on each batch, and grow another layer for the weakest one.

    On every batch each modality takes an optimiser step on its own loss (`residual_loss`) through a shared
    output layer. At the end of the first epoch and of every `period`-th epoch the modality with the lowest
    score, the sum over the epoch of `softmax(u^m)_y`, gets a layer if the mean score of the others is more
    than `1 + margin` times as high. Predictions are the weighted sum of all `u^m`.

    Attributes:
        period: epochs between evaluations of the scores; None is a tenth of training.
        layers: how many layers a modality can grow; 0 is alternating training.
        margin: by how much a modality must be weaker.
        residual_weight: weight of the part that the older layers of a modality explain.
        weights: modality to its weight in the prediction; empty is equal weights.
        hidden: units of each layer.
    """

    period: int | None = number(None, low=1)
    layers: int = number(CHECKS)
    margin: float = number(0.01)
    residual_weight: float = number(0.5)
    hidden: int = number(256, low=1)

    name = "aug"
    summary = "alternate the modalities, and grow classifier layers for the weakest one"
    source = "Jiang, Huang and Yang, NeurIPS 2025, arXiv 2502.20120"
    bibtex = ("jiang2025rethinking",)
    cost = "an optimiser step for each modality; small layers"
    search_space = space(margin=LogUniform(0.001, 0.1), residual_weight=Uniform(0, 1))

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders with classifiers that can grow."""
        fusion = GrowingFusion(
            reference.feature_widths(),
            reference.num_outputs,
            hidden=self.hidden,
            layers=self.layers,
            weights=self.weights,
        )
        return with_fusion(reference, fusion)

    def epoch_start(self, run: Run) -> None:
        """Reset the scores."""
        super().epoch_start(run)
        self._scores: dict[str, Tensor] = {}

    def train_step(self, batch: Batch, run: Run) -> Tensor:
        """Take a step for each modality; return the mean of their losses."""
        steps = [self.standard_step(StepContext(run, batch, (modality,))) for modality in self.turns(run)]
        return torch.stack(steps).mean()

    def forward(self, context: StepContext) -> Tensor:
        """Encode the active modality; `context.u` becomes its logits `u^m`."""
        (modality,), model = context.active or (), context.run.model
        # Encoders that exchange signals run together, in training as at inference.
        only = None if "mid_fusion" in model.capabilities else (modality,)
        with modes_restored(model):
            encoders_to_eval(model, [m for m in model.modalities if m != modality])
            z = model.encode(context.batch, only=only)
        context.features = {modality: z[modality]}
        context.z = self.edit_features(context.features, context)
        context.u = _fusion(context.run).own_logits(modality, context.z[modality])
        return context.u

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the loss of the active modality, and add to its score."""
        (modality,), target = context.active or (), context.batch.target
        logits = _fusion(context.run).layer_logits(modality, context.z[modality])
        true = true_class_probability(context.u.detach(), target)
        self._scores[modality] = self._scores.get(modality, 0) + true.sum()
        return {"residual": residual_loss(logits, target, self.residual_weight)}

    def after_backward(self, context: StepContext) -> None:
        """Remove the gradients of encoders that exchanged signals with the active one."""
        super().after_backward(context)
        model, active = context.run.model, context.active or ()
        freeze_step(model, [modality for modality in model.modalities if modality not in active])

    def epoch_end(self, run: Run) -> None:
        """Grow a layer if it is due and a modality is weak enough."""
        super().epoch_end(run)
        period = self.period or math.ceil(run.total_epochs / CHECKS)
        last = run.epoch == run.total_epochs - 1  # a new layer would not be trained
        if last or (run.epoch and (run.epoch + 1) % period):
            return
        scores = {modality: float(score) for modality, score in self._scores.items()}
        modality = weakest(scores, self.margin)
        if modality is not None and _fusion(run).grow(modality):
            run.record("growth", modality=modality, scores=scores)


def weakest(scores: Mapping[str, float], margin: float) -> str | None:
    """Return the modality of the lowest score if the others' mean is over `1 + margin` times that."""
    lowest = min(scores, key=scores.__getitem__)
    others = [score for modality, score in scores.items() if modality != lowest]
    return lowest if sum(others) / len(others) > (1 + margin) * scores[lowest] else None


def _fusion(run: Run) -> GrowingFusion:
    return cast("GrowingFusion", run.model.fusion)
