"""Methods in a user-defined loop: they work with any loop and model, or raise a clear one-line error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq
from against_trainer import FITTING, OPTIONS

EPOCHS = 3


class Net(nn.Module):
    """Two encoders and a head, nothing between them."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8))
        self.video = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 7))
        self.head = nn.Linear(15, 3)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio(audio), self.video(video)], dim=1))


def made(kind: Callable[[], nn.Module] = Net) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind()


def batches(size: int = 12, n: int = 48) -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(0)
    target = torch.arange(n) % 3
    audio = torch.randn(n, 6, generator=draw) + target[:, None]
    video = torch.randn(n, 5, generator=draw) + 0.4 * target[:, None]
    return DataLoader(TensorDataset(audio, video, target), batch_size=size, generator=torch.Generator())


def encoders_of(net: Any) -> dict[str, nn.Module]:
    return {"audio": net.audio, "video": net.video}


def sgd(net: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def prepared(name: Any, net: Any, optimizer: Any, loader: Any = None, **options: Any) -> eq.HandTraining:
    given = {"head": net.head, "epochs": EPOCHS, **options}
    given["encoders"] = options.get("encoders") or encoders_of(net)
    return eq.by_hand(name, net, train_loader=loader or batches(), optimizer=optimizer, **given)


def train(method: eq.HandTraining, optimizer: Any, loader: Any = None, *, parts: int = 1) -> None:
    for _ in method.epochs():
        for place, batch in enumerate(loader or batches(12 // parts)):
            (method.loss(batch) / parts).backward()
            if (place + 1) % parts == 0:
                method.on_gradients()
                optimizer.step()
                optimizer.zero_grad()


def fitted(name: str, kind: Callable[[], nn.Module] = Net, *, parts: int = 1, **options: Any) -> Any:
    net = made(kind)
    optimizer = sgd(net)
    train(prepared(name, net, optimizer, **options), optimizer, parts=parts)
    return net


def plain_loop(net: Any) -> Any:
    optimizer = sgd(net)
    for _ in range(EPOCHS):
        for *inputs, target in batches():
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(*inputs), target).backward()
            optimizer.step()
    return net


def assert_close(one: nn.Module, other: nn.Module) -> None:
    """Check for equal weights, in tests that use the fixture `float64`."""
    for (name, left), right in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(
            left, right, rtol=0, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
        )


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


OFF = {
    "joint": {},
    "ogm": {"alpha": 0.0},
    "ogm-ge": {"alpha": 0.0, "end_epoch": -1},
    "opm": {"q_base": 0.0},
    "agm": {"alpha": 0.0},
    "multi-loss": {"weight": 0.0},
    "pmr": {"alpha": 0.0, "mu": 0.0},
    "mcr": {"lam": 0.0, "lam_uni": 0.0, "lam_con": 0.0},
    "cml": {"lam": 0.0, "subset_losses": False},
    "inforeg": {"threshold": 1.0},
    "dgl": {"start_epoch": 9},
    "mmpareto": {"start_epoch": 9},
    "cggm": {"rho": None, "lam": 0.0},
    "fixed-modulation": {"factors": {"audio": 1.0}},
}


@pytest.mark.parametrize("name", OFF)
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_switched_off_it_equals_the_plain_loop_bit_for_bit(name: str) -> None:
    assert equal(fitted(name, **OFF[name]), plain_loop(made()))


@pytest.mark.parametrize("name", ["joint", "mmpareto", "agm", "mcr", "ogm-ge", "ogm+multi-loss", "pmr"])
def test_the_ignored_class_is_refused_by_methods_that_read_classes(name: str) -> None:
    net = made()
    optimizer = sgd(net)
    method = prepared(name, net, optimizer)
    audio, video, target = next(iter(batches()))
    target[:2] = -100
    method.start_epoch(0)
    if name in ("joint", "mmpareto"):
        expected = nn.functional.cross_entropy(net(audio, video), target)
        method.loss((audio, video, target))
        assert method.terms["joint"] == expected
        return
    with pytest.raises(eq.DataError, match="2 of 12 labels are -100"):
        method.loss((audio, video, target))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", FITTING)
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_two_half_batches_equal_one_whole_batch(name: str) -> None:
    options = {"mode": "encoder-grad"} if name == "agm" else OPTIONS.get(name, {})
    if name in ("cggm", "cml", "mcr", "mmpareto", "opm", "pmr"):
        # These depend on the batch as a whole, or draw once per pass: as documented, a pass counts as a step.
        assert all(torch.isfinite(p).all() for p in fitted(name, parts=2, **options).parameters())
        return
    assert_close(fitted(name, **options), fitted(name, parts=2, **options))


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_resuming_from_a_checkpoint_gives_the_same_end(name: str) -> None:
    options = OPTIONS.get(name, {})
    whole = made()
    optimizer = sgd(whole)
    method = prepared(name, whole, optimizer, **options)
    kept: dict[str, Any] = {}
    for epoch in method.epochs():
        for batch in batches():
            optimizer.zero_grad()
            method.loss(batch).backward()
            method.on_gradients()
            optimizer.step()
        if epoch == 0:
            state = {"model": whole.state_dict(), "optimizer": optimizer.state_dict()}
            kept = _copied({**state, "method": method.state_dict()})
    again = made()
    optimizer = sgd(again)
    resumed = prepared(name, again, optimizer, **options)
    again.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    resumed.load_state_dict(kept["method"])
    train(resumed, optimizer)
    assert equal(again, whole)


def _copied(state: Any) -> Any:
    """What a file would contain."""
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.usefixtures("float64")
def test_several_optimizers_act_as_one() -> None:
    net = made()
    groups = ([*net.audio.parameters()], [*net.video.parameters()], [*net.head.parameters()])
    optimizers = [torch.optim.SGD(group, lr=0.1, momentum=0.9) for group in groups]
    method = prepared("ogm", net, optimizers, end_epoch=2)
    for _ in method.epochs():
        for batch in batches():
            method.loss(batch).backward()
            method.on_gradients()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert_close(net, fitted("ogm", end_epoch=2))


def test_modules_of_the_method_follow_the_schedule_and_groups() -> None:
    net = made()
    optimizer = torch.optim.SGD([{"params": net.parameters(), "lr": 0.2, "momentum": 0.5}], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    method = prepared("multi-loss", net, optimizer)
    train(method, optimizer)
    (extra,) = (o for o in method._run.optimizer.optimizers if o is not optimizer)
    assert extra.param_groups[0]["lr"] == pytest.approx(0.2)
    assert extra.param_groups[0]["momentum"] == 0.5
    schedule.step()
    method.start_epoch(0)
    method.loss(next(iter(batches()))).backward()
    method.on_gradients()
    optimizer.step()
    assert extra.param_groups[0]["lr"] == pytest.approx(0.02)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["multi-loss", "mmpareto", "ogm"])
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_a_scaler_changes_nothing(name: str) -> None:
    net = made()
    optimizer = sgd(net)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    method = prepared(name, net, optimizer, scaler=scaler)
    for _ in method.epochs():
        for batch in batches():
            optimizer.zero_grad()
            scaler.scale(method.loss(batch)).backward()
            scaler.unscale_(optimizer)
            method.on_gradients()
            scaler.step(optimizer)
            scaler.update()
    assert_close(net, fitted(name))


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_bf16_autocast(name: str) -> None:
    net = made()
    optimizer = sgd(net)
    method = prepared(name, net, optimizer, **OPTIONS.get(name, {}))
    for _ in method.epochs():
        for batch in batches():
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = method.loss(batch)
            loss.backward()
            method.on_gradients()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
    assert all(torch.isfinite(p).all() for p in net.parameters())
    assert not equal(net, made())


class Frozen(Net):
    def __init__(self) -> None:
        super().__init__()
        self.video.requires_grad_(False)


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_a_frozen_encoder_does_not_change(name: str) -> None:
    net = fitted(name, Frozen, **OPTIONS.get(name, {}))
    before = made(Frozen)
    assert equal(net.video, before.video)
    assert not equal(net.audio, before.audio)


class Shared(nn.Module):
    """One encoder for both modalities."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))
        self.head = nn.Linear(8, 3)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.eye(audio[:, :5]), self.eye(video)], dim=1))


def test_a_shared_encoder_works_or_is_refused_in_one_line() -> None:
    net = made(Shared)
    both = {"left": net.eye, "right": net.eye}
    optimizer = sgd(net)
    train(prepared("multi-loss", net, optimizer, encoders=both), optimizer)
    optimizer = sgd(net)
    train(prepared("opm", net, optimizer, encoders=both, start_epoch=0), optimizer)
    assert not equal(net, made(Shared))
    with pytest.raises(eq.UsageError, match="shares all its parameters"):
        prepared("ogm", net, sgd(net), encoders=both)


class Twice(Net):
    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return super().forward(audio, video) + super().forward(audio, video)


class Unused(Net):
    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio(audio), torch.zeros(len(audio), 7)], dim=1))


@pytest.mark.parametrize(("kind", "calls"), [(Twice, 2), (Unused, 0)])
def test_an_encoder_called_twice_or_never_is_refused(kind: Any, calls: int) -> None:
    net = made(kind)
    with pytest.raises(eq.ModelError, match=f"called {calls} times in one forward pass; expected 1"):
        prepared("multi-loss", net, sgd(net), head=None)


@dataclass
class Output:
    feature: Tensor
    attention: Tensor | None = None


class Structured(Net):
    """An encoder that returns a structure around the feature."""

    def __init__(self, around: Callable[[Tensor], Any], pick: Callable[[Any], Tensor]) -> None:
        super().__init__()
        own, self.pick = self.audio, pick
        self.audio = nn.Sequential(own, _Around(around))

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.pick(self.audio(audio)), self.video(video)], dim=1))


class _Around(nn.Module):
    def __init__(self, around: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.around = around

    def forward(self, z: Tensor) -> Any:
        return self.around(z)


STRUCTURES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "tuple": (lambda z: (z, z.sum()), lambda out: out[0]),
    "dict": (lambda z: {"feature": z, "n": 1}, lambda out: out["feature"]),
    "dataclass": (lambda z: Output(z), lambda out: out.feature),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", STRUCTURES)
@pytest.mark.parametrize("name", ["multi-loss", "dgl", "opm"])
def test_encoders_may_return_structures(kind: str, name: str) -> None:
    around, pick = STRUCTURES[kind]
    options = {"start_epoch": 0} if name == "opm" else {}
    net = fitted(name, lambda: Structured(around, pick), pool={"audio": pick}, **options)
    other = fitted(name, **options)
    assert_close(net.head, other.head)
    assert_close(net.audio[0], other.audio)


class Returning(Net):
    """A model that returns a structure around the logits."""

    def __init__(self, around: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.around = around

    def forward(self, audio: Tensor, video: Tensor) -> Any:
        return self.around(super().forward(audio, video))


@dataclass
class WithLogits:
    logits: Tensor


@pytest.mark.parametrize(
    "around",
    [WithLogits, lambda u: {"loss": None, "logits": u}, lambda u: (u,), lambda u: (u.sum(), u, u[:1])],
    ids=["dataclass", "dict", "tuple", "tuple with loss"],
)
def test_models_may_return_structures(around: Callable[[Tensor], Any]) -> None:
    assert equal(fitted("multi-loss", lambda: Returning(around)), fitted("multi-loss"))
    batch = next(iter(batches()))
    net = made(lambda: Returning(around))
    assert torch.equal(eq.BatchReader().logits(net, batch), made()(*batch[:2]))


class Complex(Net):
    def __init__(self) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Linear(6, 8), _Around(lambda z: torch.complex(z[:, :4], z[:, 4:])))

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([as_real(self.audio(audio)), self.video(video)], dim=1))


def as_real(z: Tensor) -> Tensor:
    return torch.view_as_real(z).flatten(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["multi-loss", "cggm", "mcr", "mmpareto", "ogm-ge"])
def test_the_modules_of_a_method_have_the_precision_of_the_model(name: str, dtype: torch.dtype) -> None:
    *inputs, target = batches().dataset.tensors  # type: ignore[attr-defined]
    net = made().to(dtype)
    optimizer = sgd(net)
    loader = DataLoader(TensorDataset(*(x.to(dtype) for x in inputs), target), batch_size=12)
    method = prepared(name, net, optimizer, loader)
    train(method, optimizer, loader)
    assert all(torch.isfinite(value).all() for value in net.parameters())
    if dtype is torch.float64:  # the same training in float32, up to its precision
        for key, value in fitted(name).state_dict().items():
            torch.testing.assert_close(net.state_dict()[key].float(), value, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("name", ["multi-loss", "pmr"])
def test_complex_features_are_refused_unless_they_are_pooled_to_real_ones(name: str) -> None:
    with pytest.raises(eq.ModelError, match="of 'audio' returned complex features; .* give pool="):
        fitted(name, Complex)
    assert torch.isfinite(fitted(name, Complex, pool={"audio": as_real}).head.weight).all()


class Maps(nn.Module):
    """Feature maps, which the model pools itself."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.video = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 5, 3)
        self.head = nn.Linear(9, 3)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        maps = (
            self.audio(audio.reshape(-1, 1, 3, 2).repeat(1, 1, 1, 2)),
            self.video(video[:, None, None].repeat(1, 1, 4, 1)),
        )
        return self.head(torch.cat([z.mean(dim=(2, 3)) for z in maps], dim=1))


def test_pooled_features_work_unless_the_method_replaces_them() -> None:
    net = fitted("ogm-ge", Maps, end_epoch=2)
    assert not equal(net, made(Maps))
    fitted("multi-loss", Maps)
    with pytest.raises(eq.ModelError, match="pooled from its encoder's output"):
        fitted("dgl", Maps)


@pytest.mark.usefixtures("float64")
def test_batches_and_models_of_any_structure() -> None:
    class Named(Net):
        def forward(self, *, sound: Tensor, frames: dict[str, Tensor], mask: Any = None) -> dict[str, Tensor]:
            return {"logits": super().forward(sound, frames["rgb"]), "extra": sound}

    class Rows:
        def __len__(self) -> int:
            return 4

        def __iter__(self) -> Iterator[Any]:
            for audio, video, target in batches():
                yield {"x": (audio, {"rgb": video}), "truth": {"label": target}}

    net = made(Named)
    optimizer = sgd(net)
    method = prepared(
        "multi-loss",
        net,
        optimizer,
        Rows(),
        inputs_of=lambda batch: {"sound": batch["x"][0], "frames": batch["x"][1]},
        target_of=lambda batch: batch["truth"]["label"],
    )
    train(method, optimizer, Rows())
    assert_close(net, fitted("multi-loss"))


@pytest.mark.usefixtures("float64")
def test_a_custom_criterion_is_the_joint_and_the_unimodal_loss() -> None:
    def smoothed(u: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(u, y, label_smoothing=0.2)

    net = made()
    method = prepared("multi-loss", net, sgd(net), criterion=smoothed)
    method.start_epoch(0)
    batch = next(iter(batches()))
    method.loss(batch)
    audio, video, target = batch
    assert float(method.terms["joint"]) == pytest.approx(
        float(smoothed(net(audio, video), target)), abs=1e-12
    )
    heads = method._run.modules["heads"].by_modality()
    found = smoothed(heads["audio"](net.audio(audio)), target) + smoothed(
        heads["video"](net.video(video)), target
    )
    assert float(method.terms["unimodal"]) == pytest.approx(float(found), abs=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_custom_step_returns_the_joint_loss() -> None:
    net = made()
    method = prepared("multi-loss", net, sgd(net))
    method.start_epoch(0)
    audio, video, target = batch = next(iter(batches()))

    def step() -> Tensor:
        return 3 * nn.functional.cross_entropy(net(audio, video), target)

    method.loss(batch, step)
    assert float(method.terms["joint"]) == pytest.approx(float(step()), abs=1e-12)


def test_compiled_encoders_work_and_a_compiled_model_is_refused() -> None:
    net = made()
    net.audio = torch.compile(net.audio, backend="eager")
    optimizer = sgd(net)
    for name, options in {"ogm": {"end_epoch": 2}, "opm": {"start_epoch": 0}, "dgl": {}}.items():
        method = prepared(name, net, optimizer, **options)
        train(method, optimizer)
        method.close()
    whole = torch.compile(made(), backend="eager")
    with pytest.raises(eq.ModelError, match="compile its encoders"):
        prepared("ogm", whole, sgd(whole), encoders=encoders_of(whole._orig_mod), head=None)


REFUSED = {
    "diagnose-relearn": "use equipoise.DiagnoseRelearn",
    "mla": "has its own inference rule",
    "unimodal:audio": "trains no joint model",
    "umt": "builds on finished runs",
    "modality-valuation": "chooses the training data",
    "gblend": "chooses the training data",
    "greedy": "needs a model with gates",
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_models_are_refused_before_training(name: str) -> None:
    net = made()
    with pytest.raises(eq.UsageError, match=REFUSED[name]):
        prepared(name, net, sgd(net))


def test_a_head_in_another_order_is_detected() -> None:
    class Reversed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.video = nn.Linear(5, 8)
            self.head = nn.Linear(16, 3)

        def forward(self, audio: Tensor, video: Tensor) -> Tensor:
            return self.head(torch.cat([self.video(video), self.audio(audio)], dim=1))

    net = made(Reversed)
    with pytest.raises(eq.ModelError, match="in the order video, audio"):
        prepared("ogm", net, sgd(net))
    prepared("ogm", net, sgd(net), encoders={"video": net.video, "audio": net.audio})


def test_mistakes_give_a_one_line_error() -> None:
    net = made()
    optimizer = sgd(net)
    with pytest.raises(eq.UsageError, match="needs a model with additive_head"):
        prepared("ogm", net, optimizer, head=None)
    with pytest.raises(eq.UnknownNameError, match="did you mean"):
        prepared("ogm-gee", net, optimizer)
    with pytest.raises(eq.UnknownNameError, match="alpa"):
        prepared("ogm", net, optimizer, alpa=1)
    with pytest.raises(eq.ModelError, match="not part of the model"):
        prepared("ogm", net, optimizer, encoders={"audio": nn.Linear(2, 2)})
    method = prepared("ogm", net, optimizer)
    with pytest.raises(eq.EquipoiseError, match="no epoch has begun"):
        method.loss(next(iter(batches())))
    method.start_epoch(0)
    with pytest.raises(eq.EquipoiseError, match="there was no loss"):
        method.on_gradients()
    method.loss(next(iter(batches()))).backward()
    with pytest.raises(eq.EquipoiseError, match="call on_gradients"):
        optimizer.step()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "options"), [("multi-loss", {}), ("ogm", {"apply": "update"}), ("inforeg", {})]
)
def test_a_skipped_step_has_no_side_effects(name: str, options: dict[str, Any]) -> None:
    net, without = made(), made()
    optimizer = sgd(net)
    method = prepared(name, net, optimizer, **options)
    for _ in method.epochs():
        for batch in batches():
            for attempt in range(2):  # the first one is discarded
                optimizer.zero_grad()
                method.loss(batch).backward()
                if not attempt:  # as a loss scaler that is too large leaves them
                    for parameter in net.parameters():
                        parameter.grad.fill_(torch.inf)
                method.on_gradients()
                if attempt:
                    optimizer.step()
    plain = sgd(without)
    train(expected := prepared(name, without, plain, **options), plain)
    assert_close(net, without)
    assert method.told(1) == pytest.approx(expected.told(1))


def test_the_history_can_be_plotted() -> None:
    net = made()
    optimizer = sgd(net)
    method = prepared("ogm+multi-loss", net, optimizer, **{"ogm.end_epoch": 2})
    train(method, optimizer)
    figures = method.figures()
    assert {"loss/joint", "loss/multi-loss.unimodal", "coefficient/audio", "coefficient/video"} <= set(
        figures
    )
    assert min(figures["coefficient/audio"], figures["coefficient/video"]) < 1
    net = made()
    optimizer = sgd(net)
    method = prepared("inforeg", net, optimizer)
    train(method, optimizer)
    assert method.told(1)["information/traces/audio"] > 0


class Numbers(Net):
    """Predicts a number."""

    task = "regression"

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(15, 1)


class Labels(Net):
    """Predicts which of three labels a sample has."""

    task = "multilabel"


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", [Numbers, Labels])
@pytest.mark.parametrize("name", ["joint", "multi-loss", "mmpareto", "dgl", "inforeg"])
def test_other_targets_than_classes(kind: Any, name: str) -> None:
    """The loss is that of the task, also for the terms that a method adds."""
    net = made(kind)
    optimizer = sgd(net)
    target = (lambda b: b[-1].float() / 3) if kind is Numbers else (lambda b: nn.functional.one_hot(b[-1], 3))
    method = prepared(name, net, optimizer, target_of=target, inputs_of=lambda b: tuple(b[:-1]))
    method.start_epoch(0)
    batch = next(iter(batches()))
    loss = method.loss(batch)
    if "joint" in method.terms and name != "dgl":
        u, y = net(*batch[:-1]).detach(), target(batch)
        expected = ((u[:, 0] - y) ** 2).mean() if kind is Numbers else _binary(u, y)
        assert float(method.terms["joint"]) == pytest.approx(float(expected), abs=1e-12)
    loss.backward()
    method.on_gradients()
    optimizer.step()
    assert not equal(net, made(kind))
    with pytest.raises(eq.UsageError, match=f"'ogm' is defined for classification, and this is {net.task}"):
        prepared("ogm", net, sgd(net), target_of=target, inputs_of=lambda b: tuple(b[:-1]))


def _binary(u: Tensor, y: Tensor) -> Tensor:
    p = u.sigmoid()
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


class Tokens(nn.Module):
    """An encoder like those of transformers: hidden states of a sequence with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 4)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        return {"last_hidden_state": self.layer(x[..., None])}


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio, self.video, self.head = Tokens(), nn.Linear(5, 4), nn.Linear(8, 3)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        mask = (torch.arange(6) < 4).long().expand(len(audio), 6)
        states = self.audio(audio, attention_mask=mask)["last_hidden_state"]
        return self.head(torch.cat([states[:, :4].mean(dim=1), self.video(video)], dim=1))


def test_padding_is_not_part_of_a_feature() -> None:
    """The head passes the check only if the feature is the mean over unpadded positions."""
    assert not equal(fitted("ogm", Reader, end_epoch=2), made(Reader))
