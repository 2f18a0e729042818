"""Methods that multiply the encoders' gradients, or the steps that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from equipoise.methods.core.method import Method
from equipoise.methods.core.run import Plan
from equipoise.methods.core.step import StepContext
from equipoise.methods.shared.gradients import trainable
from equipoise.methods.shared.option_checks import check_choice
from equipoise.types import UsageError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel

TENSORS = ("conv-only", "matrices", "all")
APPLY = ("grad", "update")


@dataclass
class Modulates(Method):
    """A method that scales the gradient of encoder m by a coefficient `k^m`.

    Weight decay is not scaled with `apply="grad"`, as the optimiser adds it in its step.

    Attributes:
        tensors: what is scaled: `all`, `matrices` (two dimensions or more) or `conv-only` (four).
        apply: `grad` scales gradients; `update` scales the change that the optimiser's step makes, for
            optimisers such as Adam that undo a scaled gradient.
    """

    tensors: str = "all"
    apply: str = "grad"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("tensors", self.tensors, TENSORS)
        check_choice("apply", self.apply, APPLY)
        self._before: list[tuple[nn.Parameter, Tensor, float]] = []
        self.coefficients: dict[str, float] = {}

    def problems(self, plan: Plan) -> list[str]:
        """Say that adaptive optimisers undo a scaled gradient."""
        if not self.acts_on_encoders() or self.apply == "update" or plan.optimizer == "sgd":
            return super().problems(plan)
        return [
            *super().problems(plan),
            f"{self.name} scales gradients, which {plan.optimizer} undoes by its own scaling: choose "
            "apply=update, or the optimizer sgd.",
        ]

    def conflicts(self, other: Method) -> str:
        """Two methods cannot both scale the same gradients."""
        if isinstance(other, Modulates):
            return "both scale the encoders' gradients, and each takes them for unscaled"
        return super().conflicts(other)

    def acts_on_encoders(self) -> bool:
        """Tell whether, with the options as they are, gradients of encoders are scaled."""
        return True

    def check(self, model: BalancedModel) -> None:
        """Refuse a model in which the modulation reaches nothing."""
        super().check(model)
        if not self.acts_on_encoders():
            return
        for name in model.modalities:
            if not model.encoder_parameters(name) and any(
                True for _ in model.encoder_module(name).parameters()
            ):
                raise UsageError(
                    f"the encoder of {name!r} shares all its parameters with others, so {self.name!r} cannot "
                    "scale its gradient by itself; choose another method, or encoders of their own."
                )
            own = trainable(model.encoder_parameters(name))
            if own and not any(self.scales(parameter) for parameter in own):
                raise UsageError(
                    f"tensors={self.tensors!r} picks nothing from the encoder of {name!r}; "
                    "choose tensors='matrices' or 'all'."
                )

    def modulate(self, context: StepContext, coefficients: Mapping[str, float]) -> None:
        """Scale each encoder's gradient, or its coming step, by its coefficient, and note them."""
        self.coefficients = dict(coefficients)
        for name, k in coefficients.items():
            if k == 1:
                continue
            for parameter in trainable(context.run.model.encoder_parameters(name)):
                if not self.scales(parameter):
                    continue
                if self.apply == "update":
                    self._before.append((parameter, parameter.detach().clone(), k))
                elif parameter.grad is not None:
                    parameter.grad.mul_(k)

    @torch.no_grad()
    def after_step(self, context: StepContext) -> None:
        """Take back the part of the step that is too much, or add what is missing."""
        super().after_step(context)
        for parameter, before, k in self._before:
            parameter.copy_(before + k * (parameter - before))
        self._before = []

    def scales(self, parameter: nn.Parameter) -> bool:
        """Tell whether a parameter is among those that are scaled."""
        least = {"conv-only": 4, "matrices": 2, "all": 0}[self.tensors]
        return parameter.ndim >= least
