"""A common descent direction of the joint and the unimodal gradient of each encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equipoise.distributed import averaged
from equipoise.methods.core.method import joint_loss, total
from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import StepContext
from equipoise.methods.core.search import LogUniform, space
from equipoise.methods.shared.gradients import inner_product
from equipoise.methods.shared.unimodal_views import ReadsUnimodal
from equipoise.methods.shared.windows import Windowed
from equipoise.tasks import EVERY_TASK


def pareto_gradient(joint: Sequence[Tensor], unimodal: Sequence[Tensor], norm_scope: str) -> list[Tensor]:
    """Return a common descent direction of two gradients, not shorter than their sum.

    If their inner product is not negative it is their sum. Else it is `h = 2 a G_j + 2 (1 - a) G_m` with the
    `a` that minimises `|a G_j + (1 - a) G_m|`, scaled up to the length `|G_j + G_m|` if it is shorter: each
    `tensor` alone, or the `encoder` as one vector. `G_j` and `G_m` have a tensor for each of its parameters.
    """
    total = [j + u for j, u in zip(joint, unimodal, strict=True)]
    across = inner_product(joint, unimodal)
    if across >= 0:
        return total
    jj, uu = inner_product(joint, joint), inner_product(unimodal, unimodal)
    a = (uu - across) / (jj + uu - 2 * across)
    mixed = [2 * a * j + 2 * (1 - a) * u for j, u in zip(joint, unimodal, strict=True)]
    if norm_scope == "encoder":
        factor = _stretch(mixed, total)
        return [h * factor for h in mixed]
    return [h * _stretch([h], [t]) for h, t in zip(mixed, total, strict=True)]


@dataclass
class MMPareto(ReadsUnimodal, Windowed):
    """Combine the joint and the unimodal gradient of each encoder so that neither loss increases.

    The losses are `CE(u, y) + sum_m CE(u^m, y)`. The gradient of encoder m is `gamma * h`, with `h` of
    `pareto_gradient`; all other parameters get the plain sum.

    Attributes:
        gamma: factor on the encoders' gradients.
        norm_scope: where the length of the sum is restored: for each `tensor` alone, or for the `encoder` as
            a whole, which keeps the direction of `h`.
    """

    gamma: float = number(1.5)
    norm_scope: str = choice("tensor", "encoder")
    logits: str = choice("aux", "slice", "zero-feature")

    name = "mmpareto"
    family = "optimisation"
    summary = "unimodal losses whose gradients never work against the joint one"
    source = "Wei and Hu, ICML 2024, arXiv 2405.17730"
    bibtex = ("wei2024mmpareto",)
    cost = "a linear head per modality and a second backward pass"
    search_space = space(gamma=LogUniform(0.5, 4))
    requires = Requirements(min_modalities=2, tasks=EVERY_TASK)

    def own_gradients(self) -> bool:
        """Whether the gradients of two losses are taken: always."""
        return True

    def losses(self, context: StepContext) -> dict[str, Tensor]:
        """Return the joint term and the unimodal one."""
        if not self.in_window(context.run):
            return {"joint": joint_loss(context)}
        return {"joint": joint_loss(context), "unimodal": self.unimodal_loss(context)}

    def backward(self, terms: Mapping[str, Tensor], context: StepContext) -> Tensor:
        """Set the sum of both gradients in the heads, and their common direction in the encoders.

        One backward pass serves all unimodal losses, as an encoder is reached only by its own.
        """
        run = context.run
        if not self.in_window(run):
            return super().backward(terms, context)
        trained = [p for group in run.optimizer.param_groups for p in group["params"] if p.requires_grad]
        joint = _gradients(terms["joint"], trained)
        unimodal = _gradients(terms["unimodal"], trained)
        for p in {**joint, **unimodal}:
            found = [gradients[p] for gradients in (joint, unimodal) if p in gradients]
            p.grad = torch.stack(found).sum(0)  # a new tensor, as autograd may share one among parameters
        for m in run.model.modalities:
            own = [p for _, p in run.model.encoder_parameters(m) if p in joint or p in unimodal]
            sides = [[found.get(p, torch.zeros_like(p)) for p in own] for found in (joint, unimodal)]
            for p, h in zip(own, pareto_gradient(sides[0], sides[1], self.norm_scope), strict=True):
                p.grad = self.gamma * h
        return total(terms)


def _gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
    """Return the gradients of the parameters that a loss depends on."""
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    gradients = {p: g for p, g in zip(parameters, found, strict=True) if g is not None}
    # Where processes share a batch, the gradient of all samples.
    return dict(zip(gradients, averaged(list(gradients.values())), strict=True))


def _stretch(short: Sequence[Tensor], long: Sequence[Tensor]) -> float:
    """Return the factor that scales the first to the length of the second if it is shorter; 1 for zeros."""
    length = inner_product(short, short)
    return max(1.0, (inner_product(long, long) / length) ** 0.5) if length > 0 else 1.0
