"""The blocks of encoders with nested lists of layers."""

from __future__ import annotations

import pytest
from torch import nn

from equipoise.relearning.selection import block_names, depths_from_top, select_parameters

SMALL = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}


class Expert(nn.Module):
    """A layer that contains a list itself, like a mixture of experts."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(nn.init.ones_(nn.Linear(2, 2).weight))
        self.stem = nn.Linear(2, 2)
        self.body = nn.Module()
        self.body.layers = nn.ModuleList(Expert() for _ in range(2))
        self.body.act = nn.GELU()
        self.norm = nn.LayerNorm(2)


def test_a_list_of_layers_is_found_at_any_depth_and_its_layers_are_not_split() -> None:
    assert block_names(Deep()) == ["stem", "body.layers.0", "body.layers.1", "norm"]
    assert block_names(nn.ModuleDict({"inner": Deep()}))[0] == "inner.stem"


def test_depths_count_selected_blocks_only() -> None:
    module = Deep()
    names = [
        "token",
        "stem.weight",
        "body.layers.0.experts.1.bias",
        "body.layers.1.experts.0.bias",
        "norm.bias",
    ]
    every = [name for name, _ in module.named_parameters()]
    assert list(depths_from_top(module, every, names).values()) == [3, 3, 2, 1, 0]
    some = [name for name in every if name.startswith("body")]
    assert list(depths_from_top(module, some, names).values()) == [1, 1, 1, 0, 1]
    assert depths_from_top(nn.Linear(1, 1), ["weight"], ["weight"]) == {"weight": 0}


@pytest.mark.parametrize("kind", ["Bert", "ViT"])
def test_the_last_blocks_of_transformers(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(**SMALL, num_hidden_layers=3)
    model = getattr(transformers, f"{kind}Model")(config, add_pooling_layer=False)
    layers = [name for name in block_names(model) if name.rpartition(".")[2].isdecimal()]
    assert [name.rpartition(".")[2] for name in layers] == ["0", "1", "2"]
    above = block_names(model)[block_names(model).index(layers[-1]) + 1 :]
    chosen = select_parameters(model, f"last:{len(above) + 1}")
    expected = (f"{layers[-1]}.", *(f"{name}." for name in above))
    assert chosen == [name for name, _ in model.named_parameters() if name.startswith(expected)]
    assert any("attention" in name for name in chosen)
