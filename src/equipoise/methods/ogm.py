"""On-the-fly gradient modulation, without and with generalisation enhancement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.methods.base import Method, Plan, Requirements, Run, StepContext
from equipoise.types import UnknownNameError, UsageError

TENSORS = ("conv-only", "matrices", "all")
APPLY = ("grad", "update")
LOGITS = ("slice", "zero-feature", "zero-input")


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
class OGM(Method):
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
    start_epoch: int = 0
    end_epoch: int | None = None
    tensors: str = "matrices"
    apply: str = "grad"
    logits: str = "slice"

    name = "ogm"
    family = "optimisation"
    summary = "scale down the gradient of the leading modality's encoder"
    source = "Peng et al., CVPR 2022, arXiv 2203.15332"
    cost = "one head slice a modality a step"
    requires = Requirements(frozenset({"additive_head"}), min_modalities=2)
    noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise UsageError(f"alpha is {self.alpha}; expected a finite number of at least 0.")
        choices = (
            ("tensors", self.tensors, TENSORS),
            ("apply", self.apply, APPLY),
            ("logits", self.logits, LOGITS),
        )
        for option, value, known in choices:
            if value not in known:
                raise UnknownNameError(f"value of {option}", value, known)

    def problems(self, plan: Plan) -> list[str]:
        """Say that adaptive optimisers undo a scaled gradient."""
        if self.apply == "update" or plan.optimizer == "sgd":
            return []
        return [
            f"{self.name} scales gradients, which {plan.optimizer} undoes by its own scaling: choose "
            "apply=update, or the optimizer sgd."
        ]

    def setup(self, run: Run) -> None:
        """Check that the modulation reaches something."""
        self._rates: dict[int, float] = {}
        for name in run.model.modalities:
            if not any(self._scaled(p) for _, p in run.model.encoder_parameters(name)):
                raise UsageError(
                    f"tensors={self.tensors!r} picks nothing from the encoder of {name!r}; "
                    "choose tensors='matrices' or 'all'."
                )
            if self.apply == "update" and not self._has_groups(run, name):
                raise UsageError(
                    f"apply='update' needs groups of the optimiser that hold the encoder of {name!r} and "
                    "nothing else; give the optimiser a group for each encoder, or choose apply='grad'."
                )

    def after_backward(self, context: StepContext) -> None:
        """Scale the encoders' gradients (and add the noise of GE)."""
        run = context.run
        if not self._active(run):
            return
        target = context.batch.target[:, None]
        logits = context.unimodal_logits(self.logits, detached=True)
        scores = {name: float(u.float().softmax(1).gather(1, target).sum()) for name, u in logits.items()}
        for name, k in modulation_coefficients(scores, self.alpha).items():
            if self.apply == "update" and k != 1:
                self._slow_step(run, name, k)
            for _, parameter in run.model.encoder_parameters(name):
                if parameter.grad is not None and self._scaled(parameter):
                    self._modulate(parameter.grad, k if self.apply == "grad" else 1.0, run.generator)

    def after_step(self, context: StepContext) -> None:
        """Put back the learning rates that were lowered for the step."""
        for index, rate in self._rates.items():
            context.run.optimizer.param_groups[index]["lr"] = rate
        self._rates = {}

    def _modulate(self, gradient: Tensor, k: float, generator: torch.Generator) -> None:
        if not self.noise:
            if k != 1:
                gradient.mul_(k)
            return
        deviation = gradient.std(unbiased=False) + 1e-8
        noise = torch.randn(gradient.shape, generator=generator, dtype=torch.float32)
        gradient.mul_(k).add_(noise.to(gradient) * deviation)

    def _slow_step(self, run: Run, name: str, k: float) -> None:
        own = {id(parameter) for _, parameter in run.model.encoder_parameters(name)}
        for index, group in enumerate(run.optimizer.param_groups):
            if {id(parameter) for parameter in group["params"]} <= own:
                self._rates[index] = group["lr"]
                group["lr"] = group["lr"] * k

    def _has_groups(self, run: Run, name: str) -> bool:
        own = {id(parameter) for _, parameter in run.model.encoder_parameters(name)}
        groups = [{id(parameter) for parameter in group["params"]} for group in run.optimizer.param_groups]
        return all(group <= own for group in groups if group & own)

    def _active(self, run: Run) -> bool:
        last = run.total_epochs // 2 if self.end_epoch is None else self.end_epoch
        return self.start_epoch <= run.epoch <= last

    def _scaled(self, parameter: Tensor) -> bool:
        least = {"conv-only": 4, "matrices": 2, "all": 0}[self.tensors]
        return parameter.ndim >= least


@dataclass
class OGMGE(OGM):
    """OGM with generalisation enhancement: Gaussian noise of each gradient's own spread.

    `grad <- k^m * grad + eps`, `eps ~ N(0, std(grad) + 1e-8)` elementwise, `std` taken per tensor over the
    unscaled gradient, for all modalities.
    """

    name = "ogm-ge"
    summary = "OGM, with Gaussian noise on the encoders' gradients"
    cost = "one head slice a modality and one normal draw a parameter a step"
    noise = True
