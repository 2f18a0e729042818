"""The optimiser of a run: one parameter group for each encoder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from equipoise.models import BalancedModel
from equipoise.training.settings import Budget
from equipoise.types import TrainingError

FUSION, EXTRA = "fusion", "extra"


def build_optimizer(model: BalancedModel, modules: nn.ModuleDict, budget: Budget) -> Optimizer:
    """Build the optimiser: groups for each encoder, the fusion, and the method's modules.

    Each group has its `name`, and a `factor` of 1 by which the planned learning rate is multiplied.

    Raises:
        TrainingError: nothing requires a gradient.
    """
    groups = {name: [p for _, p in model.encoder_parameters(name)] for name in model.modalities}
    rest = [p for _, p in (*model.fusion_parameters(), *model.shared_parameters())]
    named = [*groups.items(), (FUSION, rest), (EXTRA, list(modules.parameters()))]
    wanted: list[dict[str, Any]] = [
        {"params": [p for p in group if p.requires_grad], "name": name, "factor": 1.0}
        for name, group in named
    ]
    parameters = [group for group in wanted if group["params"]]
    if not parameters:
        raise TrainingError("the model has no parameter that requires a gradient; nothing can be trained.")
    assert budget.lr is not None  # set by Budget
    return optimizer_of(parameters, budget, budget.lr)


def optimizer_of(parameters: Iterable[Any], budget: Budget, lr: float) -> Optimizer:
    """Build an optimiser of the configured kind over parameters or groups of them."""
    if budget.optimizer == "adamw":
        return AdamW(parameters, lr=lr, weight_decay=budget.weight_decay)
    return SGD(parameters, lr=lr, momentum=budget.momentum, weight_decay=budget.weight_decay)
