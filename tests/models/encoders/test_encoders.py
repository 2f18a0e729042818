"""Encoders: shapes, the published ResNet-18, video as a mean over frames, and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from equipoise.models import ENCODERS, Encoder
from equipoise.models.encoders.base import (
    DEFAULT_ENCODERS,
    KINDS,
    ONE_FRAME,
    default_encoder,
    fitting_encoders,
)
from equipoise.models.encoders.cnn import CNN
from equipoise.models.encoders.gru import GRU
from equipoise.models.encoders.mlp import MLP
from equipoise.models.encoders.resnet import ResNet18
from equipoise.models.encoders.sequence_cnn import SequenceCNN
from equipoise.models.encoders.stages import repeated_ends
from equipoise.models.encoders.tcn import TemporalCNN
from equipoise.models.encoders.transformer import Transformer, sinusoids
from equipoise.types import ModelError, UnknownNameError, UsageError

SHAPES = {
    "vector": [(1,), (7,), (300,)],
    "sequence": [(1, 1), (9, 5), (40, 3)],
    "tokens": [(1,), (9,)],
    "image": [(1, 1, 1), (3, 8, 8), (2, 17, 5), (1, 40, 90)],
    "video": [(1, 3, 9, 9), (4, 2, 12, 7)],
}
BERT = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
}
VIT = {**BERT, "image_size": 16, "patch_size": 8, "num_channels": 3}
CASES = [
    (name, kind, shape)
    for name, encoder in ENCODERS.items()
    for kind in encoder.kinds
    for shape in SHAPES[kind]
    if name != "transformers" or kind in ("tokens", "sequence") or shape[-3] in (1, 3)
]
SMALL = {
    "resnet18": {"width": 4},
    "r2plus1d-18": {"width": 4},
    "transformer": {"width": 16},
    "token-bag": {"width": 16, "vocabulary": 50},
    "token-transformer": {"width": 16, "vocabulary": 50},
    "patch-transformer": {"width": 16},
}


def small(name: str, kind: str) -> dict:
    if name != "transformers":
        return SMALL.get(name, {})
    if kind in ("tokens", "sequence"):
        return {"model": "BertModel", "config": BERT}
    return {"model": "ViTModel", "config": VIT}


def samples(count: int, shape: tuple[int, ...], kind: str) -> torch.Tensor:
    if kind == "tokens":
        return torch.randint(0, 50, (count, *shape))
    return torch.randn(count, *shape)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "kind", "shape"), CASES)
def test_every_encoder_pools_every_shape_of_its_kinds(name, kind, shape):
    encoder = ENCODERS[name].for_shape(shape, kind, **small(name, kind))
    x = samples(3, shape, kind)
    for mode in (True, False):
        z = encoder.train(mode)(x)
        assert z.shape == (3, encoder.out_features)
        assert torch.isfinite(z).all()
    loss = encoder.train()(x).square().sum()
    loss.backward()
    # A model of transformers that reads embeddings keeps its embedding table, which is then unused.
    unread = {"model.embeddings.word_embeddings.weight"} if kind == "sequence" else set()
    assert {name for name, p in encoder.named_parameters() if p.grad is None} <= unread


@pytest.mark.parametrize("name", list(ENCODERS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_an_unsuitable_kind_names_the_encoders_that_fit(name, kind):
    if kind in ENCODERS[name].kinds:
        assert name in fitting_encoders(kind)
        return
    with pytest.raises(ModelError, match=name) as error:
        ENCODERS[name].for_shape(SHAPES[kind][0], kind)
    assert all(fit in str(error.value) for fit in fitting_encoders(kind))


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((3, 8), "image", "kind 'sequence'"),
        ((0, 8, 8), "image", "at least 1"),
        ((5,), "sound", "unknown kind"),
        ((), "vector", "shape"),
    ],
)
def test_invalid_shapes_are_refused(shape, kind, words):
    with pytest.raises(ModelError, match=words):
        ENCODERS["cnn"].for_shape(shape, kind)


def test_every_kind_has_a_default_encoder_and_all_have_one_width():
    assert set(DEFAULT_ENCODERS) == set(KINDS)
    chosen = {(kind, shape): default_encoder(kind, shape) for kind in KINDS for shape in SHAPES[kind]}
    widths = {ENCODERS[c.encoder].for_shape(shape, kind).out_features for (kind, shape), c in chosen.items()}
    assert widths == {128}  # so that methods with one shared head run on any data by default
    assert chosen["video", (1, 3, 9, 9)] == ONE_FRAME
    assert chosen["video", (4, 2, 12, 7)].encoder == "frame-cnn"
    with pytest.raises(ModelError, match="sound"):
        default_encoder("sound", (3,))


def test_registry_contains_the_named_encoders_and_not_their_base_classes():
    own = {"mlp", "cnn", "resnet18", "sequence-cnn", "transformer", "token-transformer", "patch-transformer"}
    own |= {"cnn3d", "frame-cnn", "gru", "image-cnn", "r2plus1d-18", "tcn", "token-bag"}
    assert set(ENCODERS) == own | {"transformers"}
    with pytest.raises(UnknownNameError, match="resnet18"):
        ENCODERS["resnet-18"]


@pytest.mark.parametrize(
    ("encoder", "shape"),
    [
        (MLP(4), (2, 5)),
        (MLP(4), (2, 3, 4)),
        (CNN(3), (2, 1, 8, 8)),
        (CNN(3), (2, 3, 8)),
        (SequenceCNN(4), (2, 4, 9)),
        (ResNet18(3, width=4), (2, 3, 1, 8, 8)),
    ],
)
def test_a_batch_of_another_shape_is_refused_by_name(encoder, shape):
    with pytest.raises(ModelError, match=encoder.name):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hiden": [3]}),
        ("mlp", {"hidden": []}),
        ("mlp", {"hidden": [0]}),
        ("mlp", {"hidden": "64"}),
        ("mlp", {"hidden": 64}),
        ("mlp", {"hidden": [True]}),
        ("mlp", {"dropout": 1.0}),
        ("mlp", {"dropout": "no"}),
        ("cnn", {"channels": [2.5]}),
        ("resnet18", {"stem": "tiny"}),
        ("resnet18", {"width": 0}),
        ("sequence-cnn", {"kernel_size": 4}),
        ("tcn", {"kernel_size": 4}),
        ("tcn", {"blocks": 0}),
        ("gru", {"mask": "all"}),
        ("gru", {"layers": 0}),
        ("frame-cnn", {"over_time": "mean"}),
        ("frame-cnn", {"grid": 0}),
        ("frame-cnn", {"width": 5}),
        ("cnn3d", {"steps": 0}),
        ("image-cnn", {"grid": 0}),
        ("image-cnn", {"dropout": 1.0}),
        ("r2plus1d-18", {"stem": "tiny"}),
        ("transformer", {"heads": 3}),
        ("transformer", {"positions": "rotary"}),
        ("transformer", {"layers": 0}),
        ("token-bag", {"vocabulary": 0}),
        ("token-bag", {"dropout": 1.0}),
        ("token-transformer", {"vocabulary": 0}),
        ("token-transformer", {"heads": 3}),
        ("patch-transformer", {"patch": 0}),
        ("patch-transformer", {"width": 9, "heads": 1}),
        ("transformers", {"pooling": "max"}),
        ("transformers", {"model": "NoModel"}),
        ("transformers", {"freeze": 1}),
        ("transformers", {"folder": "google/vit-base-patch16-224", "model": "ViTModel"}),
    ],
)
def test_invalid_options_are_usage_errors_that_name_the_option(name, options):
    kind = ENCODERS[name].kinds[0]
    with pytest.raises(UsageError, match=next(iter(options))):
        ENCODERS[name].for_shape(SHAPES[kind][-1], kind, **options)


def test_mlp_equals_the_formula():
    encoder = MLP(2, hidden=[2], dropout=0.0).double()
    with torch.no_grad():
        encoder.layers[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.5]]))
        encoder.layers[0].bias.copy_(torch.tensor([0.25, -1.0]))
    z = encoder(torch.tensor([[3.0, -1.0], [-2.0, 4.0]], dtype=torch.float64))
    assert z.tolist() == [[1.25, 0.0], [6.25, 3.0]]


def test_mlp_options_reach_the_layers():
    encoder = MLP(5, hidden=(7, 3), dropout=0.4)
    assert [tuple(m.weight.shape) for m in encoder.layers if isinstance(m, nn.Linear)] == [(7, 5), (3, 7)]
    assert [m.p for m in encoder.layers if isinstance(m, nn.Dropout)] == [0.4, 0.4]
    assert not any(isinstance(m, nn.Dropout) for m in MLP(5, dropout=0.0).layers)


class TestResNet18:
    def test_has_the_published_number_of_parameters(self):
        encoder = ResNet18(3)
        assert count(encoder) == 11_176_512
        assert count(encoder) + 512 * 1000 + 1000 == 11_689_512
        assert encoder.out_features == 512

    @pytest.mark.parametrize("channels", [1, 2, 3, 20])
    def test_takes_any_number_of_channels(self, channels):
        encoder = ResNet18.for_shape((channels, 33, 20), "image", stem="imagenet", width=4)
        assert encoder.conv1.weight.shape == (4, channels, 7, 7)
        assert encoder(torch.randn(2, channels, 33, 20)).shape == (2, 32)
        assert count(ResNet18(channels)) == 11_176_512 + (channels - 3) * 64 * 49

    @pytest.mark.parametrize(
        ("shape", "small"),
        [((3, 64, 64), False), ((3, 63, 64), True), ((3, 224, 40), True), ((1, 257, 188), False)],
    )
    def test_auto_stem_depends_on_the_shorter_side(self, shape, small):
        assert ResNet18.for_shape(shape, "image", width=1).small is small
        assert ResNet18.for_shape((5, *shape), "video", width=1).small is small
        assert ResNet18.for_shape(shape, "image", width=1, stem="small").small is True
        assert ResNet18.for_shape(shape, "image", width=1, stem="imagenet").small is False

    @pytest.mark.parametrize(
        ("stem", "size", "left"), [("imagenet", 224, 7), ("small", 32, 4), ("small", 9, 2)]
    )
    def test_sizes_of_the_last_feature_map(self, stem, size, left):
        encoder = ResNet18(3, width=2, stem=stem)
        sizes = []
        encoder.layer4.register_forward_hook(lambda module, args, output: sizes.append(tuple(output.shape)))
        encoder(torch.randn(1, 3, size, size))
        assert sizes == [(1, 16, left, left)]

    def test_parameter_names_are_those_of_published_checkpoints(self):
        expected = {"conv1.weight", "bn1.weight", "bn1.bias"}
        for stage in range(1, 5):
            for block in range(2):
                prefix = f"layer{stage}.{block}"
                for part in (1, 2):
                    expected |= {f"{prefix}.conv{part}.weight"}
                    expected |= {f"{prefix}.bn{part}.weight", f"{prefix}.bn{part}.bias"}
                if stage > 1 and block == 0:
                    expected |= {f"{prefix}.downsample.{p}" for p in ("0.weight", "1.weight", "1.bias")}
        assert {name for name, _ in ResNet18(3, width=2).named_parameters()} == expected

    def test_a_block_is_relu_of_residual_plus_shortcut(self):
        block = ResNet18(3, width=4).layer2[0].double().eval()
        x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
        inner = torch.relu(block.bn1(nn.functional.conv2d(x, block.conv1.weight, stride=2, padding=1)))
        residual = block.bn2(nn.functional.conv2d(inner, block.conv2.weight, padding=1))
        shortcut = block.downsample[1](nn.functional.conv2d(x, block.downsample[0].weight, stride=2))
        torch.testing.assert_close(block(x), torch.relu(residual + shortcut), rtol=0, atol=1e-12)

    def test_starts_from_the_initialisation_of_he_et_al(self):
        weight = ResNet18(3).layer3[0].conv1.weight  # 128 channels in, 256 out: fan-out is used
        assert weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)


@pytest.mark.parametrize("encoder", [CNN(2, channels=(4, 6)), ResNet18(2, width=3, stem="small")])
def test_a_video_is_the_mean_over_its_frames(encoder):
    encoder = encoder.double().eval()
    x = torch.randn(3, 5, 2, 10, 8, dtype=torch.float64)
    by_frame = torch.stack([encoder(x[:, t]) for t in range(5)]).mean(dim=0)
    torch.testing.assert_close(encoder(x), by_frame, rtol=0, atol=1e-12)


def test_sequence_cnn_averages_convolutions_over_time():
    encoder = SequenceCNN(3, channels=[4], kernel_size=3).double().eval()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    padded = nn.functional.pad(x, (0, 0, 1, 1))
    weight = encoder.layers[0].weight  # [out, in, step]
    steps = [torch.einsum("bsi,ois->bo", padded[:, t : t + 3], weight) for t in range(6)]
    by_hand = torch.stack([torch.relu(encoder.layers[1](step)) for step in steps]).mean(dim=0)
    torch.testing.assert_close(encoder(x), by_hand, rtol=0, atol=1e-12)


class TestTransformer:
    def test_layers_start_from_different_weights(self):
        first, second = Transformer(3, width=8).layers
        assert not torch.equal(first.linear1.weight, second.linear1.weight)

    @pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
    def test_order_of_the_steps_matters(self, positions):
        encoder = Transformer.for_shape((6, 3), "sequence", width=8, positions=positions).eval()
        x = torch.randn(2, 6, 3)
        assert not torch.allclose(encoder(x), encoder(x.flip(1)), atol=1e-4)

    def test_training_and_evaluation_agree_without_dropout(self):
        encoder = Transformer(3, width=8, dropout=0.0)
        x = torch.randn(2, 6, 3)
        with torch.no_grad():
            torch.testing.assert_close(encoder.train()(x), encoder.eval()(x), rtol=1e-5, atol=1e-5)

    def test_learned_positions_are_bounded_and_sinusoids_are_not(self):
        assert Transformer.for_shape((6, 3), "sequence", width=8)(torch.randn(2, 50, 3)).shape == (2, 8)
        learned = Transformer.for_shape((6, 3), "sequence", width=8, positions="learned")
        assert learned.positions.shape == (6, 8)
        assert learned(torch.randn(2, 4, 3)).shape == (2, 8)
        with pytest.raises(ModelError, match="max_length"):
            learned(torch.randn(2, 7, 3))
        with pytest.raises(UsageError, match="max_length"):
            Transformer(3, positions="learned")

    def test_sinusoids_equal_those_of_the_paper(self):
        table = sinusoids(50, 6)
        for t in (0, 1, 49):
            for i in range(3):
                angle = t / 10000 ** (2 * i / 6)
                assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
                assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
        assert sinusoids(4, 5).shape == (4, 5)


def test_an_encoder_of_another_package_validates_its_options():
    class Mean(Encoder):
        name = "mean"
        kinds = ("sequence",)

        def __init__(self, in_features, **options):
            super().__init__(in_features)
            self.options, self.out_features = options, in_features

        def embed(self, x):
            return x.mean(1)

    encoder = Mean.for_shape([4, 2], "sequence", anything=1)
    assert encoder.options == {"anything": 1}
    assert encoder(torch.ones(3, 4, 2)).tolist() == [[1.0, 1.0]] * 3
    with pytest.raises(ModelError, match="mean"):
        encoder(torch.ones(3, 2))


def test_repeated_steps_at_the_ends_are_padding():
    x = torch.randn(5, 6, 3)
    x[1, 4:] = x[1, 4]
    x[2, :3], x[2, 4:] = 0.5, -1.0
    x[3, 2:4] = 7.0  # a repetition inside is not padding
    x[4] = 2.0
    found = repeated_ends(x)
    assert found.int().tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1],
        [1, 1, 1, 0, 1, 1],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1],
    ]
    assert repeated_ends(x[:, :1]).tolist() == [[False]] * 5


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [Transformer, TemporalCNN, GRU])
def test_masked_padding_of_sequences_does_not_matter(kind, training):
    torch.manual_seed(0)
    encoder = kind(3, width=8, dropout=0.0, mask="ends").double().train(training)
    short = torch.randn(2, 4, 3, dtype=torch.float64)
    before, after = (torch.full((2, n, 3), -0.7, dtype=torch.float64) for n in (2, 5))  # zeros, normalised
    filled = torch.cat([before, short, after], dim=1)
    # Sinusoids depend on the place, so the transformer is compared with padding at the end only.
    compared = filled[:, 2:] if kind is Transformer else filled
    torch.testing.assert_close(encoder(compared), encoder(short), rtol=1e-10, atol=1e-12)
    assert torch.isfinite(encoder(torch.zeros(2, 4, 3).double())).all()
    encoder.mask = "none"
    assert not torch.allclose(encoder(filled), encoder(short), atol=1e-3)
    with pytest.raises(UsageError, match="mask"):
        kind(3, mask="zeros")


@torch.no_grad()
def test_a_block_of_the_tcn_is_its_definition():
    torch.manual_seed(0)
    encoder = TemporalCNN(3, width=4, blocks=2, kernel_size=3, dropout=0.0).double().eval()
    x = torch.randn(2, 7, 3, dtype=torch.float64)

    def convolved(conv, norm, steps, dilation):
        out = torch.zeros_like(steps)
        for t in range(steps.shape[1]):
            for place in range(3):
                other = t + (place - 1) * dilation
                if 0 <= other < steps.shape[1]:
                    out[:, t] += steps[:, other] @ conv.weight[:, :, place].T
        return (out - norm.running_mean) / (norm.running_var + norm.eps).sqrt()

    steps = x @ encoder.projection.weight.T + encoder.projection.bias
    for block, dilation in zip(encoder.blocks, (1, 2), strict=True):
        inner = convolved(block.conv1, block.norm1, steps, dilation).clamp(min=0)
        steps = (steps + convolved(block.conv2, block.norm2, inner, dilation)).clamp(min=0)
    expected = torch.cat([steps.mean(dim=1), steps.max(dim=1).values], dim=1)
    torch.testing.assert_close(encoder(x), expected, rtol=1e-10, atol=1e-12)


class TestVideo:
    @torch.no_grad()
    @pytest.mark.parametrize(
        "options", [{"over_time": "tcn"}, {"over_time": "gru"}, {"over_time": "attention"}]
    )
    @pytest.mark.parametrize("name", ["frame-cnn", "cnn3d", "r2plus1d-18"])
    def test_order_matters_and_layout_where_maps_are_flattened(self, name, options):
        if name != "frame-cnn":
            options = {"width": 8}
        torch.manual_seed(0)
        encoder = ENCODERS[name].for_shape((6, 1, 16, 20), "video", **options).eval()
        x = torch.randn(3, 6, 1, 16, 20)
        assert not torch.allclose(encoder(x), encoder(x.flip(1)), atol=1e-3)
        if name != "r2plus1d-18":
            # The same patch at another place, far from the borders of the frame and of windows.
            left, right = torch.zeros(1, 6, 1, 32, 64), torch.zeros(1, 6, 1, 32, 64)
            left[..., 12:20, 12:20] = right[..., 12:20, 44:52] = 1.0
            encoder = ENCODERS[name].for_shape((6, 1, 32, 64), "video", **options).eval()
            assert not torch.allclose(encoder(left), encoder(right), atol=1e-3)
            mean = ENCODERS["cnn"].for_shape((6, 1, 32, 64), "video").eval()
            torch.testing.assert_close(mean(left), mean(right), rtol=1e-4, atol=1e-6)

    def test_r2plus1d_has_the_published_number_of_parameters(self):
        with torch.device("meta"):
            # 31,505,325 with the classifier of 400 classes of the published network
            assert count(ENCODERS["r2plus1d-18"](3)) == 31_505_325 - (512 * 400 + 400)

    @pytest.mark.parametrize("name", ["frame-cnn", "cnn3d"])
    def test_maps_are_pooled_to_the_grid(self, name):
        options = {"grid": 2, "channels": [4, 4, 4], "width": 6}
        encoder = ENCODERS[name].for_shape((5, 3, 60, 80), "video", **options)
        assert encoder.window[-2:] == (4, 5)  # maps of 8 x 10 become 2 x 2
        assert encoder.projection.in_features == 4 * 2 * 2 * (5 if name == "cnn3d" else 1)
        with pytest.raises(ModelError, match=r"60 x 80.* found .*60 x 79"):
            encoder(torch.zeros(2, 5, 3, 60, 79))


class TestImages:
    @torch.no_grad()
    def test_the_place_of_a_pattern_matters(self):
        # The same patch at another place, far from the borders of the image and of windows.
        low, high = torch.zeros(1, 1, 64, 40), torch.zeros(1, 1, 64, 40)
        low[..., 12:20, 12:20] = high[..., 44:52, 12:20] = 1.0
        torch.manual_seed(0)
        encoder = ENCODERS["image-cnn"].for_shape((1, 64, 40), "image").eval()
        assert not torch.allclose(encoder(low), encoder(high), atol=1e-3)
        mean = ENCODERS["cnn"].for_shape((1, 64, 40), "image").eval()
        torch.testing.assert_close(mean(low), mean(high), rtol=1e-4, atol=1e-6)

    @torch.no_grad()
    def test_the_feature_is_a_linear_layer_on_the_pooled_map(self):
        torch.manual_seed(0)
        encoder = ENCODERS["image-cnn"].for_shape((2, 12, 9), "image", channels=[3], grid=2, width=4)
        x = torch.randn(5, 2, 12, 9)
        encoder(x)  # moves the statistics of the normalisations
        encoder = encoder.double().eval()
        maps = encoder.layers(x.double())  # [5, 3, 6, 5], pooled in windows of 3 x 3
        windows = [maps[..., r : r + 3, c : c + 3].mean(dim=(2, 3)) for r in (0, 3) for c in (0, 3)]
        flat = torch.stack(windows, dim=2).flatten(1)
        linear, norm = flat @ encoder.projection.weight.T, encoder.norm
        scaled = (linear - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps)
        expected = (scaled * norm.weight + norm.bias).clamp(min=0)
        torch.testing.assert_close(encoder(x.double()), expected, rtol=1e-10, atol=1e-12)
        with pytest.raises(ModelError, match="12 x 9.* found 12 x 10"):
            encoder(torch.zeros(1, 2, 12, 10))
