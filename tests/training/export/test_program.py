"""Programs of models compute what the models do, for every encoder and fusion, with masks and odd names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.models import ENCODERS, BalancedModel, build_model
from equipoise.models.averaged import AllHeadsModel, CopiesModel
from equipoise.models.build import fusion_names
from equipoise.training.export.program import as_onnx, traced
from equipoise.types import ModelError

SHAPES: Mapping[str, tuple[int, ...]] = {
    "vector": (5,),
    "tokens": (7,),
    "sequence": (9, 6),
    "image": (3, 16, 16),
    "video": (4, 3, 16, 16),
}
SIZES = (1, 2, 5)


def sample(kind: str, count: int, seed: int = 0) -> Tensor:
    """Samples, some of them with padding at the end, at the start, and everywhere."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "tokens":
        tokens = torch.randint(1, 50, (count, *SHAPES[kind]), generator=generator).float()
        tokens[0, 4:] = 0
        tokens[-1] = 0
        return tokens
    x = torch.randn(count, *SHAPES[kind], generator=generator)
    if kind == "sequence":
        x[0, 5:] = x[0, 4]
        x[count // 2, :3] = x[count // 2, 2]
        x[-1] = x[-1, 0]
    return x


def trained_like(model: BalancedModel) -> BalancedModel:
    """Give normalisation layers statistics as after a training."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


def check(model: BalancedModel, kinds: Mapping[str, str], *, onnx: bool) -> None:
    example = {m: sample(kind, 2, seed=9) for m, kind in kinds.items()}
    program = traced(model, example)
    computes: Any = program.module()
    tried = [{m: sample(kind, n, seed=n) for m, kind in kinds.items()} for n in SIZES]
    with torch.no_grad():
        expected = [model(inputs).logits for inputs in tried]
        for inputs, logits in zip(tried, expected, strict=True):
            torch.testing.assert_close(computes(inputs), logits, rtol=1e-5, atol=1e-5)
    if not onnx:
        return
    import onnxruntime

    written = as_onnx(program, list(kinds), "out", {"key": "value"})
    session = onnxruntime.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == list(kinds)
    assert all(one.shape[0] == "batch" for one in session.get_inputs())
    assert session.get_modelmeta().custom_metadata_map["key"] == "value"
    for inputs, logits in zip(tried, expected, strict=True):
        (found,) = session.run(["out"], {m: x.numpy() for m, x in inputs.items()})
        torch.testing.assert_close(torch.from_numpy(found), logits, rtol=1e-5, atol=1e-5)


def of_encoder(name: str, kind: str, options: Mapping[str, Any]) -> tuple[BalancedModel, dict[str, str]]:
    kinds = {"a.b": kind, "train": "vector"}
    model = build_model(
        {m: (SHAPES[k], k) for m, k in kinds.items()},
        3,
        encoders={"a.b": name, "train": "mlp"},
        encoder_options={"a.b": options},
    )
    return trained_like(model), kinds


BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
VIT = {**BERT, "image_size": 16, "patch_size": 8}
BY_PACKAGE = {
    "tokens": {"model": "BertModel", "config": {**BERT, "vocab_size": 60}},
    "sequence": {"model": "BertModel", "config": {**BERT, "vocab_size": 60}},
    "image": {"model": "ViTModel", "config": VIT},
    "video": {"model": "ViTModel", "config": VIT},
}


def cells() -> list[Any]:
    found = []
    for name, encoder in ENCODERS.items():
        for kind in encoder.kinds:
            choices: list[dict[str, Any]] = [{}]
            if name == "transformers":
                choices = [BY_PACKAGE[kind]]
            elif "mask" in (encoder.__init__.__kwdefaults__ or {}):
                choices = [{}, {"mask": "ends"}, *([{"mask": "ends", "layers": 2}] if name == "gru" else [])]
            for number, options in enumerate(choices):
                found.append(pytest.param(name, kind, options, id=f"{name} {kind} {number}"))
    return found


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("gru", "sequence", {"mask": "ends"}),
        ("tcn", "sequence", {"mask": "ends", "blocks": 2}),
        ("token-bag", "tokens", {}),
    ],
)
def test_what_depends_on_padding(name: str, kind: str, options: dict[str, Any]) -> None:
    check(*of_encoder(name, kind, options), onnx=name == "token-bag")


@pytest.mark.matrix
@pytest.mark.parametrize(("name", "kind", "options"), cells())
def test_every_encoder(name: str, kind: str, options: dict[str, Any]) -> None:
    check(*of_encoder(name, kind, options), onnx=True)


@pytest.mark.matrix
@pytest.mark.parametrize("fusion", fusion_names())
@pytest.mark.parametrize("encoder", ["transformer", "gru", "image"])
def test_every_fusion(fusion: str, encoder: str) -> None:
    kind = "image" if encoder == "image" else "sequence"
    if fusion == "mbt" and encoder != "transformer":
        pytest.skip("fusion bottlenecks join transformers")
    name = "cnn" if encoder == "image" else encoder
    options = {} if kind == "image" else {"mask": "ends"}
    kinds = {"a": kind, "b": kind, "c.d": kind}
    shapes = dict.fromkeys(kinds, (SHAPES[kind], kind))
    model = build_model(
        shapes, 3, encoders=name, encoder_options=dict.fromkeys(kinds, options), fusion=fusion
    )
    check(trained_like(model), kinds, onnx=True)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_means_over_heads_and_copies(taken: int) -> None:
    kinds = {"a": "vector", "b": "vector"}
    inner = AllHeadsModel(build_model(dict.fromkeys(kinds, (SHAPES["vector"], "vector")), 3))
    model = CopiesModel(inner, 2)
    for _ in range(taken):
        model.take()
        with torch.no_grad():
            for parameter in model.inner.parameters():
                parameter.mul_(0.5)
    check(trained_like(model), kinds, onnx=taken == 1)
    assert int(model.taken) == taken  # the model itself is as it was
    assert len(model.copies) == 2


def test_a_model_that_decides_by_its_input_is_refused_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    class Decides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out_features = 5

        def forward(self, x: Tensor) -> Tensor:
            return x if float(x.sum()) > 0 else -x

    from equipoise.models import ConcatFusion, MultimodalModel

    model = MultimodalModel({"a": Decides()}, ConcatFusion({"a": 5}, 3))
    with pytest.raises(ModelError, match=r"cannot be exported as a program of torch \(.*safetensors") as said:
        traced(model, {"a": torch.randn(2, 5)})
    assert "\n" not in str(said.value)
    assert capfd.readouterr() == ("", "")
