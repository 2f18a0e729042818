"""Side effects of re-learning: averaged copies, compiled code, optimisers, encoders of all kinds."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq
from equipoise.relearning.blend import snapshot
from two_processes import TwoStreams, loaders

FIXED = {"every": 1, "count": 1, "strength": "fixed", "max_alpha": 0.3}
"""A strength that does not depend on the gap, so that expected values are known."""


def fresh() -> TwoStreams:
    torch.manual_seed(0)
    return TwoStreams()


def handles(model: Any) -> dict[str, nn.Module]:
    return {"audio": model.audio, "video": model.video}


def trained(
    model: nn.Module, optimizer: torch.optim.Optimizer, after: Callable[[], Any] = lambda: None
) -> None:
    model.train()
    for audio, video, target in list(loaders(shared=False)[0])[:-1]:  # all of equal size
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(audio, video), target).backward()
        optimizer.step()
        after()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("policy", ["keep", "blend", "copy", None])
@pytest.mark.parametrize("inner", [False, True], ids=["model", "part"])
def test_averaged_copies(policy: str | None, inner: bool) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = fresh()

        def forward(self, *inputs: Tensor) -> Tensor:
            return self.net(*inputs)

    model = Around()
    initial = state(model.net.audio)
    average = AveragedModel(model.net if inner else model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    options = {} if policy is None else {"ema": average, "ema_policy": policy}
    relearn = eq.DiagnoseRelearn(handles(model.net), **FIXED, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trained(model, optimizer, lambda: average.update_parameters(model.net if inner else model))
    held = average.module if inner else average.module.net
    before, head = state(held.audio), state(held.head)
    relearn.step(1, model, *loaders(shared=False))
    now = state(model.net.audio)
    for name, value in state(held.audio).items():
        is_parameter = "running" not in name and "num" not in name
        expected = {
            "keep": before[name],
            None: before[name],
            "copy": now[name],
            "blend": 0.7 * before[name] + 0.3 * initial[name] if is_parameter else before[name],
        }[policy]
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    assert all(torch.equal(value, head[name]) for name, value in state(held.head).items())


@pytest.mark.usefixtures("float64")
def test_a_blended_average_equals_the_average_of_blended_weights() -> None:
    model = fresh()
    initial, past = state(model.audio), []
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    relearn = eq.DiagnoseRelearn(handles(model), ema=[average], **FIXED)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trained(model, optimizer, lambda: (average.update_parameters(model), past.append(state(model.audio))))
    relearn.step(1, model, *loaders(shared=False))
    for name, parameter in average.module.audio.named_parameters():
        found = 0.7 * past[0][name] + 0.3 * initial[name]
        for weights in past[1:]:
            found = 0.8 * found + 0.2 * (0.7 * weights[name] + 0.3 * initial[name])
        torch.testing.assert_close(parameter, found, rtol=0, atol=1e-10)


def test_a_copy_without_the_encoder_is_refused() -> None:
    model = fresh()
    relearn = eq.DiagnoseRelearn(handles(model), ema=nn.Linear(2, 2), **FIXED)
    with pytest.raises(eq.ModelError, match=r"copy \(Linear\) holds no copy of the encoder 'audio'"):
        relearn.step(1, model, *loaders(shared=False))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("how", ["whole model", "model in place", "encoder"])
def test_compiled_modules_are_unwrapped_and_not_compiled_again(how: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    model, plain = fresh(), fresh()
    encoders, called = handles(model), model
    if how == "whole model":
        called = torch.compile(model, backend=counter)
    elif how == "model in place":
        model.compile(backend=counter)
    else:
        model.audio = torch.compile(model.audio, backend=counter)
        encoders["audio"] = model.audio
    training, validation = loaders(shared=False)
    audio, video, _ = next(iter(validation))

    def run(net: Any, called: nn.Module, encoders: dict[str, nn.Module]) -> Tensor:
        relearn = eq.DiagnoseRelearn(encoders, **FIXED)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        trained(called, optimizer)
        called.eval()
        with torch.no_grad():
            called(audio, video)  # also compiled for evaluation, without hooks
        frames = counter.frame_count
        generators = torch.random.get_rng_state()
        relearn.step(1, called, training, validation)
        assert torch.equal(generators, torch.random.get_rng_state())
        trained(called, optimizer)
        assert counter.frame_count == frames
        called.eval()
        with torch.no_grad():
            return called(audio, video)

    with torch.random.fork_rng():
        expected = run(plain, plain, handles(plain))
    torch.testing.assert_close(run(model, called, encoders), expected, rtol=0, atol=1e-10)


@pytest.mark.usefixtures("float64")
def test_code_compiled_by_inductor_uses_the_new_weights() -> None:
    torch._dynamo.reset()
    model = fresh()
    compiled = torch.compile(model)
    training, validation = loaders(shared=False)
    audio, video, _ = next(iter(validation))
    relearn = eq.DiagnoseRelearn(handles(model), **FIXED)
    compiled.eval()
    with torch.no_grad():
        compiled(audio, video)
        for parameter in model.parameters():
            parameter.mul_(1.5)
        relearn.step(1, compiled, training, validation)
        torch.testing.assert_close(compiled(audio, video), model(audio, video), rtol=0, atol=1e-10)


def test_names_are_those_of_the_compiled_encoder() -> None:
    model = fresh()
    compiled = torch.compile(model.audio, backend="eager")
    assert snapshot(compiled).keys() == model.audio.state_dict().keys()
    before = state(model.audio)
    zeros = {name: torch.zeros_like(value) for name, value in before.items()}
    assert eq.soft_reinitialize(compiled, zeros, 0.5, parameters=["0.weight"]) is compiled
    torch.testing.assert_close(model.audio[0].weight, before["0.weight"] / 2)


def test_several_optimisers_are_updated() -> None:
    model = fresh()
    optimizers = [
        torch.optim.Adam(model.audio.parameters(), lr=0.01, fused=True),
        torch.optim.SGD([*model.video.parameters(), *model.head.parameters()], lr=0.1, momentum=0.9),
    ]
    relearn = eq.DiagnoseRelearn(
        handles(model), optimizer=optimizers, optimizer_state="zero", rewarm_steps=4, **FIXED
    )
    for optimizer in optimizers:
        trained(model, optimizer)
    relearn.step(1, model, *loaders(shared=False))
    for part, optimizer in ((model.audio, optimizers[0]), (model.video, optimizers[1])):
        for parameter in part.parameters():
            assert not any(v.any() for v in optimizer.state[parameter].values() if v is not None)
    assert any(v.any() for v in optimizers[1].state[model.head.weight].values())
    assert relearn.state_dict()["rewarmed"] == [0, 0]
    optimizers[1].step()
    kept = relearn.state_dict()
    assert kept["rewarmed"] == [0, 1]
    again = eq.DiagnoseRelearn(handles(model), optimizer=optimizers, rewarm_steps=4, **FIXED)
    again.load_state_dict(kept)
    assert again.state_dict()["rewarmed"] == [0, 1]


def test_the_head_is_refitted_with_its_learning_rate() -> None:
    model = fresh()
    groups = [{"params": [*model.audio.parameters(), *model.video.parameters()], "lr": 0.0}]
    optimizer = torch.optim.SGD([*groups, {"params": model.head.parameters(), "lr": 0.5}])
    relearn = eq.DiagnoseRelearn(
        handles(model), optimizer=optimizer, head=model.head, head_policy="refit", **FIXED
    )
    before = state(model.head)
    relearn.step(1, model, *loaders(shared=False))
    assert not torch.equal(model.head.weight, before["weight"])


class Named(NamedTuple):
    features: Tensor
    rest: int


@dataclass
class Output:
    last_hidden_state: Tensor
    pooler_output: Tensor | None = None


class Encoder(nn.Module):
    def __init__(self, returned: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.returned = nn.Linear(6, 8), returned

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Any:
        return self.returned(self.layer(x))


class One(nn.Module):
    def __init__(self, encoder: nn.Module, calls: int = 1) -> None:
        super().__init__()
        self.encoder, self.calls = encoder, calls

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        for _ in range(self.calls):
            self.encoder(x, attention_mask=attention_mask)
        return x


OUTPUTS = {
    "tensor": lambda z: z[:, 0],
    "tuple": lambda z: (z[:, 0], None),
    "named tuple": lambda z: Named(z[:, 0], 3),
    "dict": lambda z: {"features": z[:, 0], "count": 3},
    "dict in a tuple": lambda z: ({"features": z[:, 0]},),
    "dataclass": lambda z: Output(z, z[:, 0]),
    "ordered": lambda z: OrderedDict(last_hidden_state=z, pooler_output=z[:, 0], hidden_states=(z, z)),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", OUTPUTS)
def test_supported_outputs_of_an_encoder(kind: str) -> None:
    x, target = torch.randn(12, 5, 6), torch.arange(12) % 3
    encoder = Encoder(OUTPUTS[kind])
    found = eq.collect_features({"m": encoder}, One(encoder), DataLoader(TensorDataset(x, target), 4))
    torch.testing.assert_close(found.features["m"], encoder.layer(x)[:, 0].detach())


@pytest.mark.usefixtures("float64")
def test_a_sequence_is_averaged_over_its_unmasked_positions() -> None:
    x, target, mask = torch.randn(12, 5, 6), torch.arange(12) % 3, torch.ones(12, 5, dtype=torch.long)
    mask[:, 3:] = 0
    mask[0, 1:] = 0
    encoder = Encoder(Output)
    z = encoder.layer(x).detach()
    for given, expected in ((mask, torch.cat([z[:1, 0], z[1:, :3].mean(1)])), (None, z.mean(1))):
        data = [x, target] if given is None else [x, given, target]
        found = eq.collect_features({"m": encoder}, One(encoder), DataLoader(TensorDataset(*data), 4))
        torch.testing.assert_close(found.features["m"], expected)


def test_an_encoder_called_twice_is_refused_unless_named_twice() -> None:
    x, target = torch.randn(12, 5, 6), torch.arange(12) % 3
    encoder = Encoder(OUTPUTS["tensor"])
    model, loader = One(encoder, calls=2), DataLoader(TensorDataset(x, target), 4)
    with pytest.raises(eq.ModelError, match=r"'m' \(Encoder\) was called 2 times .* expected 1"):
        eq.DiagnoseRelearn({"m": encoder}, **FIXED).step(1, model, loader, loader)
    relearn = eq.DiagnoseRelearn({"m": encoder, "n": encoder}, **FIXED)
    before = state(encoder)
    for parameter in encoder.parameters():
        nn.init.ones_(parameter)
    relearn.step(1, model, loader, loader)
    for name, value in state(encoder).items():  # blended once
        torch.testing.assert_close(value, 0.7 + 0.3 * before[name])


def test_a_model_that_needs_the_target_gets_it() -> None:
    class Trained(One):
        def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
            return nn.functional.cross_entropy(self.encoder(x), labels)

    encoder = Encoder(OUTPUTS["tensor"])
    rows = [{"x": torch.randn(5, 6), "labels": n % 3, "name": n} for n in range(12)]
    found = eq.collect_features({"m": encoder}, Trained(encoder), DataLoader(rows, 4))
    assert found.features["m"].shape == (12, 8)


def test_frozen_encoders_are_not_changed() -> None:
    model = fresh()
    relearn = eq.DiagnoseRelearn(handles(model), **FIXED)
    model.video.requires_grad_(False)
    for parameter in model.parameters():
        parameter.data.mul_(2)
    before = state(model)
    found = relearn.step(1, model, *loaders(shared=False))
    changed = {name for name, value in state(model).items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"audio"}
    assert found["video"].applied == 0
    assert "frozen" in relearn.history[0]["left_alone"]["video"]


@pytest.mark.parametrize("what", ["accumulation", "autocast", "clipping", "groups"])
def test_at_strength_zero_any_loop_gives_the_same_bits(what: str) -> None:
    def ended(lam: float | None) -> dict[str, Tensor]:
        model = fresh()
        groups = [{"params": part.parameters(), "lr": 0.01 * n} for n, part in enumerate(model.children(), 1)]
        optimizer = torch.optim.AdamW(groups if what == "groups" else model.parameters(), lr=0.01)
        relearn = None if lam is None else eq.DiagnoseRelearn(handles(model), every=1, count=2, lam=lam)
        training, validation = loaders(shared=False)
        torch.manual_seed(3)
        for epoch in range(4):
            model.train()
            for n, (audio, video, target) in enumerate(training):
                with torch.autocast("cpu", torch.bfloat16, enabled=what == "autocast"):
                    nn.functional.cross_entropy(model(audio, video), target).backward()
                if what == "accumulation" and n % 2:
                    continue  # gradients still exist when the encoders are re-learnt
                if what == "clipping":
                    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                optimizer.step()
                optimizer.zero_grad()
            if relearn and relearn.due(epoch):
                with torch.autocast("cpu", torch.bfloat16, enabled=what == "autocast"):
                    relearn.step(epoch, model, training, validation)
        return copy.deepcopy(model.state_dict())

    plain, still, moved = ended(None), ended(0.0), ended(3.0)
    assert all(torch.equal(value, still[name]) for name, value in plain.items())
    assert not all(torch.equal(value, moved[name]) for name, value in plain.items())
