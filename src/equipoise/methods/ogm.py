"""On-the-fly gradient modulation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from equipoise.methods.core.requirements import Requirements
from equipoise.methods.core.run import Run
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.modulation import Modulates
from equipoise.methods.shared.option_checks import check_number
from equipoise.methods.shared.unimodal_views import ReadsUnimodal, true_class_scores
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
    """Slow down the encoder that predicts the label better at present.

    With `s^m = sum_i softmax(u^m_i)[y_i]` and `rho^m = s^m / s^other`, the gradient of encoder m is
    multiplied by `k^m = 1 - tanh(alpha * rho^m)` where `rho^m > 1`, and left alone elsewhere. The
    loss is `CE(u, y)`.

    Attributes:
        alpha: strength of the modulation (official: 0.8 on CREMA-D, 0.1 on VGGSound).
        start_epoch: first epoch (0-based) with modulation.
        end_epoch: last epoch with modulation; None takes the first half of training (official: 0 to 50 of
            100).
        tensors: what is scaled: `matrices` (two dimensions or more), `conv-only` (four dimensions, as in the
            official code, where the encoders are ResNets), or `all`.
        apply: `grad` scales gradients (the paper); `update` scales the step itself (the noise of GE
            with it), through the learning rate, for optimisers such as Adam that undo a scaled gradient.
        logits: source of the unimodal logits.
    """

    alpha: float = 0.8
    tensors: str = "matrices"

    name = "ogm"
    family = "optimisation"
    summary = "scale down the gradient of the leading modality's encoder"
    source = "Peng et al., CVPR 2022, arXiv 2203.15332"
    cost = "one head slice a modality a step"
    requires = Requirements(min_modalities=2)
    noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha)

    def after_backward(self, context: StepContext) -> None:
        """Scale the encoders' gradients (and add the noise of GE)."""
        run = context.run
        if not self.in_window(run):
            return
        probabilities = true_class_scores(self.unimodal(context, detached=True), context.batch.target)
        scores = {name: float(p.sum()) for name, p in probabilities.items()}
        noises = self._draw_noise(run, scores) if self.noise else []
        self.modulate(context, modulation_coefficients(scores, self.alpha))
        for gradient, noise in noises:
            gradient.add_(noise)

    def _draw_noise(self, run: Run, scores: Mapping[str, float]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each encoder gradient with noise of the spread that it has before it is scaled."""
        drawn = []
        # In the order of the scores, so that draws do not depend on that of the modalities.
        for name in sorted(scores, key=lambda name: -scores[name]):
            for _, parameter in run.model.encoder_parameters(name):
                gradient = parameter.grad
                if gradient is not None and self.scales(parameter):
                    deviation = gradient.std(unbiased=False) + 1e-8
                    normal = torch.randn(gradient.shape, generator=run.generator, dtype=torch.float32)
                    drawn.append((gradient, normal.to(gradient) * deviation))
        return drawn

    def last_epoch(self, epochs: int) -> int:
        """Return the last epoch with modulation: by default that at half of training."""
        return epochs // 2 if self.end_epoch is None else self.end_epoch
