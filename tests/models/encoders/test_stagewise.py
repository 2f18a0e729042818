"""Encoders run stage by stage give the outputs of the whole encoders."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from equipoise.models import ENCODERS, Encoder
from equipoise.models.build import build_encoder
from equipoise.models.encoders.base import stagewise_encoders
from equipoise.models.encoders.stages import StagedPass, StagedRun
from equipoise.models.encoders.transformer import sinusoids
from equipoise.types import ModelError

CASES = [
    ("mlp", "vector", (7,), {"hidden": (5, 6, 4)}, (5, 6, 4)),
    ("mlp", "vector", (7,), {"hidden": (5,), "dropout": 0.0}, (5,)),
    ("cnn", "image", (2, 9, 7), {"channels": (3, 5)}, (3, 5)),
    ("cnn", "video", (4, 2, 9, 7), {"channels": (3, 5)}, (3, 5)),
    ("image-cnn", "image", (2, 9, 7), {"channels": (3, 5), "width": 4, "dropout": 0.0}, (3, 5)),
    ("resnet18", "image", (2, 20, 20), {"width": 3}, (3, 6, 12, 24)),
    ("resnet18", "video", (4, 2, 70, 66), {"width": 3}, (3, 6, 12, 24)),
    ("sequence-cnn", "sequence", (6, 3), {"channels": (4, 5)}, (4, 5)),
    ("tcn", "sequence", (6, 3), {"width": 4, "blocks": 3, "dropout": 0.0}, (4, 4, 4)),
    ("gru", "sequence", (6, 3), {"width": 4, "layers": 2, "dropout": 0.0}, (8, 8)),
    ("frame-cnn", "video", (4, 2, 9, 7), {"channels": (3, 5), "width": 4, "dropout": 0.0}, (3, 5)),
    ("cnn3d", "video", (4, 2, 9, 7), {"channels": (3, 5), "width": 4, "dropout": 0.0}, (3, 5)),
    ("r2plus1d-18", "video", (4, 2, 20, 20), {"width": 3}, (3, 6, 12, 24)),
    ("transformer", "sequence", (6, 3), {"width": 8, "layers": 3}, (8, 8, 8)),
    ("token-bag", "tokens", (6,), {"width": 4, "dropout": 0.0}, (4,)),
    ("token-transformer", "tokens", (6,), {"width": 8, "layers": 2}, (8, 8)),
    ("patch-transformer", "image", (2, 9, 7), {"width": 8, "patch": 4}, (8, 8)),
    ("patch-transformer", "video", (4, 2, 9, 7), {"width": 8, "patch": 4}, (8, 8)),
]
JOINED = ("patch-transformer", "cnn3d", "r2plus1d-18")
"""Encoders that read all frames of a video together: a map has one row per sample."""
HEADED = ("frame-cnn", "cnn3d", "image-cnn")
"""Encoders with more layers after the last map."""
NORMED = ("transformer", "token-transformer", "patch-transformer")
"""Encoders with a normalisation layer after the last map."""
BATCH = 3


def built(name, kind, shape, options) -> tuple[Encoder, torch.Tensor]:
    encoder = build_encoder("a", shape, kind, name, options, seed=2).double()
    x = torch.randn(BATCH, *shape, dtype=torch.float64)
    return encoder, torch.tensor(
        [[5, 9, 2, 0, 0, 0], [1, 0, 0, 0, 0, 0], [8, 7, 6, 5, 4, 3]]
    ) if kind == "tokens" else x


def tokens_of(encoder: Encoder, x: torch.Tensor) -> torch.Tensor:
    """Patches one by one, in double precision."""
    video = x if x.ndim == 5 else x[:, None]
    p, width = encoder.patch, encoder.out_features
    size = [-(-side // p) for side in video.shape[-2:]]
    padded = torch.zeros(*video.shape[:3], size[0] * p, size[1] * p).double()
    padded[..., : video.shape[3], : video.shape[4]] = video
    tokens = []
    for t in range(video.shape[1]):
        for r in range(size[0]):
            for c in range(size[1]):
                patch = padded[:, t, :, r * p : r * p + p, c * p : c * p + p]
                token = F.linear(
                    patch.flatten(1), encoder.projection.weight.flatten(1), encoder.projection.bias
                )
                place = torch.cat([sinusoids(9, width // 2)[r], sinusoids(9, width // 2)[c]])
                tokens.append(token + place + (sinusoids(9, width)[t] if x.ndim == 5 else 0.0))
    return torch.stack(tokens, dim=1)


def plain(encoder: Encoder, x: torch.Tensor) -> torch.Tensor:
    """The encoder in one pass through its layers, without a generator."""
    if encoder.name == "mlp":
        return encoder.layers(x)
    if encoder.name == "sequence-cnn":
        return encoder.layers(x.transpose(1, 2)).mean(dim=2)
    if encoder.name == "tcn":
        maps = encoder.projection(x).transpose(1, 2)
        for block in encoder.blocks:
            inner = F.relu(block.norm1(block.conv1(maps)))
            maps = F.relu(maps + block.norm2(block.conv2(inner)))
        # A mean over contiguous steps adds in the encoder's order.
        return torch.cat([maps.transpose(1, 2).mean(dim=1), maps.amax(dim=2)], dim=1)
    if encoder.name == "gru":
        for layer in encoder.layers:
            x, _ = layer(x)
        return x.mean(dim=1)
    if encoder.name == "frame-cnn":
        steps = encoder.projection(encoder.layers(x.flatten(0, 1)).flatten(1))
        return plain(encoder.over_time, steps.reshape(*x.shape[:2], -1))
    if encoder.name == "cnn3d":
        maps = encoder.layers(x.transpose(1, 2))
        return F.relu(encoder.norm(encoder.projection(maps.flatten(1))))
    if encoder.name == "r2plus1d-18":
        maps = encoder.stem(x.transpose(1, 2))
        for group in encoder.groups:
            maps = group(maps)
        return maps.mean(dim=(2, 3, 4))
    if encoder.name == "image-cnn":  # the map of 3 x 2 is below the grid
        return F.relu(encoder.norm(encoder.projection(encoder.layers(x).flatten(1))))
    if encoder.name == "transformer":
        steps = encoder.projection(x)
        return encoder.norm(encoder.layers(steps + encoder._positions(steps))).mean(dim=1)
    if encoder.name == "token-transformer":
        steps = encoder.embedding(x) + sinusoids(x.shape[1], 8).double()
        for layer in encoder.layers:
            steps = layer(steps, src_key_padding_mask=x == 0)
        steps = encoder.norm(steps)
        return torch.stack([row[ids != 0].mean(dim=0) for row, ids in zip(steps, x, strict=True)])
    if encoder.name == "token-bag":
        embedded = encoder.embedding.weight[x] * (x != 0)[:, :, None]
        return embedded.sum(dim=1) / (x != 0).sum(dim=1, keepdim=True).double().sqrt()
    if encoder.name == "patch-transformer":
        return encoder.norm(encoder.layers(tokens_of(encoder, x))).mean(dim=1)
    frames = x.flatten(0, 1) if x.ndim == 5 else x
    if encoder.name == "cnn":
        z = encoder.layers(frames).mean(dim=(2, 3))
    else:
        maps = F.relu(encoder.bn1(encoder.conv1(frames)))
        maps = maps if encoder.small else F.max_pool2d(maps, 3, 2, 1)
        maps = encoder.layer4(encoder.layer3(encoder.layer2(encoder.layer1(maps))))
        z = maps.mean(dim=(2, 3))
    return z.reshape(len(x), x.shape[1], -1).mean(dim=1) if x.ndim == 5 else z


def test_all_encoders_of_the_package_run_stage_by_stage():
    assert set(stagewise_encoders()) == set(ENCODERS)
    # The encoder of transformers needs its package, and has its own tests.
    assert {case[0] for case in CASES} == set(stagewise_encoders()) - {"transformers"}


@pytest.mark.parametrize(("name", "kind", "shape", "options", "widths"), CASES)
@pytest.mark.parametrize("training", [True, False])
def test_a_pass_without_changes_equals_the_encoder_bitwise(name, kind, shape, options, widths, training):
    encoder, x = built(name, kind, shape, options)
    encoder.train(training)
    results = []
    for _ in range(3):
        torch.manual_seed(1)  # the same dropout masks
        if len(results) == 2:
            run = StagedRun(encoder.stagewise(x))
            while run.feature is None:
                run.send(run.map)
            results.append(run.feature)
        else:
            results.append(plain(encoder, x) if results else encoder(x))
    if name.endswith(("-transformer", "cnn", "cnn3d", "tcn")):  # the reference adds in another order
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
    else:
        assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(("name", "kind", "shape", "options", "widths"), CASES)
def test_maps_have_the_declared_number_of_channels(name, kind, shape, options, widths):
    encoder, x = built(name, kind, shape, options)
    encoder.eval()
    assert encoder.stage_widths == widths
    if name not in HEADED:
        assert encoder.out_features == widths[-1] * (2 if name == "tcn" else 1)
    run, found = StagedRun(encoder.stagewise(x)), []
    while run.feature is None:
        assert len(run.map) == (BATCH * shape[0] if kind == "video" and name not in JOINED else BATCH)
        found.append(run.map.shape[encoder.channel_dim])
        run.send(run.map)
    assert tuple(found) == widths


@pytest.mark.parametrize(("name", "kind", "shape", "options", "widths"), CASES)
def test_the_next_stage_reads_what_is_sent(name, kind, shape, options, widths):
    encoder, x = built(name, kind, shape, options)
    encoder.eval()
    for changed in range(len(widths)):
        run, stage = StagedRun(encoder.stagewise(x)), 0
        while run.feature is None:
            run.send(0.5 * run.map if stage == changed else run.map)
            stage += 1
        assert stage == len(widths)
        if name not in NORMED or changed < len(widths) - 1:  # its last norm cancels a common factor
            assert not torch.allclose(run.feature, encoder(x), rtol=0, atol=1e-6)
        # After the last map there is only a mean, or a mean and a maximum.
        if changed == len(widths) - 1 and name not in (*NORMED, *HEADED):
            torch.testing.assert_close(run.feature, 0.5 * encoder(x), rtol=0, atol=1e-12)


def test_the_transformer_reads_what_is_sent_to_its_last_stage():
    encoder, x = built("transformer", "sequence", (6, 3), {"width": 8})
    encoder.eval()
    run = StagedRun(encoder.stagewise(x))
    run.send(run.map)
    sent = torch.randn_like(run.map)
    run.send(sent)
    torch.testing.assert_close(run.feature, encoder.norm(sent).mean(dim=1), rtol=0, atol=1e-12)


def test_hooks_see_the_value_of_a_staged_pass():
    encoder, x = built("mlp", "vector", (7,), {})
    seen = []
    encoder.register_forward_hook(lambda module, args, output: seen.append(output))
    value = torch.randn(BATCH, 128)
    assert encoder(StagedPass(value)) is value
    assert seen == [value]


def test_weights_and_their_names_do_not_depend_on_stages():
    torch.manual_seed(5)
    encoder = ENCODERS["mlp"](4, hidden=(3, 2))
    torch.manual_seed(5)
    layers = nn.Sequential(
        nn.Linear(4, 3), nn.ReLU(), nn.Dropout(0.2), nn.Linear(3, 2), nn.ReLU(), nn.Dropout(0.2)
    )
    expected = {f"layers.{name}": value for name, value in layers.state_dict().items()}
    assert list(encoder.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())


def test_wrong_input_and_encoders_without_stages_are_refused_at_once():
    encoder, _ = built("mlp", "vector", (7,), {})
    with pytest.raises(ModelError, match="mlp"):
        encoder.stagewise(torch.ones(2, 8))

    class Mean(Encoder):
        name = "mean"
        kinds = ("sequence",)

        def __init__(self, in_features):
            super().__init__(in_features)
            self.out_features = in_features

        def embed(self, x):
            return x.mean(1)

    assert Mean(2)(torch.ones(3, 4, 2)).shape == (3, 2)
    with pytest.raises(ModelError, match=r"'mean' does not run stage by stage.*resnet18"):
        Mean(2).stagewise(torch.ones(3, 4, 2))
