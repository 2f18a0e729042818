"""Label fitting and alignment between modalities in one loss, with a weight that changes in training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from equipoise.methods.core.options import check_number, choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, Run, StepContext
from equipoise.methods.core.search import LogUniform, Uniform, space
from equipoise.methods.shared.gradients import gradients_of, inner_product, trainable
from equipoise.methods.shared.heldout import HoldsOut
from equipoise.methods.shared.positions import shuffled
from equipoise.models import AverageFusion, BalancedModel, OwnHeads, unimodal_logits, with_fusion
from equipoise.models.precision import widened
from equipoise.scopes import evaluating
from equipoise.types import Batch

LIMITS = (0.05, 0.95)
"""Limits of a learned weight."""


def divergence(left: Tensor, right: Tensor, *, reverse: bool = False) -> Tensor:
    """Return the Jensen-Shannon divergence of the predictions of two modalities, mean over the batch.

    Both are given by logits `[B, C]`. With `c = (p + q) / 2` it is `1/2 KL(p || c) + 1/2 KL(q || c)`;
    `reverse` swaps the arguments of each KL.
    """
    log_p, log_q = widened(left).log_softmax(1), widened(right).log_softmax(1)
    log_c = torch.logaddexp(log_p, log_q) - math.log(2)
    halves = [_kl(log_c, log_x) if reverse else _kl(log_x, log_c) for log_x in (log_p, log_q)]
    return (halves[0] + halves[1]) / 2


def contrast(left: Tensor, right: Tensor, temperature: float) -> Tensor:
    """Return the symmetric InfoNCE loss of features `[B, d]`, in which the rows i are positive pairs."""
    similarity = F.normalize(widened(left)) @ F.normalize(widened(right)).T / temperature
    own = torch.arange(len(left), device=left.device)
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


@dataclass
class LFM(HoldsOut):
    """Shift the weight from aligning the modalities to fitting the labels in the course of training.

    `L = 2 ((1 - a) CE(u, y) + a A)` with `u = mean_m u^m` of a head for each modality and A the mean over all
    pairs of modalities of a distance that needs no label. A learned `a` takes one gradient step an epoch on
    the loss of held-out samples after one step of plain SGD on L (`learn`).

    Attributes:
        align: A: `js` (Jensen-Shannon divergence of the predictions), `reverse-js` (as released) or `infonce`
            (contrast of projected features).
        schedule: `learned`, or `fixed`: linear from `align_weight` to `end_weight`.
        align_weight: `a` of the first epoch.
        end_weight: `a` of the last epoch, for `fixed`.
        weight_lr: learning rate of a learned `a`. Its gradient is small, as the model's learning rate is a
            factor of it: with the released 1e-4 the weight practically does not change.
        weight_lr_epochs: number of epochs after which that rate is halved, repeatedly.
        temperature: of `infonce`.
    """

    align: str = choice("js", "reverse-js", "infonce")
    schedule: str = choice("learned", "fixed")
    align_weight: float = number(0.95, high=1)
    end_weight: float = number(0.05, high=1)
    weight_lr: float = number(10.0)
    weight_lr_epochs: int = number(20, low=1)
    temperature: float = number(0.1, low=1e-6)

    name = "lfm"
    family = "objective"
    summary = "label fitting and label-free alignment, with a weight that is learnt"
    source = "Yang, Wan, Jiang and Xu, NeurIPS 2024"
    bibtex = ("yang2024facilitating",)
    cost = "learned: two batches forward and three times backward per epoch"
    search_space = space(align_weight=Uniform(0.05, 0.95), weight_lr=LogUniform(1, 100))
    requires = Requirements(min_modalities=2)
    experimental = True
    replaces_loss = True
    remembered = ("weight",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule == "learned":
            check_number("align_weight", self.align_weight, *LIMITS)

    def holds_out(self) -> bool:
        """Whether a part is held out: if the weight is learnt."""
        return self.schedule == "learned"

    def own_gradients(self) -> bool:
        """Whether gradients are compared: if the weight is learnt."""
        return self.schedule == "learned"

    def build(self, reference: BalancedModel) -> BalancedModel:
        """Return the encoders with a linear head for each modality whose logits are averaged."""
        fusion = AverageFusion(reference.feature_widths(), reference.num_outputs, rule="logit")
        return with_fusion(reference, fusion)

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return, for `infonce`, a linear projection of each modality into a common space."""
        if self.align != "infonce":
            return {}
        widths = model.feature_widths()
        return {"projections": OwnHeads(widths, min(widths.values()))}

    def setup(self, run: Run) -> None:
        """Start from the first weight."""
        super().setup(run)
        self.weight = self.align_weight

    def epoch_start(self, run: Run) -> None:
        """Change the weight, from the second epoch on."""
        super().epoch_start(run)
        if self.schedule == "fixed":
            share = run.epoch / max(run.total_epochs - 1, 1)
            self.weight = (1 - share) * self.align_weight + share * self.end_weight
        elif run.epoch:
            self.weight = self.learn(run)
        run.record("alignment", weight=self.weight)

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return both terms, without a term of weight 0."""
        fit, align = self._objectives(context.run, context.batch, context.z, context.u)
        terms = {"fit": 2 * (1 - self.weight) * fit, "alignment": 2 * self.weight * align}
        return {name: term for name, term in terms.items() if self.weight != {"fit": 1, "alignment": 0}[name]}

    def learn(self, run: Run) -> float:
        """Return the next weight: `a - weight_lr * d CE_held / d a`, within `LIMITS`.

        After one SGD step of size eta on L, `d CE_held / d a = -2 eta <grad CE_held, grad A - grad CE>`: a
        product of first-order gradients, computed in evaluation mode on one batch of each part.
        """
        parameters = [*trainable(run.model.named_parameters()), *trainable(run.modules.named_parameters())]
        with evaluating(run.model), evaluating(run.modules), run.autocast():
            fit, align = self._draw(run, self.seen_positions)
            held, _ = self._draw(run, self.held_positions)
        by_fit, by_align, by_held = (gradients_of(loss, parameters) for loss in (fit, align, held))
        apart = inner_product(by_held, by_align) - inner_product(by_held, by_fit)
        slope = -2 * run.learning_rates[run.epoch] * float(apart)
        rate = self.weight_lr * 0.5 ** (run.epoch // self.weight_lr_epochs)
        return min(max(self.weight - rate * slope, LIMITS[0]), LIMITS[1])

    def _draw(self, run: Run, part: Tensor) -> tuple[Tensor, Tensor]:
        positions = next(iter(shuffled(part, run.batch_size, run.generator)))
        batch = run.take(positions.tolist()).to(run.device)
        z = run.model.encode(batch)
        return self._objectives(run, batch, z, run.model.fuse(z))

    def _objectives(
        self, run: Run, batch: Batch, z: Mapping[str, Tensor], u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return `CE(u, y)` and A."""
        if self.align == "infonce":
            views = run.modules["projections"](z)
            pairs = [contrast(a, b, self.temperature) for a, b in combinations(views.values(), 2)]
        else:
            views = unimodal_logits(run.model, z, "aux")
            reverse = self.align == "reverse-js"
            pairs = [divergence(a, b, reverse=reverse) for a, b in combinations(views.values(), 2)]
        return F.cross_entropy(u, batch.target), torch.stack(pairs).mean()


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return `KL(p || q)`, mean over the batch."""
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()
