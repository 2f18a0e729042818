"""Base classes: a missing method of a subclass is an error on construction or first use."""

from __future__ import annotations

import pytest
import torch

from equipoise.data import Dataset
from equipoise.methods.valuation import Resamples
from equipoise.models.encoders.base import Encoder, FrameEncoder
from equipoise.models.fusion.base import Fusion
from equipoise.types import ModelError


@pytest.mark.parametrize(
    ("base", "arguments", "lacking"),
    [
        (Fusion, ({"a": 2}, 2), "forward"),
        (Dataset, (), "available.*build.*source_version"),
        (Resamples, (), "copies"),
    ],
)
def test_a_class_without_a_required_method_cannot_be_built(base, arguments, lacking):
    with pytest.raises(TypeError, match=lacking):
        type("Unfinished", (base,), {})(*arguments)


@pytest.mark.parametrize(
    ("base", "shape", "lacking"),
    [(Encoder, (3, 2), "'embed'.*'stages'"), (FrameEncoder, (3, 2, 4, 4), "'embed_images'.*'image_stages'")],
)
def test_an_encoder_without_a_forward_pass_raises_a_clear_error(base, shape, lacking):
    attributes = {"name": "unfinished", "kinds": ("image",) if len(shape) > 2 else ("vector",)}
    encoder = type("Unfinished", (base,), attributes)(2)
    with pytest.raises(ModelError, match=f"'unfinished'.*{lacking}"):
        encoder(torch.ones(shape))
