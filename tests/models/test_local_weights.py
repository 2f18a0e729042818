"""Weights of an encoder from a local file: names, prefixes, channels, refusals."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from equipoise.models import ENCODERS, build_model
from equipoise.models.build import build_encoder
from equipoise.models.encoders.resnet import ResNet18
from equipoise.models.local_weights import load_weights
from equipoise.training.record.fingerprints import of_encoders
from equipoise.types import ModelError, UsageError

OPTIONS = {"width": 2, "stem": "imagenet"}


def published(channels: int = 3) -> dict[str, torch.Tensor]:
    """The state dict of a ResNet-18 as published: with its classifier, without counters."""
    torch.manual_seed(7)
    encoder = ResNet18(channels, width=2)
    state = {n: torch.randn_like(v) for n, v in encoder.state_dict().items() if v.is_floating_point()}
    state |= {n: v.abs() + 0.5 for n, v in state.items() if n.endswith("running_var")}
    return {**state, "fc.weight": torch.randn(10, 16), "fc.bias": torch.randn(10)}


def of(channels: int, path, **options) -> ResNet18:
    return build_encoder(
        "v", (channels, 64, 64), "image", "resnet18", {**OPTIONS, **options, "weights": path}
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda value: value.long(), "holds torch.int64; expected floating-point numbers"),
        (lambda value: value.to(torch.complex64), "holds torch.complex64; expected floating-point"),
        (lambda value: value * torch.nan, "has values that are not finite"),
    ],
)
def test_values_that_are_no_weights_are_refused(tmp_path, wrong, message):
    state = published()
    state["conv1.weight"] = wrong(state["conv1.weight"])
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ModelError, match=message):
        of(1, tmp_path / "net.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "resnet.", "module.encoder."])
def test_every_kind_of_file_and_prefix_gives_the_same_weights(tmp_path, suffix, prefix):
    state, path = published(), tmp_path / f"net{suffix}"
    named = {prefix + n: v for n, v in state.items()}
    if suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save({"epoch": 3, "state_dict": named} if suffix == ".pt" else named, path)
    encoder = of(3, str(path))
    for name, value in encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name]), name
    loaded = encoder.loaded_weights
    assert (loaded.stripped, loaded.adapted) == (prefix, "")
    assert loaded.ignored == ("fc.bias", "fc.weight")
    said = f"weights of {path}{f'; prefix {prefix!r} removed' if prefix else ''}"
    assert str(loaded) == f"{said}; without fc.bias, fc.weight"


def test_a_classifier_outside_the_prefix_is_ignored_too(tmp_path):
    state = published()
    named = {n if n.startswith("fc.") else f"resnet.{n}": v for n, v in state.items()}
    torch.save(named, tmp_path / "a.pt")
    encoder = of(3, tmp_path / "a.pt")
    assert torch.equal(encoder.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])


def test_a_grey_image_gets_the_response_of_its_colour_image(tmp_path):
    save_file(published(), tmp_path / "a.safetensors")
    colour, grey = (of(c, tmp_path / "a.safetensors").double().eval() for c in (3, 1))
    assert grey.loaded_weights.adapted == "conv1.weight"
    image = torch.randn(2, 1, 70, 66).double()
    with torch.no_grad():
        torch.testing.assert_close(grey(image), colour(image.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-5)


def test_flow_gets_the_mean_over_colours_in_every_channel(tmp_path):
    state = published()
    save_file(state, tmp_path / "a.safetensors")
    flow = of(10, tmp_path / "a.safetensors")
    mean = sum(state["conv1.weight"][:, c] for c in range(3)) / 3
    assert flow.conv1.weight.shape == (2, 10, 7, 7)
    for c in range(10):
        torch.testing.assert_close(flow.conv1.weight[:, c], mean)
    assert torch.equal(flow.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


def test_all_encoders_take_weights_and_start_from_them_everywhere(tmp_path):
    shapes = {"audio": ((5,), "vector"), "text": ((6,), "tokens")}
    source = build_model(shapes, 3, seed=9)
    options = {}
    for m in shapes:
        save_file(source.encoder_module(m).state_dict(), tmp_path / f"{m}.safetensors")
        options[m] = {"weights": str(tmp_path / f"{m}.safetensors")}
    model = build_model(shapes, 3, encoder_options=options, seed=1)
    alone = build_model(shapes, 3, encoder_options=options, seed=1, only=("text",))
    drawn = of_encoders(build_model(shapes, 3, seed=1).encoders)
    found = of_encoders(model.encoders)
    assert found == of_encoders(source.encoders)
    assert found["text"] == of_encoders(alone.encoders)["text"]
    assert all(found[m] != drawn[m] for m in shapes)
    # Other layers have the same initial weights as without a file.
    assert torch.equal(model.fusion.linear.weight, build_model(shapes, 3, seed=1).fusion.linear.weight)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (
            lambda s: s.pop("layer2.0.bn1.bias"),
            {},
            r"lacks 'layer2\.0\.bn1\.bias', which encoder 'resnet18' needs",
        ),
        (lambda s: s.pop("layer2.0.bn1.running_mean"), {}, r"lacks 'layer2\.0\.bn1\.running_mean'"),
        (lambda s: s.update(extra=torch.ones(2)), {}, "has 'extra', which encoder 'resnet18' does not"),
        (lambda s: s.update(other=torch.ones(2), more=torch.ones(1)), {}, "has 'more' and 1 more"),
        (lambda s: None, {"width": 3}, r"'bn1\.bias' is \[2\], that of encoder 'resnet18' is \[3\].*width"),
        (lambda s: None, {"stem": "small"}, r"'conv1\.weight' is \[2, 3, 7, 7\].*stem"),
    ],
)
def test_the_first_wrong_weight_is_named(tmp_path, change, options, words):
    state = published()
    change(state)
    save_file(dict(sorted(state.items())), tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=f"modality 'v': .*{words}"):
        of(3, tmp_path / "a.safetensors", **options)


def test_files_without_weights_are_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"modality 'v': .*absent\.pth does not exist.*weights are not downloaded"
    ):
        of(3, tmp_path / "absent.pth")
    (tmp_path / "a.bin").write_bytes(b"1234")
    with pytest.raises(UsageError, match=r"a\.bin is not \.safetensors"):
        of(3, tmp_path / "a.bin")
    with pytest.raises(UsageError, match="path of a file"):
        of(3, 3)
    for suffix in ("safetensors", "pt"):
        (tmp_path / f"empty.{suffix}").write_bytes(b"")
        (tmp_path / f"pointer.{suffix}").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:1\n"
        )
        (tmp_path / f"broken.{suffix}").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00 not weights at all")
        for name, words in (
            ("empty", "cannot be read|other than"),
            ("pointer", "Git LFS"),
            ("broken", "cannot be read|other than"),
        ):
            with pytest.raises(ModelError, match=words):
                of(3, tmp_path / f"{name}.{suffix}")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="not a state_dict"):
        of(3, tmp_path / "list.pt")


class Whole(nn.Module):
    """Pickled as a module, which contains code."""


def test_a_pickled_module_is_not_run(tmp_path):
    torch.save(Whole(), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"contains objects other than weights.*state_dict"):
        of(3, tmp_path / "whole.pt")


def test_half_precision_is_converted_to_that_of_the_encoder(tmp_path):
    encoder = ENCODERS["mlp"](3, hidden=(2,))
    save_file({n: v.half() for n, v in encoder.state_dict().items()}, tmp_path / "half.safetensors")
    other = ENCODERS["mlp"](3, hidden=(2,)).double()
    load_weights(other, tmp_path / "half.safetensors")
    assert other.layers[0].weight.dtype == torch.float64
    torch.testing.assert_close(other.layers[0].weight.float(), encoder.layers[0].weight, rtol=1e-3, atol=1e-3)
