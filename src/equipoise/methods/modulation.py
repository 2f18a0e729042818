"""Methods that multiply the encoders' gradients, or the steps that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from equipoise.methods.base import Method
from equipoise.methods.context import StepContext
from equipoise.methods.option_checks import check_choice
from equipoise.methods.run import Plan, Run
from equipoise.types import UsageError

TENSORS = ("conv-only", "matrices", "all")
APPLY = ("grad", "update")


@dataclass
class Modulates(Method):
    """A method that scales the gradient of encoder m by a coefficient `k^m`.

    Weight decay is not scaled with `apply="grad"`, as the optimiser adds it in its step.

    Attributes:
        tensors: what is scaled: `all`, `matrices` (two dimensions or more) or `conv-only` (four).
        apply: `grad` scales gradients; `update` scales the step itself, through the learning rate, for
            optimisers such as Adam that undo a scaled gradient.
    """

    tensors: str = "all"
    apply: str = "grad"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("tensors", self.tensors, TENSORS)
        check_choice("apply", self.apply, APPLY)

    def problems(self, plan: Plan) -> list[str]:
        """Say that adaptive optimisers undo a scaled gradient."""
        if self.apply == "update" or plan.optimizer == "sgd":
            return super().problems(plan)
        return [
            *super().problems(plan),
            f"{self.name} scales gradients, which {plan.optimizer} undoes by its own scaling: choose "
            "apply=update, or the optimizer sgd.",
        ]

    def setup(self, run: Run) -> None:
        """Check that the modulation reaches something."""
        super().setup(run)
        self._rates: dict[int, float] = {}
        for name in run.model.modalities:
            if not any(self.scales(p) for _, p in run.model.encoder_parameters(name)):
                raise UsageError(
                    f"tensors={self.tensors!r} picks nothing from the encoder of {name!r}; "
                    "choose tensors='matrices' or 'all'."
                )
            if self.apply == "update" and not _groups_of(run, name):
                raise UsageError(
                    f"apply='update' needs groups of the optimiser that hold the encoder of {name!r} and "
                    "nothing else; give the optimiser a group for each encoder, or choose apply='grad'."
                )

    def modulate(self, context: StepContext, coefficients: Mapping[str, float]) -> None:
        """Scale each encoder's gradient, or its coming step, by its coefficient."""
        run = context.run
        for name, k in coefficients.items():
            if k == 1:
                continue
            if self.apply == "update":
                for index in _groups_of(run, name):
                    group = run.optimizer.param_groups[index]
                    self._rates.setdefault(index, group["lr"])
                    group["lr"] = group["lr"] * k
                continue
            for _, parameter in run.model.encoder_parameters(name):
                if parameter.grad is not None and self.scales(parameter):
                    parameter.grad.mul_(k)

    def after_step(self, context: StepContext) -> None:
        """Put back the learning rates that were lowered for the step."""
        super().after_step(context)
        for index, rate in self._rates.items():
            context.run.optimizer.param_groups[index]["lr"] = rate
        self._rates = {}

    def scales(self, parameter: nn.Parameter) -> bool:
        """Tell whether a parameter is among those that are scaled."""
        least = {"conv-only": 4, "matrices": 2, "all": 0}[self.tensors]
        return parameter.ndim >= least


def _groups_of(run: Run, name: str) -> list[int]:
    """Return the groups of the optimiser that hold parts of one encoder; none if others are among them."""
    own = {id(parameter) for _, parameter in run.model.encoder_parameters(name)}
    groups = [{id(parameter) for parameter in group["params"]} for group in run.optimizer.param_groups]
    touched = [index for index, group in enumerate(groups) if group & own]
    return touched if all(groups[index] <= own for index in touched) else []
