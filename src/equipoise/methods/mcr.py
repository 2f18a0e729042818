"""Multimodal Competition Regularizer: each encoder is rewarded for its influence on the prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Plan, StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.contrastive import labelled_nt_xent, supervised_contrastive
from equipoise.methods.shared.unimodal_views import ReadsUnimodal
from equipoise.models import BalancedModel, OwnHeads
from equipoise.models.precision import widened
from equipoise.scopes import evaluating


@dataclass
class MCR(ReadsUnimodal):
    """A game between the encoders over how much the prediction depends on each modality.

    `D^m = mean JSD(softmax(g(z)), softmax(g(z^{-m}, z^m[sigma])))` over n permutations sigma of the batch
    measures how much the prediction changes with the feature of m from another sample; `L^m_P = -D^m`.

    `L = CE(u, y) + lam_uni sum_m CE(u^m, y) + lam sum_m L^m_P + lam_con L_con + lam_ceb L_ceb`. Of the third
    term encoder m receives the gradient of `L^m_P + kappa * sum_{n != m} L^n_P`, and the fusion that of the
    sum. `L_con` is NT-Xent with labels over normalised features of all modalities;
    `L_ceb = mean_i |[z^1 .. z^M] - h_rec(u)|^2` with a constant u.

    Attributes:
        kappa: -1 is greedy (it reduces dependence on the others), 0 independent, 1 collaborative.
        lam: weight of the permutation terms; large values make training diverge.
        n: permutations a step.
        permutation: `any`; `derangement` (no sample keeps its place); `other-label` (for each sample one of
            another class, drawn with replacement).
        lam_uni: weight of the unimodal losses.
        lam_con: weight of the contrastive loss.
        contrast: `nt-xent` compares each pair of a class with the features of other classes; `supcon`, the
            supervised contrastive loss, with all others, also those of the class.
        temperature: of the contrastive loss.
        lam_ceb: weight of the reconstruction of the features from the logits.
    """

    logits: str = choice("aux", "slice", "zero-feature")
    kappa: float = number(-1.0, low=-1.0, high=1.0)
    lam: float = number(0.1)
    n: int = number(32, low=1)
    permutation: str = choice("any", "derangement", "other-label")
    lam_uni: float = number(1.0)
    lam_con: float = number(0.1)
    contrast: str = choice("nt-xent", "supcon")
    temperature: float = number(0.5, low=1e-3)
    lam_ceb: float = number(0.0)

    name = "mcr"
    family = "objective"
    summary = "reward each encoder for how much permuting its feature changes the prediction"
    stacks = True
    source = "Kontras et al., NeurIPS 2025, arXiv 2411.07335"
    bibtex = ("kontras2025balancing",)
    cost = "M * (n + 1) passes through the head per step"
    search_space = space(lam=LogUniform(0.01, 1), lam_uni=LogUniform(0.1, 10), lam_con=LogUniform(0.01, 1))
    requires = Requirements(min_modalities=2)

    def extra_modules(self, model: BalancedModel, plan: Plan) -> dict[str, nn.Module]:
        """Return the heads, projections to a common width, and decoder that are needed."""
        modules = super().extra_modules(model, plan) if self.lam_uni else {}
        if self.lam_con:
            widths = model.feature_widths()
            if len(set(widths.values())) > 1:
                modules["projections"] = OwnHeads(widths, min(widths.values()))
        if self.lam_ceb:
            width = sum(model.feature_widths().values())
            layers = (nn.Linear(model.num_outputs, width), nn.ReLU(), nn.Linear(width, width))
            modules["decoder"] = nn.Sequential(*layers)
        return modules

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and all others whose weight is not zero."""
        run, z, target = context.run, context.z, context.batch.target
        terms = {"joint": joint_loss(context)}
        if self.lam_uni:
            terms["unimodal"] = self.lam_uni * self.unimodal_loss(context)
        if self.lam:
            sigma = draw_permutations(self.permutation, target.cpu(), self.n, run.generator).to(run.device)
            dependence = [divergence(run.model, routed(z, m, self.kappa), m, sigma) for m in z]
            terms["permutation"] = -self.lam * torch.stack(dependence).sum()
        if self.lam_con:
            modules = run.modules
            aligned = modules["projections"](z) if "projections" in modules else z
            contrastive = labelled_nt_xent if self.contrast == "nt-xent" else supervised_contrastive
            loss = contrastive(list(aligned.values()), target, self.temperature)
            terms["contrastive"] = self.lam_con * loss
        if self.lam_ceb:
            missed = torch.cat(list(z.values()), dim=1) - run.modules["decoder"](context.u.detach())
            terms["reconstruction"] = self.lam_ceb * missed.square().sum(1).mean()
        return terms


def routed(z: Mapping[str, Tensor], modality: str, kappa: float) -> dict[str, Tensor]:
    """Return the same features, with the gradients of all but one modality multiplied by `kappa`."""
    return {
        m: feature if m == modality else feature.detach() + kappa * (feature - feature.detach())
        for m, feature in z.items()
    }


def divergence(model: BalancedModel, z: Mapping[str, Tensor], modality: str, sigma: Tensor) -> Tensor:
    """Return `D^m`, from 0 to ln 2, by one batched call of the fusion in evaluation mode.

    `z` are the features `[B, d_m]`, `sigma [n, B]` the sample whose feature is used, for each permutation.
    """
    n, size = sigma.shape
    rows = torch.cat([torch.arange(size, device=sigma.device), sigma.reshape(-1)])
    features = {m: x[rows] if m == modality else x.repeat(n + 1, 1) for m, x in z.items()}
    with evaluating(model):
        u = model.fuse(features).view(n + 1, size, -1)
    log_p = widened(u).log_softmax(2)
    return jensen_shannon(log_p[:1], log_p[1:]).mean()


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of log-probabilities over the last dimension."""
    log_mixture = torch.logaddexp(log_p, log_q) - math.log(2)
    p_part, q_part = log_p.exp() * (log_p - log_mixture), log_q.exp() * (log_q - log_mixture)
    return (p_part + q_part).sum(-1) / 2


def draw_permutations(kind: str, target: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw `n` permutations of a batch of target `[B]`, `[n, B]`; all on the CPU.

    For `kind` see `MCR`. Derangements are random cycles through the whole batch, so that every other sample
    is equally likely. With `other-label` the draws are independent, as such a permutation need not exist; if
    all samples are of one class, any sample is drawn.
    """
    size = len(target)
    if kind == "other-label":
        other = (target[:, None] != target).float()
        allowed = torch.where(other.any(1, keepdim=True), other, torch.ones_like(other))
        return torch.multinomial(allowed, n, replacement=True, generator=generator).T
    order = torch.rand(n, size, generator=generator).argsort(1)
    if kind == "any":
        return order
    return torch.empty_like(order).scatter_(1, order, order.roll(1, 1))
