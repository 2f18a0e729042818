"""Which parameters are adapters, determined by the classes of peft and not by names."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from equipoise.relearning import soft_reinitialize
from equipoise.relearning.selection import (
    adapter_parameters,
    refuse_merged,
    select_buffers,
    select_parameters,
)
from equipoise.types import MissingExtraError, ModelError

peft = pytest.importorskip("peft")


class Encoder(nn.Module):
    """Its parameter names look like those of adapters, but it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.lora_A = nn.Linear(4, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.lookup = nn.Embedding(5, 4)
        self.top = nn.Linear(4, 3)

    def forward(self, x):
        return self.top(self.body(self.lora_A(x)))


def adapted(**options) -> nn.Module:
    options = {"r": 2, "target_modules": ["body.0", "lookup"], "modules_to_save": ["top"], **options}
    return peft.get_peft_model(Encoder(), peft.LoraConfig(**options))


def inner(name: str) -> str:
    return name.removeprefix("base_model.model.")


def test_adapters_are_the_parameters_added_by_peft() -> None:
    model = adapted()
    found = adapter_parameters(model)
    assert [inner(name) for name in found] == [
        "body.0.lora_A.default.weight",
        "body.0.lora_B.default.weight",
        "lookup.lora_embedding_A.default",
        "lookup.lora_embedding_B.default",
        "top.modules_to_save.default.weight",
        "top.modules_to_save.default.bias",
    ]
    # What peft itself would save.
    assert len(peft.get_peft_model_state_dict(model)) == len(found)
    assert select_parameters(model, "adapters") == select_parameters(model) == found
    assert select_buffers(model, "adapters") == []
    # The module that was adapted in place gives the same, with its own parameter names.
    assert adapter_parameters(model.get_base_model()) == [inner(name) for name in found]


def test_magnitudes_of_dora_and_other_kinds_of_adapters() -> None:
    dora = adapted(use_dora=True, modules_to_save=None, target_modules=["body.0"])
    assert len(adapter_parameters(dora)) == 3
    ia3 = peft.get_peft_model(Encoder(), peft.IA3Config(target_modules=["body.0"], feedforward_modules=[]))
    assert [inner(name) for name in adapter_parameters(ia3)] == ["body.0.ia3_l.default"]


def test_other_trainable_weights_are_not_adapters() -> None:
    model = adapted(bias="all", modules_to_save=None)
    extra = set(select_parameters(model)) - set(select_parameters(model, "adapters"))
    assert {inner(name) for name in extra} == {
        "lora_A.bias",
        "body.0.base_layer.bias",
        "body.1.bias",
        "top.bias",
    }


def test_an_inactive_second_adapter_is_not_changed() -> None:
    model = adapted(modules_to_save=None)
    model.add_adapter("other", peft.LoraConfig(r=2, target_modules=["body.0"]))
    assert len(adapter_parameters(model)) == 6
    assert {
        inner(name).split(".")[-2] for name in select_parameters(model, "adapters") if "body" in name
    } == {"default"}


def test_no_adapter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"Encoder has no adapter of peft; expected .*get_peft_model"):
        select_parameters(Encoder(), "adapters")
    monkeypatch.delitem(sys.modules, "peft")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"equipoise\[transformers\]"):
        select_parameters(Encoder(), "adapters")


def test_merged_adapters_are_refused() -> None:
    model = adapted(target_modules=["body.0"])
    refuse_merged(model, "it")
    model.merge_adapter()
    with pytest.raises(
        ModelError, match=r"^it has 1 adapters .* 'base_model.model.body.0'; .* unmerge_adapter"
    ):
        refuse_merged(model, "it")
    model.unmerge_adapter()
    refuse_merged(model, "it")


def test_quantised_weights_are_refused() -> None:
    module = nn.Linear(2, 2)
    module.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)
    before = module.bias.detach().clone()
    state = {name: value + 1 for name, value in module.state_dict().items()}
    with pytest.raises(ModelError, match=r"'weight' of Linear is quantised \(torch.int8\)"):
        soft_reinitialize(module, state, 0.5)
    assert torch.equal(module.bias, before)
    soft_reinitialize(module, state, 0.5, parameters=["bias"])
    assert torch.allclose(module.bias, before + 0.5)
    assert select_parameters(module) == ["bias"]
