"""Prototypical Modal Rebalance: class centroids as unimodal classifiers that need no head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.methods.core.method import joint_loss
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.positions import stratified
from equipoise.methods.shared.windows import Windowed
from equipoise.models.unimodal_logits import prototype_logits
from equipoise.scopes import evaluating


@dataclass
class PMR(Windowed):
    """Pull slow modalities toward their class centroids, and at first keep fast ones uncertain.

    `c^m_k` is the mean feature of class k over a part of the training set (evaluation mode), updated every
    epoch: `c <- ema * c_old + (1 - ema) * c_new`. With `pi^m = softmax_k(-|z^m - c^m_k|)` and
    `s^m = sum_i pi^m_i[y_i]`

    `L = CE(u, y) + alpha * sum_m beta^m PCE^m - mu * sum_m gamma^m H(pi^m)`,

    `beta^m = clip(max s / s^m - 1, 0, 1)`, `gamma^m = clip(s^m / min s - 1, 0, 1)`,
    `PCE^m = mean_i -log pi^m_i[y_i]`, H the mean entropy, used in the first epochs only. For M = 2 these
    weights are the paper's; for more, which the paper does not define, each modality is compared with the
    fastest and the slowest one.

    Attributes:
        alpha: weight of the prototypical cross-entropy (paper: 1 or 2).
        mu: weight of the entropy (paper: 0.01 or 0.001).
        ema: share of the old prototypes in the update.
        subset: share of each class's training samples that prototypes are computed from, drawn every epoch.
        per_epochs: number of epochs, from the start of the window, in which entropy is rewarded.
        weights: `paper`, or `hard`: 1 in place of `beta^m` for every modality but the fastest.
    """

    alpha: float = number(1.0)
    mu: float = number(0.01)
    ema: float = number(0.2, high=1.0)
    subset: float = number(0.1, high=1.0, above=0)
    per_epochs: int = number(5)
    weights: str = choice("paper", "hard")

    name = "pmr"
    family = "objective"
    summary = "pull slow modalities toward their class centroids"
    stacks = True
    source = "Fan et al., CVPR 2023, arXiv 2211.07089"
    bibtex = ("fan2023pmr",)
    cost = "a forward pass over a tenth of the training set per epoch"
    search_space = space(alpha=LogUniform(0.1, 10), mu=LogUniform(0.001, 0.1))
    requires = Requirements(min_modalities=2)
    remembered = ("_prototypes",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._prototypes: dict[str, Tensor] = {}
        self._classes = torch.empty(0)

    def acts(self, run: Run) -> bool:
        """Whether the method acts in this epoch."""
        return self.in_window(run) and (self.alpha > 0 or self.mu > 0)

    def epoch_start(self, run: Run) -> None:
        """Update the prototypes."""
        super().epoch_start(run)
        if not self.acts(run):
            return
        self._classes = torch.unique(run.train_target).to(run.device)
        drawn = stratified(run.train_target, self.subset, run.generator, leave=0)
        new = class_means(run, drawn.nonzero()[:, 0])
        old = {m: c.to(new[m]) for m, c in self._prototypes.items()} or new
        self._prototypes = {m: self.ema * old[m] + (1 - self.ema) * c for m, c in new.items()}

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term, the prototypical one, and in the first epochs the entropy."""
        run, terms = context.run, {"joint": joint_loss(context)}
        if not self.acts(run):
            return terms
        column = torch.searchsorted(self._classes, context.batch.target)
        logits = {
            m: prototype_logits(z, self._prototypes[m].to(z.device)) for m, z in context.features.items()
        }
        log_pi = torch.stack([u.log_softmax(1) for u in logits.values()])  # [M, B, K]
        beta, gamma = balance_weights(log_pi, column)
        if self.weights == "hard":
            beta = (beta > 0).to(beta)
        if self.alpha:
            pce = torch.stack([F.nll_loss(log_p, column) for log_p in log_pi])
            terms["prototypes"] = self.alpha * (beta * pce).sum()
        if self.mu and run.epoch - self.start_epoch < self.per_epochs:
            entropy = -(log_pi.exp() * log_pi).sum(2).mean(1)
            terms["entropy"] = -self.mu * (gamma * entropy).sum()
        return terms


def balance_weights(log_pi: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Return `beta [M]` of the prototypical loss and `gamma [M]` of the entropy, without gradient.

    `log_pi` are log-probabilities `[M, B, K]`, `column` is that of the true class `[B]`.
    """
    true = log_pi.detach().exp().gather(2, column.expand(len(log_pi), -1)[:, :, None])
    scores = true.sum((1, 2)).clamp(min=1e-8)
    return (scores.max() / scores - 1).clamp(0, 1), (scores / scores.min() - 1).clamp(0, 1)


def class_means(run: Run, positions: Tensor) -> dict[str, Tensor]:
    """Return the mean feature `[K, d_m]` of each class among training samples, in evaluation mode.

    Rows are by ascending class; sums are in float32 or wider.
    """
    features: dict[str, list[Tensor]] = {m: [] for m in run.model.modalities}
    targets = []
    with torch.no_grad(), evaluating(run.model):
        for chunk in torch.split(positions, run.batch_size):
            batch = run.take(chunk.tolist()).to(run.device)
            with run.autocast():
                z = run.model.encode(batch)
            targets.append(batch.target)
            for m, feature in z.items():
                features[m].append(feature)
    target = torch.cat(targets)
    belongs = torch.unique(target)[:, None] == target
    return {m: _mean_rows(torch.cat(parts), belongs) for m, parts in features.items()}


def _mean_rows(z: Tensor, belongs: Tensor) -> Tensor:
    share = belongs.to(torch.promote_types(z.dtype, torch.float32))
    return (share @ z.to(share)) / share.sum(1, keepdim=True)
