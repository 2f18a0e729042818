"""`--precision auto`: what is chosen, once for all runs of a comparison, and kept when a run is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import equipoise as eq
from equipoise.training.measuring import precision as module
from equipoise.training.measuring.precision import chosen_precision, with_precision
from equipoise.training.settings import Settings


def times(monkeypatch: pytest.MonkeyPatch, full: float, mixed: float) -> list[str]:
    """Let steps take as long as said; returns their precisions, as they are taken."""
    taken: list[str] = []

    def timed(step: Callable[[], None]) -> float:
        step()
        trial = step.__self__  # type: ignore[attr-defined]
        precision = trial.fabric._precision.precision
        taken.append(precision)
        # The first steps, which warm up, take long in the better precision.
        return 9.0 if len(taken) <= 2 else {"32-true": full, "bf16-mixed": mixed}[precision]

    monkeypatch.setattr(module, "timed", timed)
    return taken


@pytest.mark.parametrize(
    ("full", "mixed", "expected"), [(2.0, 1.0, "bf16-mixed"), (1.05, 1.0, "32-true"), (1.0, 3.0, "32-true")]
)
def test_mixed_precision_must_be_clearly_faster(
    data: str, monkeypatch: pytest.MonkeyPatch, full: float, mixed: float, expected: str
) -> None:
    taken = times(monkeypatch, full, mixed)
    state = torch.get_rng_state()
    assert chosen_precision(Settings.from_options(data, precision="auto", device="cpu")) == expected
    assert taken == ["32-true", "bf16-mixed"] * 6
    assert torch.equal(torch.get_rng_state(), state)


def test_mixed_precision_must_have_the_same_gradients(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, 2.0, 1.0)
    gradient = module._Trial.gradient

    def overflowing(trial: module._Trial) -> torch.Tensor:
        bad = trial.fabric._precision.precision == "bf16-mixed"
        return gradient(trial) * (torch.nan if bad else 1.0)

    monkeypatch.setattr(module._Trial, "gradient", overflowing)
    assert chosen_precision(Settings.from_options(data, precision="auto", device="cpu")) == "32-true"


def test_gradients_agree_in_both_precisions(data: str) -> None:
    from equipoise.training.assembly import ModelSpec, build_reference, prepare_data

    settings = Settings.from_options(data, device="cpu")
    dataset, prepared = prepare_data(settings)
    model = build_reference(settings, ModelSpec.of(dataset))
    batch = prepared.train_samples[list(range(32))]
    full, mixed = (
        module._Trial(settings, model, batch, name).gradient() for name in ("32-true", "bf16-mixed")
    )
    loss = torch.nn.functional.cross_entropy(model.eval()(batch).logits, batch.target)
    slow = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(full, slow)
    assert 0 < float((full - mixed).norm() / full.norm()) < 0.05


def test_a_comparison_has_one_precision_and_a_resumed_run_keeps_its_own(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = times(monkeypatch, 2.0, 1.0)
    options = {"seeds": 1, "epochs": 1, "workers": 1, "device": "cpu", "precision": "auto"}
    eq.compare(data, ["joint", "ogm"], out=tmp_path / "out", **options)
    assert len(taken) == 12
    configs = [tmp_path / "out" / "config.yaml", *tmp_path.glob("out/runs/*/config.yaml")]
    assert len(configs) == 3
    assert {yaml.safe_load(path.read_text())["precision"] for path in configs} == {"bf16-mixed"}
    times(monkeypatch, 1.0, 2.0)
    eq.compare(data, ["joint", "ogm", "mmcosine"], out=tmp_path / "out", resume=True, **options)
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["precision"] == "bf16-mixed"


def test_a_resumed_run_keeps_its_own(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, 2.0, 1.0)
    first = eq.fit(data, epochs=1, out=tmp_path / "run", device="cpu", precision="auto")
    times(monkeypatch, 1.0, 2.0)
    again = eq.fit(data, epochs=1, out=tmp_path / "run", device="cpu", precision="auto", resume=True)
    assert again.summary == first.summary
    other = eq.fit(data, epochs=1, out=tmp_path / "other", device="cpu", precision="auto")
    assert yaml.safe_load((other.run_dir / "config.yaml").read_text())["precision"] == "32-true"


def test_named_precisions_are_not_tried(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "chosen_precision", lambda _: pytest.fail("tried"))
    for name in ("32-true", "bf16-mixed"):
        settings = Settings.from_options(data, precision=name)
        assert with_precision(settings, {"precision": "other"}) is settings
