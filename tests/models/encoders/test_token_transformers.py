"""Transformers of tokens and patches: padding, types, order, refusals."""

from __future__ import annotations

import pytest
import torch

from equipoise.models import build_model
from equipoise.models.custom import check_contract
from equipoise.models.encoders.patch_transformer import PatchTransformer
from equipoise.models.encoders.token_transformer import TokenTransformer
from equipoise.models.subset_logits import answers_to_zeros
from equipoise.types import ModelError

TOKENS = torch.tensor([[4, 9, 2, 7], [3, 3, 0, 0], [0, 0, 0, 0]])


def tokens_encoder(**options) -> TokenTransformer:
    return TokenTransformer(vocabulary=12, width=8, **options).double()


def test_padding_does_not_matter():
    encoder = tokens_encoder().eval()
    z = encoder(TOKENS)
    longer = encoder(torch.cat([TOKENS, torch.zeros(3, 5, dtype=torch.long)], dim=1))
    torch.testing.assert_close(longer, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(encoder(TOKENS[1:2, :2]), z[1:2], rtol=0, atol=1e-12)
    with torch.no_grad():
        encoder.embedding.weight[0] = 100.0  # padding is not read
    torch.testing.assert_close(encoder(TOKENS)[:2], z[:2], rtol=0, atol=1e-12)
    assert not torch.allclose(encoder(TOKENS.flip(1))[0], z[0])


@pytest.mark.parametrize("training", [True, False])
def test_a_text_of_padding_alone_has_a_finite_feature_and_gradient(training):
    encoder = tokens_encoder(dropout=0.0).train(training)
    z = encoder(torch.zeros(2, 3))
    assert torch.isfinite(z).all()
    torch.testing.assert_close(z[0], z[1], rtol=0, atol=1e-12)
    z.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)
    assert encoder.embedding.weight.grad[0].abs().sum() == 0


def test_tokens_of_any_type():
    encoder = tokens_encoder().eval()
    expected = encoder(TOKENS)
    for dtype in (torch.int32, torch.uint8, torch.float32, torch.float64):
        assert torch.equal(encoder(TOKENS.to(dtype)), expected)


@pytest.mark.parametrize("token", [12, -1])
def test_tokens_outside_the_vocabulary_name_the_option(token):
    with pytest.raises(ModelError, match=rf"0 to 11; found {token}.*'vocabulary'"):
        tokens_encoder()(torch.tensor([[1, token]]))


@pytest.mark.parametrize("fusion", ["concat", "mmtm", "mult", "mbt"])
def test_padding_does_not_matter_in_any_fusion(fusion):
    shapes = {"text": ((4,), "tokens"), "sound": ((5, 3), "sequence")}
    options = {"text": {"vocabulary": 12, "width": 8}, "sound": {"width": 8}}
    encoders = {"text": "token-transformer", "sound": "transformer"}
    model = build_model(shapes, 3, encoders=encoders, encoder_options=options, fusion=fusion)
    check_contract(model, shapes, 3)
    model.double().eval()
    x = {"text": TOKENS, "sound": torch.randn(3, 5, 3).double()}
    z = model.encode(x)
    longer = {**x, "text": torch.cat([TOKENS, torch.zeros(3, 5, dtype=torch.long)], dim=1)}
    for m, feature in model.encode(longer).items():
        torch.testing.assert_close(feature, z[m], rtol=0, atol=1e-12)
    assert all(torch.isfinite(feature).all() for feature in answers_to_zeros(model, x).values())


def test_patches_of_a_filled_image_and_of_still_frames():
    encoder = PatchTransformer(2, patch=4, width=8, dropout=0.0).double().eval()
    x = torch.randn(3, 2, 7, 9).double()
    filled = torch.zeros(3, 2, 8, 12).double()
    filled[..., :7, :9] = x
    torch.testing.assert_close(encoder(x), encoder(filled), rtol=0, atol=1e-12)
    video = torch.randn(3, 4, 2, 8, 8).double()
    assert not torch.allclose(encoder(video), encoder(video.flip(1)))  # the order of frames matters
    assert not torch.allclose(encoder(x), encoder(x.flip(3)))
