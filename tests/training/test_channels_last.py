"""A ResNet trained with the channels of its weights side by side: the same numbers, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import equipoise as eq
from equipoise.models.encoders.resnet import ResNet18
from equipoise.training.loop import Training

OPTIONS: dict[str, Any] = {
    "encoder": {"image": "resnet18", "vector": "mlp"},
    "encoder_options": {"image": {"width": 4}},
    "recipe": "paper",
    "epochs": 1,
    "batch_size": 8,
    "diagnose_every": 0,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    target = np.arange(32) // 4 % 2
    inputs = {
        "image": (rng.normal(size=(32, 3, 64, 64)) + target[:, None, None, None]).astype(np.float32),
        "vector": rng.normal(size=(32, 3)).astype(np.float32),
    }
    split = np.array(["train", "train", "val", "test"])[np.arange(32) % 4]
    return str(eq.write_dataset(tmp_path_factory.mktemp("images") / "set", inputs, target, split).path)


def test_the_weights_of_a_resnet_are_in_this_order_and_the_result_is_the_same(
    images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[bool] = []
    fit = Training.fit

    def noted(training: Training) -> None:
        weight = training.model.encoder_module("image").layer1[0].conv1.weight
        orders.append(weight.is_contiguous(memory_format=torch.channels_last))
        fit(training)

    monkeypatch.setattr(Training, "fit", noted)
    found = eq.fit(images, out=tmp_path / "last", **OPTIONS)
    build = ResNet18.__init__

    def first(encoder: ResNet18, *arguments: Any, **options: Any) -> None:
        build(encoder, *arguments, **options)
        encoder.channels_last = False

    monkeypatch.setattr(ResNet18, "__init__", first)
    plain = eq.fit(images, out=tmp_path / "first", **OPTIONS)
    assert orders == [True, False]
    for name, weight in load_file(tmp_path / "last" / "model.safetensors").items():
        expected = plain.model.state_dict()[name]
        assert weight.is_contiguous()
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max() + 1))
    assert found.validation["loss"] == pytest.approx(plain.validation["loss"], rel=1e-3)


def test_only_for_the_stem_that_gains_from_it() -> None:
    assert ResNet18(3, width=4).channels_last
    assert not ResNet18(3, width=4, stem="small").channels_last
