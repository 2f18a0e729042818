"""Methods that scale the encoders' gradients, or the optimiser's steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD

from equipoise.methods.core.method import Method
from equipoise.methods.core.options import choice
from equipoise.methods.core.run import Plan, StepContext
from equipoise.methods.shared.gradients import trainable
from equipoise.models import BalancedModel
from equipoise.types import UsageError


@dataclass
class Modulates(Method):
    """A method that scales the gradient of encoder m by a coefficient `k^m`.

    With `apply="grad"` weight decay is not scaled, as the optimiser adds it in its step.

    Attributes:
        tensors: what is scaled: `all`, `matrices` (two dimensions or more) or `conv-only` (four).
        apply: `grad` scales gradients; `update` scales the optimiser's step, as optimisers such as Adam undo
            a scaled gradient; `auto` takes `grad` with SGD and `update` with any other.
    """

    tensors: str = choice("all", "matrices", "conv-only")
    apply: str = choice("auto", "grad", "update")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._before: list[tuple[nn.Parameter, Tensor, float]] = []
        self.coefficients: dict[str, float] = {}

    def problems(self, plan: Plan) -> list[str]:
        """Warn that adaptive optimisers undo a scaled gradient, if that is what is to be scaled."""
        found = super().problems(plan)
        if self.acts_on_encoders() and self.apply == "grad" and plan.optimizer != "sgd":
            found.append(
                f"{self.name} scales gradients, which {plan.optimizer} undoes by its own scaling: choose "
                "apply=update, or the optimizer sgd."
            )
        return found

    def conflicts(self, other: Method) -> str:
        """Refuse a second method that scales the same gradients."""
        if isinstance(other, Modulates):
            return "both scale the encoders' gradients, and each expects unscaled ones"
        return super().conflicts(other)

    def acts_on_encoders(self) -> bool:
        """Whether gradients of encoders are scaled with the present options."""
        return True

    def check(self, model: BalancedModel) -> None:
        """Refuse a model without parameters to scale."""
        super().check(model)
        if not self.acts_on_encoders():
            return
        for name in model.modalities:
            if not model.encoder_parameters(name) and any(model.encoder_module(name).named_parameters()):
                raise UsageError(
                    f"the encoder of {name!r} shares all its parameters with others, so {self.name!r} cannot "
                    "scale its gradient alone; choose another method, or separate encoders."
                )
            own = trainable(model.encoder_parameters(name))
            if own and not any(self.scales(parameter) for parameter in own):
                raise UsageError(
                    f"tensors={self.tensors!r} selects nothing from the encoder of {name!r}; "
                    "choose tensors='matrices' or 'all'."
                )

    def modulate(self, context: StepContext, coefficients: Mapping[str, float]) -> None:
        """Scale each encoder's gradient, or its next step, by its coefficient, and keep the coefficients."""
        self.coefficients, self._before = dict(coefficients), []  # a step before may have been skipped
        steps = self.apply == "update" or (self.apply == "auto" and not is_sgd(context.run.optimizer))
        for name, k in coefficients.items():
            if k == 1:
                continue
            for parameter in trainable(context.run.model.encoder_parameters(name)):
                if not self.scales(parameter):
                    continue
                if steps:
                    self._before.append((parameter, parameter.detach().clone(), k))
                elif parameter.grad is not None:
                    parameter.grad.mul_(k)

    @torch.no_grad()
    def after_step(self, context: StepContext) -> None:
        """Scale the step that the optimiser has made."""
        super().after_step(context)
        for parameter, before, k in self._before:
            parameter.copy_(before + k * (parameter - before))
        self._before = []

    def scales(self, parameter: nn.Parameter) -> bool:
        """Whether a parameter is among those that are scaled."""
        least = {"conv-only": 4, "matrices": 2, "all": 0}[self.tensors]
        return parameter.ndim >= least


def is_sgd(optimizer: object) -> bool:
    """Return whether an optimiser, or all of several, scale no gradient themselves."""
    return all(isinstance(one, SGD) for one in getattr(optimizer, "optimizers", [optimizer]))
