"""Encoders of the package transformers return the outputs of the package, and nothing is downloaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from equipoise.models import MultimodalModel, build_model
from equipoise.models.build import build_encoder
from equipoise.models.custom import check_contract
from equipoise.types import MissingExtraError, ModelError, UsageError

transformers = pytest.importorskip("transformers")

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "attn_implementation": "eager",
}
VIT = {**TINY, "image_size": 16, "patch_size": 8, "num_channels": 3}
AST = {**TINY, "num_mel_bins": 16, "max_length": 24, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
BERT = {**TINY, "vocab_size": 30, "max_position_embeddings": 12}
TOKENS = torch.tensor([[4, 9, 2, 7], [3, 3, 0, 0]])


def encoder(shape, kind, seed=0, **options):
    return build_encoder("m", shape, kind, "transformers", options, seed=seed).eval()


@pytest.fixture
def saved(tmp_path):
    def save(name: str, config: dict, **arguments):
        torch.manual_seed(3)
        cls = getattr(transformers, name)
        model = cls(cls.config_class(**config), **arguments).eval()
        model.save_pretrained(tmp_path / name)
        return model, str(tmp_path / name)

    return save


@torch.no_grad()
def test_vit_from_a_folder(saved):
    model, folder = saved("ViTModel", VIT)
    x = torch.randn(2, 3, 16, 16)
    output = model(pixel_values=x)
    options = {"model": "ViTModel", "folder": folder}
    mean = encoder((3, 16, 16), "image", **options)
    assert mean.out_features == 32
    torch.testing.assert_close(mean(x), output.last_hidden_state.mean(dim=1))
    cls = encoder((3, 16, 16), "image", pooling="cls", **options)
    torch.testing.assert_close(cls(x), output.last_hidden_state[:, 0])
    pooler = encoder((3, 16, 16), "image", pooling="pooler", **options)
    torch.testing.assert_close(pooler(x), output.pooler_output)
    auto = encoder((3, 16, 16), "image", folder=folder)
    torch.testing.assert_close(auto(x), mean(x))


@torch.no_grad()
def test_pixels_are_resized_grey_is_repeated_and_frames_are_averaged(saved):
    model, folder = saved("ViTModel", VIT)
    options = {"model": "ViTModel", "folder": folder}
    x = torch.randn(2, 3, 16, 16)
    grey = encoder((1, 16, 16), "image", **options)
    expected = model(pixel_values=x[:, :1].repeat(1, 3, 1, 1)).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(grey(x[:, :1]), expected)
    # Twice the size by repeating each pixel: averaging pairs back gives the image in its middle.
    large = F.interpolate(x, scale_factor=2, mode="nearest")
    small = F.interpolate(large, (16, 16), mode="bilinear", antialias=True, align_corners=False)
    one = encoder((3, 32, 32), "image", **options)
    torch.testing.assert_close(one(large), model(pixel_values=small).last_hidden_state.mean(dim=1))
    video = encoder((4, 3, 16, 16), "video", **options)
    frames = torch.randn(2, 4, 3, 16, 16)
    each = torch.stack([video.model(pixel_values=frames[:, t]).last_hidden_state.mean(1) for t in range(4)])
    torch.testing.assert_close(video(frames), each.mean(dim=0))


@torch.no_grad()
def test_ast_reads_time_by_frequency_and_is_padded(saved):
    model, folder = saved("ASTModel", AST)
    x = torch.randn(2, 1, 16, 20)
    found = encoder((1, 16, 20), "image", model="ASTModel", folder=folder, pooling="pooler")(x)
    values = torch.zeros(2, 24, 16)
    for t in range(20):
        values[:, t] = x[:, 0, :, t]
    torch.testing.assert_close(found, model(input_values=values).pooler_output)
    for shape in ((1, 16, 25), (1, 15, 20), (3, 16, 20)):
        with pytest.raises(ModelError, match=r"spectrograms \[1, 16, up to 24\]"):
            encoder(shape, "image", model="ASTModel", folder=folder)


@torch.no_grad()
@pytest.mark.parametrize("pad", [0, 1])
def test_bert_ignores_padding(saved, pad):
    model, folder = saved("BertModel", {**BERT, "pad_token_id": pad})
    options = {"model": "BertModel", "folder": folder}
    z = encoder((4,), "tokens", **options)(TOKENS.float())
    first = model(input_ids=TOKENS[:1]).last_hidden_state.mean(dim=1)
    short = model(input_ids=TOKENS[1:, :2]).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(z, torch.cat([first, short]), rtol=1e-4, atol=1e-5)
    pooled = encoder((4,), "tokens", pooling="pooler", **options)(TOKENS)
    torch.testing.assert_close(
        pooled[1:], model(input_ids=TOKENS[1:, :2]).pooler_output, rtol=1e-4, atol=1e-5
    )
    assert torch.isfinite(encoder((4,), "tokens", **options)(torch.zeros(2, 4))).all()
    with pytest.raises(ModelError, match="0 to 29; found 30.*vocab_size"):
        encoder((4,), "tokens", **options)(TOKENS + 21)
    with pytest.raises(ModelError, match="12 positions and cannot read 13"):
        encoder((13,), "tokens", **options)


@torch.no_grad()
def test_a_sequence_becomes_embeddings(saved):
    model, folder = saved("BertModel", BERT)
    built = encoder((6, 5), "sequence", model="BertModel", folder=folder)
    x = torch.randn(2, 6, 5)
    embedded = x @ built.projection.weight.T + built.projection.bias
    torch.testing.assert_close(built(x), model(inputs_embeds=embedded).last_hidden_state.mean(dim=1))


def test_random_weights_depend_on_the_seed_and_the_modality_only(tmp_path):
    options = {"model": "BertModel", "config": BERT}
    one = encoder((4,), "tokens", **options).state_dict()
    torch.manual_seed(99)
    (tmp_path / "config.json").write_text(json.dumps({**BERT, "model_type": "bert"}))
    again = encoder((4,), "tokens", config=str(tmp_path / "config.json")).state_dict()
    other = encoder((4,), "tokens", seed=1, **options).state_dict()
    assert one.keys() == again.keys()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_frozen_model_does_not_change():
    frozen = encoder((4,), "tokens", model="BertModel", config=BERT, freeze=True).train()
    assert frozen.training
    assert not any(module.training for module in frozen.model.modules())
    assert torch.equal(frozen(TOKENS), frozen(TOKENS))
    assert not frozen(TOKENS).requires_grad
    free = encoder((4,), "tokens", model="BertModel", config=BERT).train()
    assert not torch.equal(free(TOKENS), free(TOKENS))  # its dropout is active
    free(TOKENS).sum().backward()
    assert all(p.grad is not None for p in free.parameters())
    sequence = encoder((4, 3), "sequence", model="BertModel", config=BERT, freeze=True).train()
    sequence(torch.randn(2, 4, 3)).sum().backward()
    assert {name for name, p in sequence.named_parameters() if p.grad is not None} == {
        "projection.weight",
        "projection.bias",
    }


def test_the_package_is_imported_only_when_it_is_used():
    code = (
        "import sys, equipoise.models.build as m; m.available_models();"
        "m.build_model({'a': ((3,), 'vector')}, 2);"
        "sys.exit(any(name in sys.modules for name in ('transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"equipoise\[transformers\]"):
        encoder((4,), "tokens", model="BertModel", config=BERT)


def test_it_works_in_a_model():
    shapes = {"text": ((4,), "tokens"), "image": ((3, 16, 16), "image")}
    options = {"text": {"model": "BertModel", "config": BERT}, "image": {"model": "ViTModel", "config": VIT}}
    model = build_model(shapes, 3, encoders="transformers", encoder_options=options)
    assert type(model) is MultimodalModel
    assert check_contract(model, shapes, 3).feature_widths() == {"text": 32, "image": 32}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_intermediate_fusion_works_after_the_last_layer(pooling):
    shapes = {
        "text": ((4,), "tokens"),
        "frames": ((2, 3, 16, 16), "video"),
        "sound": ((1, 16, 20), "image"),
        "steps": ((6, 5), "sequence"),
    }
    options = {
        "text": {"model": "BertModel", "config": BERT, "pooling": pooling},
        "frames": {"model": "ViTModel", "config": VIT, "pooling": pooling},
        "sound": {"model": "ASTModel", "config": AST, "pooling": pooling},
    }
    encoders = {**dict.fromkeys(options, "transformers"), "steps": "transformer"}
    inputs = {m: torch.randn(2, *shape) for m, (shape, _) in shapes.items()} | {"text": TOKENS}
    for fusion in ("mult", "mmtm"):
        model = build_model(shapes, 3, encoders=encoders, encoder_options=options, fusion=fusion).eval()
        assert check_contract(model, shapes, 3).feature_widths()["text"] == 32
        with torch.no_grad():
            together = model.encode(inputs)
            for m in options:  # alone it is the plain encoder; with others it depends on them
                plain = build_encoder(m, *shapes[m], "transformers", options[m]).eval()(inputs[m])
                torch.testing.assert_close(model.encoder_module(m)(inputs[m]), plain)
                assert not torch.allclose(together[m], plain, atol=1e-4), (fusion, m)
            unlike = {**inputs, "text": torch.tensor([[4, 9, 2, 7], [3, 3, 3, 3]])}
            assert torch.allclose(model.encode(unlike)["sound"][0], together["sound"][0], atol=1e-5)
            assert not torch.allclose(model.encode(unlike)["sound"][1], together["sound"][1], atol=1e-6)


@torch.no_grad()
def test_padding_does_not_affect_other_modalities():
    shapes = {"text": ((4,), "tokens"), "steps": ((6, 5), "sequence")}
    options = {"text": {"model": "BertModel", "config": BERT}}
    encoders = {"text": "transformers", "steps": "transformer"}
    model = build_model(shapes, 3, encoders=encoders, encoder_options=options, fusion="mult").eval()
    x = torch.randn(1, 6, 5)
    padded, short = TOKENS[1:], TOKENS[1:, :2]
    for m, z in model.encode({"text": padded, "steps": x}).items():
        torch.testing.assert_close(z, model.encode({"text": short, "steps": x})[m], rtol=1e-4, atol=1e-5)


def test_with_a_pooler_intermediate_fusion_has_no_effect():
    shapes = {"text": ((4,), "tokens"), "other": ((6, 5), "sequence")}
    options = {"text": {"model": "BertModel", "config": BERT, "pooling": "pooler"}}
    encoders = {"text": "transformers", "other": "transformer"}
    with pytest.raises(ModelError, match="'transformers' does not run stage by stage with these options"):
        build_model(shapes, 3, encoders=encoders, encoder_options=options, fusion="mult")


def test_the_feature_map_of_a_convolutional_network_is_averaged():
    config = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    built = encoder((3, 32, 32), "image", model="ResNetModel", config=config)
    x = torch.randn(2, 3, 32, 32)
    assert built.out_features == 12
    expected = built.model(pixel_values=x).last_hidden_state.mean(dim=(2, 3))
    torch.testing.assert_close(built(x), expected)


@pytest.mark.parametrize(
    ("shape", "kind", "options", "error", "words"),
    [
        ((4,), "tokens", {"model": "BertModel"}, UsageError, "'folder'.*'config'.*found none"),
        ((4,), "tokens", {"config": BERT, "folder": "."}, UsageError, "found both"),
        (
            (4,),
            "tokens",
            {"folder": "bert-base-uncased"},
            UsageError,
            "not a local folder.*models are not downloaded",
        ),
        ((4,), "tokens", {"config": BERT}, UsageError, "needs 'model_type'"),
        ((4,), "tokens", {"config": "absent.json"}, UsageError, "absent.json cannot be read"),
        ((4,), "tokens", {"model": "BertTokenizer", "config": BERT}, UsageError, "must name a class"),
        (
            (4,),
            "tokens",
            {"model": "ViTModel", "config": VIT},
            ModelError,
            "reads pixel_values.*not 'tokens'",
        ),
        ((3, 9, 9), "image", {"model": "BertModel", "config": BERT}, ModelError, "reads input_ids"),
        ((2, 9, 9), "image", {"model": "ViTModel", "config": VIT}, ModelError, "reads 3 channels.*found 2"),
        ((9,), "vector", {"model": "ViTModel", "config": VIT}, ModelError, "not vector samples"),
        (
            (4,),
            "tokens",
            {"model": "BertModel", "config": {**BERT, "hidden_size": 31}},
            ModelError,
            "built from",
        ),
    ],
)
def test_refusals(shape, kind, options, error, words):
    with pytest.raises(error, match=words):
        encoder(shape, kind, **options)


def test_a_folder_of_another_model_is_refused(saved, tmp_path):
    _, folder = saved("BertModel", BERT, add_pooling_layer=False)
    encoder((4,), "tokens", model="BertModel", folder=folder)
    with pytest.raises(ModelError, match="lacks 'pooler"):
        encoder((4,), "tokens", model="BertModel", folder=folder, pooling="pooler")
    with pytest.raises(ModelError, match="ViTModel"):
        encoder((3, 16, 16), "image", model="ViTModel", folder=folder)
    (tmp_path / "BertModel" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="cannot be read as BertModel"):
        encoder((4,), "tokens", model="BertModel", folder=folder)
