"""Features captured through hooks: correct values, and no side effects of the pass."""

from __future__ import annotations

import random
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import equipoise as eq
from equipoise.diagnosis import collect_features
from equipoise.diagnosis.features.reading import BatchReader
from equipoise.types import Batch, DataError, ModelError, UsageError

N, CLASSES = 20, 3


def encoder(d: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5))


class TwoStreams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio_net, self.visual_net = encoder(3), encoder(5)
        self.unused, self.head = nn.Linear(1, 1), nn.Linear(8, CLASSES)

    def forward(self, audio, video):
        return self.head(torch.cat([self.audio_net(audio), self.visual_net(video)], dim=1))


class TakesMapping(TwoStreams):
    def forward(self, inputs, **extras):
        assert not extras
        return super().forward(inputs["audio"], inputs["video"])


class TakesAnything(TwoStreams):
    def forward(self, **inputs):
        return super().forward(inputs["audio"], inputs["video"])


class TakesBatch(TwoStreams):
    def forward(self, batch):
        return super().forward(batch.inputs["audio"], batch.inputs["video"])


@pytest.fixture
def model(float64):
    torch.manual_seed(0)
    return warmed(TwoStreams())


def warmed(model: nn.Module) -> nn.Module:
    """Give the normalisation layers running statistics."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def data(float64):
    generator = torch.Generator().manual_seed(1)
    audio, video = torch.randn(N, 3, generator=generator), torch.randn(N, 5, generator=generator)
    return audio, video, torch.arange(N) % CLASSES


def handles(model):
    return {"audio": model.audio_net, "video": model.visual_net}


def by_hand(model, data):
    """The features without the library: evaluation mode, all samples at once."""
    training = {part: part.training for part in model.modules()}
    model.eval()
    with torch.no_grad():
        features = {"audio": model.audio_net(data[0]), "video": model.visual_net(data[1])}
    for part, mode in training.items():
        part.training = mode
    return features


def same(captured, model, data):
    for name, expected in by_hand(model, data).items():
        torch.testing.assert_close(captured.features[name], expected, rtol=0, atol=1e-10)
    assert torch.equal(captured.target, data[2])
    return True


@pytest.mark.parametrize("batch_size", [1, 7, 20])
def test_features_equal_those_of_a_plain_pass(model, data, batch_size):
    captured = collect_features(handles(model), model, DataLoader(TensorDataset(*data), batch_size))
    assert list(captured.features) == ["audio", "video"]
    assert same(captured, model, data)
    assert not captured.features["audio"].requires_grad


def global_states():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


class Drawing(Dataset):
    """Augments with every global random stream."""

    def __init__(self, data) -> None:
        self.data = data

    def __len__(self) -> int:
        return N

    def __getitem__(self, i):
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        return self.data[0][i] + noise, self.data[1][i], self.data[2][i]


@pytest.mark.parametrize("own_generator", [False, True])
def test_the_pass_has_no_side_effects(model, data, own_generator):
    model.train()
    model.visual_net[1].eval()  # a frozen normalisation layer in a training model
    model.head.eval()
    model(data[0], data[1]).sum().backward()
    generator = torch.Generator().manual_seed(5) if own_generator else None
    loader = DataLoader(Drawing(data), 6, shuffle=True, generator=generator)
    streams = global_states()
    modes = [part.training for part in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    drawn = generator.get_state() if generator else None
    collect_features(handles(model), model, loader)
    assert global_states() == streams
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)
    assert not any(part._forward_hooks for part in model.modules())
    assert torch.is_grad_enabled()
    if generator:
        assert torch.equal(generator.get_state(), drawn)


@pytest.mark.parametrize(
    "make",
    [
        lambda d, g: DataLoader(d, 6, generator=g),
        lambda d, g: DataLoader(d, 6, sampler=WeightedRandomSampler(torch.ones(N), N, generator=g)),
        lambda d, g: DataLoader(d, batch_sampler=BatchSampler(RandomSampler(d, generator=g), 6, False)),
    ],
)
def test_generators_of_loaders_and_samplers_are_restored(model, data, make):
    generator = torch.Generator().manual_seed(5)
    loader = make(TensorDataset(*data), generator)
    before = generator.get_state()
    list(loader)
    assert not torch.equal(generator.get_state(), before)  # reading draws from it
    generator.set_state(before)
    collect_features(handles(model), model, loader)
    assert torch.equal(generator.get_state(), before)


def test_an_error_in_the_pass_has_no_side_effects_either(model, data):
    model.train()
    streams = global_states()

    def broken():
        yield data
        torch.rand(3)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        collect_features(handles(model), model, broken())
    assert global_states() == streams
    assert all(part.training for part in model.modules())
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_shuffled_loader_is_read_in_the_order_of_its_dataset(model, data, drop_last):
    loader = DataLoader(TensorDataset(*data), 6, shuffle=True, drop_last=drop_last)
    assert same(collect_features(handles(model), model, loader), model, data)


def test_a_random_subset_of_a_dataset_is_read_in_order_too(model, data):
    part = [2, 3, 5, 7, 11]
    loader = DataLoader(TensorDataset(*data), 2, sampler=SubsetRandomSampler([7, 3, 11, 2, 5]))
    captured = collect_features(handles(model), model, loader)
    assert same(captured, model, tuple(tensor[part] for tensor in data))


def test_a_custom_loader_is_read_unchanged(model, data):
    class Doubling(DataLoader):
        def __iter__(self):
            for audio, video, target in super().__iter__():
                yield 2 * audio, video, target

    loader = Doubling(TensorDataset(*data), 20, shuffle=True, generator=torch.Generator().manual_seed(0))
    captured = collect_features(handles(model), model, loader)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    assert sorted(captured.target) == sorted(data[2][order])
    expected = by_hand(model, (2 * data[0], data[1]))["audio"]
    # Doubled, in any order.
    torch.testing.assert_close(captured.features["audio"].sum(0), expected.sum(0), rtol=0, atol=1e-10)


def batches_of(data, make):
    audio, video, y = data
    return [make(audio[i : i + 8], video[i : i + 8], y[i : i + 8]) for i in range(0, N, 8)]


Named = namedtuple("Named", "audio video target")


@pytest.mark.parametrize(
    "make",
    [
        lambda a, v, y: (a, v, y),
        lambda a, v, y: [a, v, y],
        lambda a, v, y: Named(a, v, y),
        lambda a, v, y: ({"audio": a, "video": v}, y),
        lambda a, v, y: ({"video": v, "audio": a, "more": a}, y),
        lambda a, v, y: ((a, v), y),
        lambda a, v, y: {"audio": a, "video": v, "label": y},
        lambda a, v, y: {"video": v, "audio": a, "targets": y, "path": ["x"] * len(y)},
        lambda a, v, y: OrderedDict(audio=a, video=v, y=y.tolist()),
    ],
)
def test_batches_for_a_model_with_named_arguments(model, data, make):
    captured = collect_features(handles(model), model, batches_of(data, make))
    assert same(captured, model, data)


@pytest.mark.parametrize("kind", [TakesMapping, TakesAnything])
def test_mappings_for_other_models(data, kind):
    model = warmed(kind())
    for make in (
        lambda a, v, y: {"audio": a, "video": v, "labels": y},
        lambda a, v, y: ({"audio": a, "video": v}, y),
    ):
        assert same(collect_features(handles(model), model, batches_of(data, make)), model, data)


def test_batches_of_the_toolkit(data):
    model = warmed(TakesBatch())
    batches = batches_of(data, lambda a, v, y: Batch({"audio": a, "video": v}, y, torch.arange(len(y))))
    assert same(collect_features(handles(model), model, batches), model, data)


def test_custom_readers(model, data):
    odd = batches_of(data, lambda a, v, y: {"x": {"sound": a, "frames": v}, "meta": {"class": y}})
    target_of = lambda batch: batch["meta"]["class"]  # noqa: E731
    for inputs_of in (
        lambda b: {"audio": b["x"]["sound"], "video": b["x"]["frames"]},
        lambda b: (b["x"]["sound"], b["x"]["frames"]),
    ):
        reader = BatchReader(inputs_of, target_of)
        assert same(collect_features(handles(model), model, odd, reader=reader), model, data)
    reader = BatchReader(None, target_of, lambda model, b: model(b["x"]["sound"], b["x"]["frames"]))
    assert same(collect_features(handles(model), model, odd, reader=reader), model, data)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(4, 3), "a batch of type Tensor has no known target"),
        ((torch.zeros(4, 3),), "a batch of type tuple has no known target"),
        (
            {"audio": torch.zeros(4, 3), "klass": torch.zeros(4)},
            r"keys \['audio', 'klass'\] and none of target",
        ),
    ],
)
def test_unreadable_batches(model, batch, message):
    with pytest.raises(UsageError, match=message):
        collect_features(handles(model), model, [batch])


def test_the_advice_names_what_the_function_takes(model, data):
    """`collect_features` and `examine_model` have no parameter `target_of`, only a reader."""
    odd = batches_of(data, lambda a, v, y: {"audio": a, "video": v, "klass": y})
    with pytest.raises(UsageError, match=r"reader=equipoise\.BatchReader\("):
        collect_features(handles(model), model, odd)
    reader = eq.BatchReader(lambda b: (b["audio"], b["video"]), lambda b: b["klass"])
    assert same(collect_features(handles(model), model, odd, reader=reader), model, data)


class Returns(nn.Module):
    """One encoder that returns a given output."""

    def __init__(self, output) -> None:
        super().__init__()
        self.net = nn.Module()
        self.net.forward = output
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.net(x)


IMAGE = torch.arange(4 * 3 * 2 * 5, dtype=torch.float32).reshape(4, 3, 2, 5)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (lambda x: x, IMAGE.mean((2, 3))),
        (lambda x: x.flatten(2).transpose(1, 2), IMAGE.mean((2, 3))),  # a sequence of 10 steps
        (lambda x: x[:, :, None].expand(-1, -1, 7, -1, -1), IMAGE.mean((2, 3))),  # a video map
        (lambda x: (x[:, :, 0], {"attention": x}), IMAGE[:, :, 0].mean(1)),
        (lambda x: [(x[:, :, 0, 0], x)], IMAGE[:, :, 0, 0]),
        (lambda x: x[:, :, 0].transpose(1, 2).reshape(20, 3), IMAGE[:, :, 0].mean(2)),  # 5 frames each
        (lambda x: x[:, :, 0, 0].bfloat16(), IMAGE[:, :, 0, 0].bfloat16().float()),
        (lambda x: x[:, :, 0, 0].double() + 1e-12, IMAGE[:, :, 0, 0].double() + 1e-12),
    ],
)
def test_outputs_are_pooled_to_one_vector_each(output, expected):
    model = Returns(output)
    captured = collect_features({"m": model.net}, model, [(IMAGE, torch.arange(4))])
    assert captured.features["m"].dtype == expected.dtype
    assert torch.allclose(captured.features["m"], expected, atol=1e-9)


def test_pool_for_all_or_by_name(model, data):
    batches = [data]
    plain = collect_features(handles(model), model, batches).features
    doubled = collect_features(handles(model), model, batches, pool=lambda z: 2 * z).features
    named = collect_features(handles(model), model, batches, pool={"video": lambda z: z[:, :1]}).features
    for name in plain:
        assert torch.equal(doubled[name], 2 * plain[name])
    assert torch.equal(named["audio"], plain["audio"])
    assert torch.equal(named["video"], plain["video"][:, :1])
    picked = Returns(lambda x: {"last_hidden_state": x})
    captured = collect_features(
        {"m": picked.net},
        picked,
        [(IMAGE, torch.arange(4))],
        pool=lambda out: out["last_hidden_state"][:, 0, 0],
    )
    assert torch.equal(captured.features["m"], IMAGE[:, 0, 0])


@pytest.mark.parametrize(
    ("output", "pool", "error", "message"),
    [
        (lambda x: {"z": x, "y": x}, None, ModelError, "of 'm' returned a dict with z, y; .* give pool="),
        (lambda x: x.sum(), None, ModelError, "features of shape"),
        (lambda x: x[:3, :, 0, 0], None, ModelError, "3 rows for a batch of 4"),
        (lambda x: x, lambda z: z, ModelError, r"pool= returned .* expected a tensor \[4, features\]"),
        (lambda x: x, lambda z: z.mean((2, 3))[:2], ModelError, "pool= returned"),
        (lambda x: x, lambda z: None, ModelError, "pool= returned NoneType"),
        (lambda x: x * 1j, None, ModelError, "of 'm' returned complex features; .* give pool="),
        (lambda x: x / 0, None, DataError, "encoder of 'm' returned NaN or infinite"),
    ],
)
def test_outputs_that_are_not_features(output, pool, error, message):
    model = Returns(output)
    with pytest.raises(error, match=message):
        collect_features({"m": model.net}, model, [(IMAGE, torch.arange(4))], pool=pool)


def test_invalid_handles(model, data):
    with pytest.raises(ModelError, match=r"handle of 'audio' \(Linear\) is not part of the model"):
        collect_features({"audio": nn.Linear(3, 4)}, model, [data])
    with pytest.raises(ModelError, match="handle of 'audio' .* was called 0 times"):
        collect_features({"audio": model.unused}, model, [data])
    with pytest.raises(UsageError, match="no encoder was given"):
        collect_features({}, model, [data])
    with pytest.raises(UsageError, match="handle of 'audio' is a str"):
        collect_features({"audio": "audio_net"}, model, [data])
    twice = nn.Sequential(model.audio_net[2], model.audio_net[2])
    with pytest.raises(ModelError, match="handle of 'm' .* was called 2 times"):
        collect_features({"m": model.audio_net[2]}, twice, [(data[0], data[2])])


def test_empty_loaders(model, data):
    for loader in ([], DataLoader(TensorDataset(*data), 64, drop_last=True)):
        with pytest.raises(DataError, match="the loader gave no batch"):
            collect_features(handles(model), model, loader)


def test_nan_in_a_later_batch_is_detected(model, data):
    data[1][13, 2] = float("nan")
    with pytest.raises(DataError, match="'video' returned NaN"):
        collect_features(handles(model), model, DataLoader(TensorDataset(*data), 4))


def test_one_encoder_for_two_modalities(data):
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 4)

        def forward(self, left, right):
            return self.net(left) + self.net(right)

    model = Shared()
    batches = [(data[0], data[0] + 1, data[2])]
    captured = collect_features({"left": model.net, "right": model.net}, model, batches).features
    with torch.no_grad():
        assert torch.allclose(captured["left"], model.net(data[0]))
        assert torch.allclose(captured["right"], model.net(data[0] + 1))
    with pytest.raises(ModelError, match="handle of 'left' .* called 2 times .* expected 1"):
        collect_features({"left": model.net}, model, batches)
