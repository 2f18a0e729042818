"""Small convolutional encoders keep channels side by side in memory, and follow their definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from equipoise.models.encoders.cnn import CNN, ImageCNN
from equipoise.models.encoders.cnn3d import CNN3D
from equipoise.models.encoders.frame_cnn import FrameCNN
from equipoise.models.encoders.tcn import SameConv1d

ENCODERS = {
    "cnn": (CNN(1), (4, 1, 9, 7)),
    "image-cnn": (ImageCNN(3, size=(9, 7)), (4, 3, 9, 7)),
    "frame-cnn": (FrameCNN(1, size=(9, 7)), (4, 5, 1, 9, 7)),
    "cnn3d": (CNN3D(2, size=(5, 9, 7)), (4, 5, 2, 9, 7)),
}


def plain(encoder: nn.Module, x: Tensor) -> Tensor:
    """The last map by the definition: convolution, normalisation, ReLU, then pooling, in the usual order."""
    if x.dim() == 5:
        x = x.transpose(1, 2) if isinstance(encoder, CNN3D) else x.flatten(0, 1)
    x = x.contiguous()
    for conv, norm, pool in zip(*(encoder.layers[start::4] for start in (0, 1, 2)), strict=True):
        x = pool(torch.relu(norm(conv(x))))
    return x


@pytest.mark.parametrize("name", ENCODERS)
def test_maps_and_gradients_are_those_of_the_definition(name, float64, monkeypatch):
    encoder, shape = ENCODERS[name]
    encoder = encoder.double().train()
    x, seen = torch.randn(shape, requires_grad=True), []
    encoder.layers[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder(x)
    found, expected = seen[0], plain(encoder, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weighted = torch.randn(found.shape)
    wanted = [x, *encoder.layers.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((found * weighted).sum(), wanted),
        torch.autograd.grad((expected * weighted).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_layer_keeps_channels_side_by_side(name):
    encoder, shape = ENCODERS[name]
    encoder = encoder.float()
    strides = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda module, inputs, output: strides.append(output.stride(1)))
    encoder(torch.randn(shape))
    assert strides == [1] * len(encoder.layers)


@pytest.mark.parametrize("dilation", [1, 4])
def test_a_convolution_of_steps_is_that_of_torch_and_copies_nothing(dilation, float64):
    ours = SameConv1d(6, 3, dilation).double()
    theirs = torch.nn.Conv1d(6, 6, 3, padding=dilation, dilation=dilation, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    steps = torch.randn(2, 9, 6)
    found = ours(steps.transpose(1, 2))
    torch.testing.assert_close(found, theirs(steps.transpose(1, 2)), rtol=1e-12, atol=1e-12)
    assert found.transpose(1, 2).is_contiguous()
