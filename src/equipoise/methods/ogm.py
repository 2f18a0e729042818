"""On-the-fly gradient modulation, with and without generalisation enhancement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.core.options import choice, number
from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.core.search import Uniform, space
from equipoise.methods.shared.modulation import Modulates
from equipoise.methods.shared.unimodal_views import ReadsUnimodal
from equipoise.methods.shared.windows import Windowed


def modulation_coefficients(scores: Mapping[str, float], alpha: float) -> dict[str, float]:
    """Return `k^m = 1 - tanh(alpha * rho^m)` where `rho^m > 1`, else 1.

    `rho^m` is the score of m over the score of the other modality; with more than two modalities the mean of
    its ratios to each of the others.
    """
    ratios = {
        name: sum(score / max(other, 1e-8) for rival, other in scores.items() if rival != name)
        / (len(scores) - 1)
        for name, score in scores.items()
    }
    return {name: 1 - math.tanh(alpha * rho) if rho > 1 else 1.0 for name, rho in ratios.items()}


@dataclass
class OGM(Modulates, ReadsUnimodal, Windowed):
    """Slow down the encoder that presently predicts the label better.

    With `s^m = sum_i softmax(u^m_i)[y_i]` and `rho^m = s^m / s^other`, the gradient of encoder m is
    multiplied by `k^m = 1 - tanh(alpha * rho^m)` where `rho^m > 1`; others are not scaled. The loss is
    `CE(u, y)`.

    Attributes:
        alpha: strength of the modulation (official: 0.8 on CREMA-D, 0.1 on VGGSound).
        start_epoch: first epoch (0-based) with modulation.
        end_epoch: last epoch with modulation; None takes the first half of training (official: 0 to 50 of
            100).
        tensors: what is scaled: `matrices` (two dimensions or more), `conv-only` (four dimensions, as in the
            official code, where the encoders are ResNets), or `all`.
        apply: `grad` scales gradients (the paper); `update` scales the optimiser's step, including the noise
            of GE, as optimisers such as Adam undo a scaled gradient; `auto` takes `grad` with SGD and
            `update` with any other.
    """

    alpha: float = number(0.8)
    tensors: str = choice("matrices", "conv-only", "all")

    name = "ogm"
    family = "optimisation"
    summary = "scale down the gradient of the leading modality's encoder"
    stacks = True
    source = "Peng et al., CVPR 2022, arXiv 2203.15332"
    bibtex = ("peng2022balanced",)
    cost = "one head slice per modality per step"
    search_space = space(alpha=Uniform(0.1, 1))
    requires = Requirements(min_modalities=2)
    noise: ClassVar[bool] = False

    def after_backward(self, context: StepContext) -> None:
        """Scale the encoders' gradients (and add the noise of GE)."""
        run = context.run
        if not self.in_window(run):
            return
        scores = self.scores(context)
        noises = self._draw_noise(run, scores) if self.noise else []
        self.modulate(context, modulation_coefficients(scores, self.alpha))
        for gradient, noise in noises:
            gradient.add_(noise)

    def _draw_noise(self, run: Run, scores: Mapping[str, float]) -> list[tuple[Tensor, Tensor]]:
        """Return each encoder gradient with noise of its standard deviation before scaling."""
        drawn = []
        # In the order of the scores, so that draws do not depend on the order of the modalities.
        for name in sorted(scores, key=lambda name: -scores[name]):
            for _, parameter in run.model.encoder_parameters(name):
                gradient = parameter.grad
                if gradient is not None and self.scales(parameter):
                    deviation = gradient.std(unbiased=False) + 1e-8
                    normal = torch.randn(gradient.shape, generator=run.generator, dtype=torch.float32)
                    drawn.append((gradient, normal.to(gradient) * deviation))
        return drawn

    def last_epoch(self, epochs: int) -> int:
        """Return the last epoch with modulation, by default half of training."""
        return epochs // 2 if self.end_epoch is None else self.end_epoch


@dataclass
class OGMGE(OGM):
    """OGM with generalisation enhancement: Gaussian noise with the standard deviation of each gradient.

    `grad <- k^m * grad + eps`, `eps ~ N(0, std(grad) + 1e-8)` elementwise, `std` taken per tensor over the
    unscaled gradient, for all modalities.
    """

    name = "ogm-ge"
    summary = "OGM, with Gaussian noise on the encoders' gradients"
    stacks = True
    cost = "one head slice per modality and one normal draw per parameter per step"
    noise = True
