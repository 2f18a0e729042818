"""A user's own model, named as module:attribute."""

from __future__ import annotations

import sys
import textwrap

import pytest
import torch

from equipoise.models import BalancedModel, MultimodalModel, unimodal_logits
from equipoise.models.custom import check_contract, custom_model
from equipoise.types import ModelError, UsageError

SHAPES = {"audio": ((4,), "vector"), "a.b": ((3,), "vector")}

GOOD = """
    import torch
    from torch import nn
    from equipoise.models import BalancedModel, ConcatFusion, ConcatHead, MultimodalModel

    class Net(BalancedModel):
        def __init__(self, shapes, num_classes):
            super().__init__()
            self.modalities = tuple(shapes)
            self.num_outputs = num_classes
            self.nets = nn.ModuleList(nn.LazyLinear(5) for _ in shapes)
            self.drop = nn.Dropout(0.5)
            self.classifier = nn.Linear(5 * len(shapes), num_classes)

        def encoder_module(self, modality):
            return self.nets[self.modalities.index(modality)]

        def encode(self, batch, only=None):
            inputs = getattr(batch, "inputs", batch)
            wanted = [m for m in self.modalities if only is None or m in only]
            return {m: self.encoder_module(m)(inputs[m]) for m in wanted}

        def fuse(self, z):
            return self.classifier(torch.cat([z[m] for m in self.modalities], dim=1))

        @property
        def head(self):
            return ConcatHead(self.classifier, {m: 5 for m in self.modalities})

    class Models:
        @staticmethod
        def factory(shapes, num_classes):
            encoders = {m: nn.Linear(shape[0], 2) for m, (shape, kind) in shapes.items()}
            return MultimodalModel(encoders, ConcatFusion({m: 2 for m in shapes}, num_classes))

    factory = Models.factory

    def half(shapes, num_classes):
        return factory({"audio": shapes["audio"]}, num_classes)

    def one_argument(shapes):
        return None

    def nothing(shapes, num_classes):
        return None

    def raises(shapes, num_classes):
        raise KeyError("left")

    def plain(shapes, num_classes):
        return nn.Linear(1, 1)

    class WrongClasses(Net):
        def __init__(self, shapes, num_classes):
            super().__init__(shapes, num_classes)
            self.num_outputs += 1

    class WrongNames(Net):
        def __init__(self, shapes, num_classes):
            super().__init__(shapes, num_classes)
            self.modalities = ("audio", "vido")

    class NoTuple(Net):
        def __init__(self, shapes, num_classes):
            super().__init__(shapes, num_classes)
            self.modalities = list(shapes)

    class NoEncoder(Net):
        def encoder_module(self, modality):
            return None

    class EncodeFails(Net):
        def encode(self, batch, only=None):
            return {m: batch[m] @ torch.ones(7, 2) for m in self.modalities}

    class EncodeLacks(Net):
        def encode(self, batch, only=None):
            return {"audio": self.nets[0](batch["audio"])}

    class NotPooled(Net):
        def encode(self, batch, only=None):
            return {m: z[:, None] for m, z in super().encode(batch, only).items()}

    class FuseWrong(Net):
        def fuse(self, z):
            return super().fuse(z)[:, :1]

    class ForwardWrong(Net):
        def forward(self, batch):
            return self.fuse(self.encode(batch))

    class ForwardCalled(Net):
        def __init__(self, shapes, num_classes):
            super().__init__(shapes, num_classes)
            self.nets = nn.ModuleList(nn.Linear(shape[0], 5) for shape, kind in shapes.values())

        def encode(self, batch, only=None):
            return {m: self.encoder_module(m).forward(batch[m]) for m in self.modalities}

    class LayersCalled(ForwardCalled):
        def __init__(self, shapes, num_classes):
            super().__init__(shapes, num_classes)
            self.nets = nn.ModuleList(nn.Sequential(net, nn.ReLU()) for net in self.nets)

        def encode(self, batch, only=None):
            return {m: self.encoder_module(m)[0](batch[m]).relu() for m in self.modalities}

    class CalledTwice(Net):
        def encode(self, batch, only=None):
            super().encode(batch, ["audio"])
            return super().encode(batch, only)

    class MadeAnew(ForwardCalled):
        def encoder_module(self, modality):
            return nn.Sequential(super().encoder_module(modality))

        def encode(self, batch, only=None):
            return {m: self.encoder_module(m)(batch[m]) for m in self.modalities}

    class Shared(Net):
        def __init__(self, shapes, num_classes):
            super().__init__(shapes, num_classes)
            self.net = nn.Linear(5, 5)
            self.pads = {m: 5 - shape[0] for m, (shape, kind) in shapes.items()}

        def encoder_module(self, modality):
            return self.net

        def encode(self, batch, only=None):
            return {m: self.net(nn.functional.pad(batch[m], (0, self.pads[m]))) for m in self.modalities}

    class SharedOnce(Shared):
        def encode(self, batch, only=None):
            padded = [nn.functional.pad(batch[m], (0, self.pads[m])) for m in self.modalities]
            return dict(zip(self.modalities, self.net(torch.cat(padded)).chunk(2)))

    class Abstract(BalancedModel):
        def __init__(self, shapes, num_classes):
            super().__init__()

    number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(textwrap.dedent(GOOD), encoding="utf-8")
    (tmp_path / "broken_models.py").write_text("import no_such_package_anywhere\n", encoding="utf-8")
    (tmp_path / "typo_models.py").write_text("x = = 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("my_models", "broken_models", "typo_models"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("attribute", ["Net", "factory", "Models.factory"])
def test_a_model_in_the_current_folder(folder, attribute):
    path, state = list(sys.path), torch.get_rng_state()
    model = custom_model(f"my_models:{attribute}", SHAPES, 3, seed=1)
    assert sys.path == path
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(model, BalancedModel)
    assert model.modalities == ("audio", "a.b")
    assert all(part.training for part in model.modules())
    x = {"audio": torch.randn(2, 4), "a.b": torch.randn(2, 3)}
    output = model(x)
    slices = unimodal_logits(model, output.features)
    torch.testing.assert_close(sum(slices.values()), output.logits)
    groups = [model.encoder_parameters(m) for m in SHAPES] + [model.fusion_parameters()]
    assert sum(len(g) for g in groups) == len(list(model.parameters()))
    assert [len(g) for g in groups] == [2, 2, 2]
    assert model.shared_parameters() == []
    assert {"additive_head", "shared_head"} <= model.capabilities


def test_initial_weights_depend_on_the_seed_only(folder):
    def weights(seed):
        torch.rand(3)
        return torch.cat([p.flatten() for p in custom_model("my_models:Net", SHAPES, 3, seed).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_model_may_read_fewer_modalities(folder):
    assert custom_model("my_models:half", SHAPES, 3).modalities == ("audio",)


@pytest.mark.parametrize(
    "spec", ["my_models", "my_models:", ":Net", "my models:Net", "my_models:Net()", "a:b:c"]
)
def test_an_invalid_name_is_a_usage_error(folder, spec):
    with pytest.raises(UsageError, match="module:Class"):
        custom_model(spec, SHAPES, 3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("their_models:Net", "no module 'their_models'"),
        ("my_models.part:Net", "no module 'my_models.part'"),
        ("my_models:Nett", "has no 'Nett'"),
        ("my_models:number", "names a int; expected a class"),
        ("my_models:one_argument", r"factory\(shapes, num_classes\)"),
    ],
)
def test_the_name_of_no_model_is_a_usage_error(folder, spec, words):
    with pytest.raises(UsageError, match=words):
        custom_model(spec, SHAPES, 3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("broken_models:Net", "importing 'broken_models'.*no_such_package_anywhere"),
        ("typo_models:Net", "importing 'typo_models' failed with SyntaxError"),
        ("my_models:nothing", "gave a NoneType"),
        ("my_models:raises", "KeyError: 'left'"),
        ("my_models:plain", "lacks .*encode, fuse, encoder_module.*models.BalancedModel"),
        ("my_models:Abstract", "abstract"),
        ("my_models:WrongClasses", "num_outputs is 4; the data have 3"),
        ("my_models:WrongNames", "reads 'vido'"),
        ("my_models:NoTuple", "must be a tuple"),
        ("my_models:NoEncoder", "must be a module; found NoneType"),
        ("my_models:EncodeFails", "encode on two samples of zeros failed with RuntimeError"),
        ("my_models:EncodeLacks", "features of 'audio', 'a.b'; found 'audio'"),
        ("my_models:NotPooled", r"'audio' features \[B, d\]; found \(2, 1, 5\)"),
        ("my_models:FuseWrong", r"fuse must return logits \[B, 3\]; found \(2, 1\)"),
        ("my_models:ForwardWrong", "forward must return a ModelOutput; found Tensor"),
        ("my_models:ForwardCalled", r"encoder_module\('audio'\).*once.*calls found: 0"),
        ("my_models:LayersCalled", r"encoder_module\('audio'\).*once.*calls found: 0"),
        ("my_models:MadeAnew", r"encoder_module\('audio'\).*once.*calls found: 0"),
        ("my_models:CalledTwice", r"encoder_module\('audio'\).*once.*calls found: 2"),
        ("my_models:SharedOnce", r"encoder_module\('audio'\).*once for each.*'audio', 'a.b'; calls found: 1"),
    ],
)
def test_errors_name_the_problem(folder, spec, words):
    path = list(sys.path)
    with pytest.raises(ModelError, match=words):
        custom_model(spec, SHAPES, 3)
    assert sys.path == path


def test_an_encoder_for_two_modalities_is_called_for_each(folder):
    model = custom_model("my_models:Shared", SHAPES, 3)
    assert model.encoder_module("audio") is model.encoder_module("a.b")
    assert not model.net._forward_hooks  # the check removes its hooks


def test_a_module_with_the_same_methods_needs_no_base_class(folder):
    inner = custom_model("my_models:factory", SHAPES, 3)
    assert check_contract(inner, SHAPES, 3) is inner

    class Duck(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner
            self.modalities, self.num_outputs, self.task = inner.modalities, 3, "classification"
            self.head, self.capabilities = None, frozenset()

        def forward(self, batch):
            return self.inner(batch)

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

    duck = Duck()
    assert check_contract(duck, SHAPES, 3) is duck


def test_the_check_does_not_change_modes_and_statistics():
    model = MultimodalModel(
        {m: torch.nn.BatchNorm1d(shape[0]) for m, (shape, _) in SHAPES.items()},
        torch.nn.Sequential(Cat(), torch.nn.Linear(7, 3)),
        num_classes=3,
    ).train()
    model.encoder_module("audio").eval()
    before = {name: value.clone() for name, value in model.named_buffers()}
    check_contract(model, SHAPES, 3)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert [model.encoder_module(m).training for m in SHAPES] == [False, True]


class Cat(torch.nn.Module):
    def forward(self, z):
        return torch.cat(list(z.values()), dim=1)
