"""The optimiser of a run holds each parameter once, whatever shares it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise.models import ConcatFusion, MultimodalModel
from equipoise.training.optimizers import build_optimizer
from equipoise.training.settings import Budget
from equipoise.types import TrainingError


def model_with_a_shared_layer() -> MultimodalModel:
    shared = nn.Linear(4, 4)
    encoders = {m: nn.Sequential(nn.Linear(width, 4), shared) for m, width in (("audio", 3), ("video", 5))}
    return MultimodalModel(encoders, ConcatFusion({"audio": 4, "video": 4}, 2))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_each_parameter_is_in_one_group(optimizer: str) -> None:
    model, extra = model_with_a_shared_layer(), nn.ModuleDict({"head": nn.Linear(4, 2)})
    extra["head"].bias.requires_grad_(False)
    built = build_optimizer(model, extra, Budget(optimizer=optimizer, lr=0.1))
    names = {id(p): name for name, p in (*model.named_parameters(), *extra.named_parameters())}
    groups = {group["name"]: {names[id(p)] for p in group["params"]} for group in built.param_groups}
    assert list(groups) == ["audio", "video", "fusion", "extra"]
    assert sum(map(len, groups.values())) == len(set().union(*groups.values()))
    assert set().union(*groups.values()) == {*dict(model.named_parameters()), "head.weight"}
    shared = {name for name, p in model.named_parameters() if p.shape == (4, 4)}
    assert shared <= groups["fusion"]
    assert {name.split(".")[-1] for name in groups["audio"]} == {"weight", "bias"}


def test_every_parameter_moves() -> None:
    model = model_with_a_shared_layer()
    optimizer = build_optimizer(model, nn.ModuleDict(), Budget(optimizer="sgd", lr=0.1))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_a_model_without_trainable_parameters_is_refused() -> None:
    model = model_with_a_shared_layer().requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter that requires a gradient"):
        build_optimizer(model, nn.ModuleDict(), Budget(optimizer="sgd", lr=0.1))
