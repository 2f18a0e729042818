"""The precision `16-mixed`, on a CPU, where the options refuse it: with torch's scaler for CPUs."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision

import equipoise as eq
from equipoise.methods import METHODS, create_method
from equipoise.methods.joint import Joint
from equipoise.training import fit as fit_module
from equipoise.training import handle
from equipoise.training.finished import FitResult
from equipoise.training.fit import run
from equipoise.training.loss_scaling import check_scaling
from equipoise.training.settings import Budget, Settings
from equipoise.types import UsageError

EPOCHS = 3
GIVEN: dict[str, dict[str, Any]] = {
    "agm": {"mode": "encoder-grad", "alpha": 5.0},
    "arl": {"warmup_epochs": 0},
    "diagnose-relearn": {"every": 1, "count": 1, "epochs": [0]},
    "fixed-modulation": {"factors": {"video": 0.5}},
    "inforeg": {"loss": "joint+unimodal"},
    "lfm": {"schedule": "fixed"},
    "reconboost": {"boost_epochs": 1, "rectify_epochs": 1},
}
REFUSED = ("mmpareto", "gblend", "lfm", "agm")
OFTEN = ("ogm-ge", "agm", "cggm", "mla", "inforeg", "aug", "diagnose-relearn")


class Scaled(MixedPrecision):
    """Scaled losses in single precision, where factors of two change no digit."""

    def __init__(self, scale: float, **options: Any) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale, **options))

    def forward_context(self) -> Any:
        return contextlib.nullcontext()

    def convert_input(self, data: Any) -> Any:
        return data


class Half(MixedPrecision):
    """16-bit floats, as on a GPU."""

    def __init__(self, scale: float, **options: Any) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale, **options))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Let runs on the CPU use a precision that the options refuse there."""

    def of(make: Callable[[], MixedPrecision]) -> None:
        monkeypatch.setattr(fit_module, "check_device", lambda *_: None)
        made = lambda *_: Fabric(accelerator="cpu", devices=1, plugins=[make()])  # noqa: E731
        monkeypatch.setattr(handle, "make_fabric", made)

    return of


def settings_of(data: str, method: str, **options: Any) -> Settings:
    options = {"epochs": EPOCHS, "batch_size": 16, "lr": 0.02, "diagnose_every": 0} | options
    given = GIVEN.get(method, {})
    return Settings.from_options(
        data, method=method, method_options=given, device="cpu", clip_norm=0.3, **options
    )


def weights(result: FitResult) -> dict[str, torch.Tensor]:
    return dict(result.model.state_dict())


def epochs(folder: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "epoch"]


def methods() -> list[Any]:
    names = ["unimodal:video" if name == "unimodal" else name for name in METHODS]
    names = [name for name in names if name not in set(REFUSED) - set(GIVEN) and name != "greedy"]
    return [pytest.param(name, marks=() if name in OFTEN else pytest.mark.matrix) for name in names]


@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
@pytest.mark.parametrize("method", methods())
def test_methods_and_clipping_see_unscaled_gradients(
    method: str, data: str, tmp_path: Path, use: Callable[[Any], None]
) -> None:
    plain = run(settings_of(data, method), tmp_path / "plain")
    use(lambda: Scaled(2.0**12))
    scaled = run(settings_of(data, method, precision="16-mixed"), tmp_path / "scaled")
    assert all(torch.equal(value, weights(scaled)[name]) for name, value in weights(plain).items())
    for one, two in zip(epochs(tmp_path / "plain"), epochs(tmp_path / "scaled"), strict=True):
        assert two.pop("skipped_steps") == 0
        assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_the_joint_model_learns_in_half_precision(data: str, out: Path, use: Callable[[Any], None]) -> None:
    use(lambda: Half(2.0**16))
    result = run(settings_of(data, "joint", epochs=12, precision="16-mixed"), out)
    assert result.test["accuracy"] > 0.8
    assert {value.dtype for value in weights(result).values()} == {torch.float32}


def test_small_gradients_survive(data: str, out: Path, use: Callable[[Any], None]) -> None:
    """A loss of 1e-7 has gradients that are zero in 16 bits, unless it is scaled."""

    class Tiny(Joint):
        def losses(self, context: Any) -> dict[str, torch.Tensor]:
            return {name: 1e-7 * term for name, term in super().losses(context).items()}

    found = {}
    for factor in (1.0, 2.0**20):
        use(lambda factor=factor: Half(factor))
        settings = settings_of(data, "joint", epochs=1, precision="16-mixed")
        with fit_module.prepared(settings, out / str(factor)) as made:
            assert made is not None
            training = made.training
            training.begin_epoch(0)
            training.prepare_epoch()
            Tiny().train_step(next(iter(training.train)), training)
            found[factor] = torch.cat([p.grad.flatten() for p in training.model.parameters()])
    assert (found[1.0] == 0).float().mean() > 0.5
    assert (found[2.0**20] == 0).float().mean() < 0.5
    assert 1e-10 < float(found[2.0**20].norm()) < 1e-5


def test_steps_that_overflow_are_skipped_and_counted(
    data: str, tmp_path: Path, use: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large a factor: steps change nothing until it is halved often enough, and hooks are left out."""
    called: list[bool] = []

    def after_backward(self: Any, context: Any) -> None:
        gradients = [p.grad for p in context.run.model.parameters() if p.grad is not None]
        called.append(all(bool(torch.isfinite(g).all()) for g in gradients))

    monkeypatch.setattr(Joint, "after_backward", after_backward)
    use(lambda: Half(2.0**24, growth_interval=10_000))  # gradients beyond 65504 are infinite in 16 bits
    settings = settings_of(data, "joint", epochs=2, precision="16-mixed")
    run(settings, tmp_path / "run")
    first, second = epochs(tmp_path / "run")
    steps = 6  # of 90 samples
    assert 0 < first["skipped_steps"] <= steps
    assert len(called) == 2 * steps - first["skipped_steps"] - second["skipped_steps"]
    assert all(called)


def test_a_resumed_run_keeps_the_factor(data: str, tmp_path: Path, use: Callable[[Any], None]) -> None:
    """Exactly: the factor grows every 10 steps, and rounding in 16 bits depends on it."""
    use(lambda: Half(2.0**4, growth_interval=10))
    settings = settings_of(data, "ogm-ge", epochs=4, precision="16-mixed", checkpoint_every=1)
    factors: list[float] = []

    class Stopped(Exception):
        pass

    def stop(epoch: int, _: dict[str, float]) -> None:
        if epoch == 2:
            raise Stopped

    whole = run(settings, tmp_path / "whole")
    with pytest.raises(Stopped):
        run(settings, tmp_path / "halves", on_epoch=stop)
    start = handle.LossScaling.load_state_dict

    def noted(self: Any, state: dict[str, Any]) -> None:
        factors.append(state["scale"])
        start(self, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handle.LossScaling, "load_state_dict", noted)
        halves = run(settings, tmp_path / "halves", resume=True)
    assert factors == [2.0**5]  # after two epochs of 6 steps
    assert all(torch.equal(value, weights(halves)[name]) for name, value in weights(whole).items())


@pytest.mark.parametrize("method", REFUSED)
def test_methods_that_take_gradients_themselves_are_refused(method: str) -> None:
    budget = Budget(precision="16-mixed")
    with pytest.raises(UsageError, match=r"choose bf16-mixed or 32-true\.$"):
        check_scaling(create_method(method, {}), budget)
    check_scaling(create_method(method, {}), Budget())


@pytest.mark.parametrize("method", ["agm", "lfm"])
def test_their_variants_that_do_not_are_accepted(method: str) -> None:
    check_scaling(create_method(method, GIVEN[method]), Budget(precision="16-mixed"))


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_a_gpu_it_is_refused(
    device: str, data: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for call in (eq.fit, lambda *given, **options: eq.compare(*given, methods=["joint"], **options)):
        with pytest.raises(UsageError, match="choose bf16-mixed or 32-true") as caught:
            call(data, precision="16-mixed", device=device, out=out)
        assert "\n" not in str(caught.value)
    assert not out.exists()


def test_the_refusal_comes_before_anything_is_written(
    data: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "check_device", lambda *_: None)
    with pytest.raises(UsageError, match="loss scaling does not reach"):
        eq.fit(data, "mmpareto", precision="16-mixed", out=out)
    assert not out.exists()


def test_every_method_that_calls_autograd_says_so() -> None:
    """A method whose file takes gradients itself must override `own_gradients`."""
    for name, kind in METHODS.items():
        source = Path(inspect.getfile(kind)).read_text()
        takes = any(word in source for word in ("autograd.grad", "gradients_of(", "fresh_optimizer("))
        assert ("own_gradients" in source) == takes, name
