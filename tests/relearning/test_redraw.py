"""A new draw of pretrained encoders: every number is drawn, by known initialisers."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from equipoise.models.build import build_encoder
from equipoise.relearning.blend import snapshot
from equipoise.relearning.targets import redrawn_state, weights_origin
from equipoise.types import ModelError

SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2}


class Token(nn.Module):
    """A parameter that is initialised only by the constructor."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(50))
        self.layer = nn.Linear(50, 2)


def moved(module: nn.Module) -> nn.Module:
    """Set every parameter to a value that no initialiser draws."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7.0)
    return module


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Encoders of transformers from `from_pretrained`, which marks all weights as initialised."""
    transformers = pytest.importorskip("transformers")
    models = {
        "ViT": transformers.ViTModel(transformers.ViTConfig(**SMALL, image_size=16, patch_size=8)),
        "Bert": transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=60)),
    }
    found = {}
    for name, model in models.items():
        folder = tmp_path_factory.mktemp(name)
        moved(model).save_pretrained(folder)
        found[name] = type(model).from_pretrained(folder)
        assert weights_origin(nn.Sequential(found[name])) == str(folder)
        assert weights_origin(model) is None
    return found


@pytest.mark.parametrize("name", ["ViT", "Bert"])
def test_models_of_transformers_are_redrawn_completely(loaded, name) -> None:
    encoder = nn.ModuleDict({"backbone": loaded[name], "own": nn.Linear(32, 4)})
    before = snapshot(encoder)
    drawn, again, other = (redrawn_state(encoder, seed) for seed in (1, 1, 2))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert all(torch.equal(value, drawn[key]) for key, value in again.items())
    for key, _ in encoder.named_parameters():
        assert not (drawn[key] == 7.0).any(), key
        assert torch.isfinite(drawn[key]).all()
    scale = "backbone.embeddings.position_embeddings" + (".weight" if name == "Bert" else "")
    assert drawn[scale].std() == pytest.approx(0.02, rel=0.15)  # its configuration's initializer_range
    assert not torch.equal(other[scale], drawn[scale])
    norms = [key for key in drawn if key.lower().endswith("norm.weight") or "layernorm_" in key]
    assert norms
    for key in norms:
        assert torch.equal(drawn[key], torch.full((32,), 0.0 if key.endswith("bias") else 1.0))


def test_a_parameter_without_initialiser_is_named_if_it_is_needed() -> None:
    with pytest.raises(ModelError, match=r"'0.token' of '0' \(Token\) cannot be drawn anew: no reset_param"):
        redrawn_state(nn.Sequential(Token()), 0)
    module = moved(Token())
    drawn = redrawn_state(module, 0, needed=["layer.weight", "layer.bias"])
    assert torch.equal(drawn["token"], module.token)  # unchanged
    assert not (drawn["layer.weight"] == 7.0).any()


def test_a_half_initialised_parameter_is_detected() -> None:
    class Half(Token):
        def reset_parameters(self) -> None:
            with torch.no_grad():
                self.token[:20] = 0

    with pytest.raises(ModelError, match="'token' of 'Half'"):
        redrawn_state(Half(), 0)


def test_a_factory_draws_parameters_without_initialiser() -> None:
    module = moved(Token())
    stream = torch.get_rng_state()
    drawn = redrawn_state(module, 3, factory=Token)
    assert torch.equal(torch.get_rng_state(), stream)
    torch.manual_seed(3)
    fresh = Token()
    assert all(torch.equal(value, drawn[key]) for key, value in fresh.state_dict().items())
    with pytest.raises(ModelError, match="'token' of Token has the shape"):
        redrawn_state(module, 3, factory=_short)
    with pytest.raises(ModelError, match="lacks 3 of the 3"):
        redrawn_state(module, 3, factory=lambda: nn.Linear(1, 1))
    with pytest.raises(ModelError, match="gave a int"):
        redrawn_state(module, 3, factory=lambda: 5)


def _short() -> nn.Module:
    module = Token()
    module.token = nn.Parameter(torch.ones(3))
    return module


def test_adapters_are_drawn_as_peft_draws_them() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["layer"])
    model = peft.get_peft_model(Token(), config)
    needed = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(needed) == 2
    moved(model)
    drawn = redrawn_state(model, 0, needed=needed)
    a, b = sorted(needed)
    assert torch.equal(drawn[b], torch.zeros(2, 4))
    bound = (1 / 50) ** 0.5  # Kaiming's bound with a slope of the square root of 5
    assert 0.9 * bound < drawn[a].abs().max() <= bound
    other = redrawn_state(model, 1, needed=needed)
    assert not torch.equal(other[a], drawn[a])


def test_encoders_of_the_toolkit_record_their_weight_file(tmp_path) -> None:
    drawn = build_encoder("m", (3,), "vector", "mlp")
    save_file(drawn.state_dict(), tmp_path / "mlp.safetensors")
    given = build_encoder("m", (3,), "vector", "mlp", {"weights": str(tmp_path / "mlp.safetensors")})
    assert weights_origin(drawn) is None
    assert "mlp.safetensors" in str(weights_origin(given))


def test_the_origin_is_read_from_an_attribute() -> None:
    module = nn.Sequential(nn.Linear(1, 1))
    assert weights_origin(module) is None
    module[0].loaded_weights = "weights.safetensors"
    assert weights_origin(module) == "weights.safetensors"
