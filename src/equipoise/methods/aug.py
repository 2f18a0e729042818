"""Alternating training of the modalities, with more classifier layers for the one that lags behind."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.run import Run
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.option_checks import check_number
from equipoise.methods.shared.turns import TakesTurns, let_rest
from equipoise.models import with_fusion
from equipoise.models.fusion.base import Fusion
from equipoise.scopes import evaluating, modes_restored
from equipoise.types import Batch, UsageError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel

CHECKS = 10
"""How often in a training growth is considered, by default."""


class GrowingFusion(Fusion):
    """Classifiers that may grow: `u = sum_m w_m u^m`, `u^m = sum_{j=0..k_m} V relu(E^m_j z^m)`.

    The output layer V is shared. All layers that may ever be grown are there from the start; those that are
    not in use yet get no gradient, so nothing moves them, and nothing about a checkpoint is special.

    Args:
        widths: modality to feature width `d_m`, in the model's order.
        num_classes: `C`.
        hidden: units of each layer `E^m_j`.
        layers: how many layers a modality may grow beyond its first.
        weights: modality to `w_m`, which are scaled to the sum 1; None is `1 / M` each.

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
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(widths, num_classes)
        self.embeddings = nn.ModuleList(
            nn.ModuleList(nn.Linear(d, hidden) for _ in range(layers + 1)) for d in self.widths.values()
        )
        self.output = nn.Linear(hidden, self.num_classes)
        self.register_buffer("grown", torch.zeros(len(self.widths), dtype=torch.int64))
        chosen = weights or dict.fromkeys(self.modalities, 1.0)
        self.weights = {m: chosen[m] / sum(chosen.values()) for m in self.modalities}

    def answers(self, modality: str, z: Tensor) -> list[Tensor]:
        """Return `a_0 .. a_k`, the answer `[B, C]` of each layer of a modality in use to `z` `[B, d_m]`."""
        place = self.modalities.index(modality)
        layers = list(cast("nn.ModuleList", self.embeddings[place]))[: int(self.grown[place]) + 1]
        return [self.output(layer(z).relu()) for layer in layers]

    def own_logits(self, modality: str, z: Tensor) -> Tensor:
        """Return `u^m` `[B, C]` of the feature `[B, d_m]` of one modality."""
        return torch.stack(self.answers(modality, z)).sum(0)

    def forward(self, z: Mapping[str, Tensor]) -> Tensor:
        """Fuse features `{m: [B, d_m]}` to logits `[B, C]`."""
        pairs = zip(self.modalities, self.ordered(z), strict=True)
        return torch.stack([self.weights[m] * self.own_logits(m, feature) for m, feature in pairs]).sum(0)

    def grow(self, modality: str) -> bool:
        """Put another layer of a modality into use; return whether there was one left."""
        place = self.modalities.index(modality)
        left = int(self.grown[place]) + 1 < len(cast("nn.ModuleList", self.embeddings[place]))
        self.grown[place] += int(left)
        return left


def residual_loss(answers: list[Tensor], target: Tensor, weight: float) -> Tensor:
    """Return the loss of one modality.

    With `u = sum_j a_j`, `o` the sum of all but the newest `a_k` and `q = softmax(o)`, a constant, it is
    `CE(u, y) + CE(o, y) + CE(a_k, y) - weight * mean(q_y * -log softmax(a_k)_y)`; with one layer `CE(u, y)`.

    Args:
        answers: `a_0 .. a_k`, each `[B, C]`.
        target: `[B]`.
        weight: of what the older layers explain.
    """
    whole = F.cross_entropy(torch.stack(answers).sum(0), target)
    if len(answers) == 1:
        return whole
    older, newest = torch.stack(answers[:-1]).sum(0), answers[-1]
    explained = older.detach().softmax(1).gather(1, target[:, None]).squeeze(1)
    surprise = F.cross_entropy(newest, target, reduction="none")
    return whole + F.cross_entropy(older, target) + ((1 - weight * explained) * surprise).mean()


@dataclass
class AUG(TakesTurns):
    """Train the modalities in turns on each batch, and grow another layer for the one that lags behind.

    Every batch gives each modality an optimiser step on its own loss (`residual_loss`) through an output
    layer that all share. At the end of the first epoch and of every `period`-th one the modality with the
    lowest score, the sum over the epoch of `softmax(u^m)_y`, gets a layer if the mean score of the others is
    more than `1 + margin` times as high. The weighted sum of all `u^m` predicts.

    Attributes:
        period: epochs between the looks at the scores; None is a tenth of training.
        layers: how many layers a modality may grow; 0 is alternating training.
        margin: by how much a modality must lag.
        residual_weight: weight of what the older layers of a modality explain.
        weights: modality to its weight in the prediction; equal ones where it is empty.
        hidden: units of each layer.
        order: see `TakesTurns`.
    """

    period: int | None = None
    layers: int = CHECKS
    margin: float = 0.01
    residual_weight: float = 0.5
    weights: dict[str, float] = field(default_factory=dict)
    hidden: int = 256

    name = "aug"
    summary = "alternate the modalities, and grow classifier layers for the one that lags behind"
    source = "Jiang, Huang and Yang, NeurIPS 2025, arXiv 2502.20120"
    cost = "an optimiser step for each modality; small layers"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("period", 1 if self.period is None else self.period, low=1)
        for option in ("layers", "margin", "residual_weight"):
            check_number(option, getattr(self, option))
        check_number("hidden", self.hidden, low=1)
        for modality, weight in self.weights.items():
            check_number(f"the weight of {modality!r}", weight)
        if self.weights and not sum(self.weights.values()):
            raise UsageError("all weights are 0; expected one above 0 at least.")

    def check(self, model: BalancedModel) -> None:
        """Refuse weights and an order that do not name every modality."""
        super().check(model)
        if self.weights and set(self.weights) != set(model.modalities):
            raise UsageError(
                f"the weights of {self.name!r} are for {', '.join(self.weights)}; it needs one for each "
                f"modality: {', '.join(model.modalities)}."
            )

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders under classifiers that may grow."""
        options = {"hidden": self.hidden, "layers": self.layers}
        fusion = GrowingFusion(
            reference.feature_widths(), reference.num_outputs, **options, weights=self.weights
        )
        return with_fusion(reference, fusion)

    def epoch_start(self, run: Run) -> None:
        """Begin to add up scores."""
        super().epoch_start(run)
        self._scores: dict[str, Tensor] = {}

    def train_step(self, batch: Batch, run: Run) -> Tensor:
        """Take a step for each modality; return the mean of their losses."""
        steps = [self.standard_step(StepContext(run, batch, (modality,))) for modality in self.turns(run)]
        return torch.stack(steps).mean()

    def forward(self, context: StepContext) -> Tensor:
        """Encode the modality whose turn it is; `context.u` becomes its own logits."""
        (modality,), model = context.active or (), context.run.model
        # Encoders that exchange gates run together, in training as they will in use.
        only = None if "mid_fusion" in model.capabilities else (modality,)
        with others_resting(model, modality):
            z = model.encode(context.batch, only=only)
        context.features = {modality: z[modality]}
        context.z = self.edit_features(context.features, context)
        context.u = _fusion(context.run).own_logits(modality, context.z[modality])
        return context.u

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the loss of the modality whose turn it is, and note its score."""
        (modality,), target = context.active or (), context.batch.target
        answers = _fusion(context.run).answers(modality, context.z[modality])
        true = context.u.detach().softmax(1).gather(1, target[:, None])
        self._scores[modality] = self._scores.get(modality, 0) + true.sum()
        return {"residual": residual_loss(answers, target, self.residual_weight)}

    def after_backward(self, context: StepContext) -> None:
        """Take the gradients of encoders that exchanged gates with the active one."""
        super().after_backward(context)
        model, active = context.run.model, context.active or ()
        let_rest(model, [modality for modality in model.modalities if modality not in active])

    def epoch_end(self, run: Run) -> None:
        """Grow a layer where it is time and a modality lags behind."""
        super().epoch_end(run)
        period = self.period or math.ceil(run.total_epochs / CHECKS)
        last = run.epoch == run.total_epochs - 1  # a new layer would never be trained
        if last or (run.epoch and (run.epoch + 1) % period):
            return
        scores = {modality: float(score) for modality, score in self._scores.items()}
        modality = lagging(scores, self.margin)
        if modality is not None and _fusion(run).grow(modality):
            run.record("growth", modality=modality, scores=scores)


@contextmanager
def others_resting(model: BalancedModel, modality: str) -> Iterator[None]:
    """Run a block with the encoders of all other modalities in evaluation mode, then restore the modes.

    Their running statistics rest as their weights do. What the encoder of the modality shares with them is at
    work and keeps its mode.
    """
    with ExitStack() as stack:
        with modes_restored(model.encoder_module(modality)):
            for other in model.modalities:
                if other != modality:
                    stack.enter_context(evaluating(model.encoder_module(other)))
        yield


def lagging(scores: Mapping[str, float], margin: float) -> str | None:
    """Return the modality of the lowest score if the others' mean is over `1 + margin` times that."""
    lowest = min(scores, key=scores.__getitem__)
    others = [score for modality, score in scores.items() if modality != lowest]
    return lowest if sum(others) / len(others) > (1 + margin) * scores[lowest] else None


def _fusion(run: Run) -> GrowingFusion:
    return cast("GrowingFusion", run.model.fusion)
