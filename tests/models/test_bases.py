"""Bases that a subclass must complete: what it forgot is said when it is built or first used."""

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
def test_nothing_is_built_of_a_class_that_lacks_a_method(base, arguments, lacking):
    with pytest.raises(TypeError, match=lacking):
        type("Unfinished", (base,), {})(*arguments)


@pytest.mark.parametrize(
    ("base", "shape", "lacking"),
    [(Encoder, (3, 2), "'embed'.*'stages'"), (FrameEncoder, (3, 2, 4, 4), "'embed_images'.*'image_stages'")],
)
def test_an_encoder_that_defines_no_pass_says_what_it_needs(base, shape, lacking):
    attributes = {"name": "unfinished", "kinds": ("image",) if len(shape) > 2 else ("vector",)}
    encoder = type("Unfinished", (base,), attributes)(2)
    with pytest.raises(ModelError, match=f"'unfinished'.*{lacking}"):
        encoder(torch.ones(shape))
