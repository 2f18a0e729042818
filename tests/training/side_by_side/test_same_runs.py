"""Runs that are trained side by side are, bit for bit, those that are trained one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from equipoise.methods import METHODS
from equipoise.training import fit as fit_module
from equipoise.training.fit import run
from equipoise.training.loop import Training
from equipoise.training.settings import Settings
from equipoise.training.side_by_side import runs as runs_module
from equipoise.training.side_by_side.stack import Stack
from equipoise.training.side_by_side.together import stackable, stacks
from equipoise.types import RunFolderError, TrainingError

from .conftest import Make, arguments, together, written

RELEARNS = {"method_options": {"epochs": [1], "lam": 5.0}}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("joint", {}),
    ("joint", {"optimizer": "adamw", "lr": 1e-3, "clip_norm": 0.5}),
    ("joint", {"fusion": "gated", "schedule": "cosine", "weight_decay": 0.0}),
    ("unimodal:audio", {}),
    ("diagnose-relearn", RELEARNS),
    ("diagnose-relearn-plus", {"method_options": {"cycles": 2, "distillation": "last"}, "epochs": 4}),
    ("ogm-ge", {}),
    ("multi-loss", {}),
]


def settings_of(data: str, method: str, seed: int, **options: Any) -> Settings:
    return Settings.from_options(data, method=method, seed=seed, **{"epochs": 3, "batch_size": 32} | options)


def same_as_alone(data: str, folder: Path, method: str, **options: Any) -> None:
    settings = [settings_of(data, method, seed, **options) for seed in range(3)]
    assert together(settings, folder / "together") == [None] * 3
    for seed, one in enumerate(settings):
        run(one, folder / "alone" / str(seed))
        assert written(folder / "together" / str(seed)) == written(folder / "alone" / str(seed))


@pytest.mark.parametrize(("method", "options"), VARIANTS)
def test_equals_runs_one_after_the_other(
    data: str, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    same_as_alone(data, tmp_path, method, **options)


@pytest.mark.matrix
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")  # three epochs are few for some
@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if stacks(kind)])
def test_every_method_that_says_so(data: str, tmp_path: Path, method: str) -> None:
    options = {"method_options": {"factors": {"audio": 0.5}}} if method == "fixed-modulation" else {}
    for name in METHODS[method].variants(["audio", "video"]):
        same_as_alone(data, tmp_path / name.replace(":", "-"), name, **options)


def test_they_are_trained_together(training: Make) -> None:
    """Otherwise the tests above would compare a run with itself."""
    for method in ("joint", "ogm"):
        runs = [training(method, seed, method) for seed in range(3)]
        assert stackable(runs)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("mla", {}),  # takes its own steps
        ("pmr+multi-loss", {}),
        ("joint", {"fusion": "sum"}),  # adds a bias without a layer
        ("joint", {"precision": "bf16-mixed"}),
        ("pretrain-finetune", {"method_options": {"head_epochs": 1}}),  # takes gradients of encoders away
        ("diagnose-relearn", {"method_options": {"rewarm_steps": 2, "epochs": [0]}}),  # inside a step
    ],
)
def test_others_are_trained_one_after_the_other(training: Make, method: str, options: dict[str, Any]) -> None:
    assert not stackable([training(method, seed, **options) for seed in range(2)])


def test_a_method_that_extends_another_one_does_not_inherit_that_it_stacks() -> None:
    class Extended(METHODS["joint"]):  # type: ignore[misc]
        pass

    assert stacks(METHODS["joint"])
    assert not stacks(Extended)


def test_the_page_names_these_methods() -> None:
    page = (Path(__file__).parents[3] / "docs" / "grids.md").read_text()
    sentence = " ".join(page.split()).partition("methods that leave the step as it is: ")[2].partition(".")[0]
    named = [name.strip("` ") for name in sentence.split(",")]
    assert sorted(named) == sorted(name for name, kind in METHODS.items() if stacks(kind))


def test_one_run_is_trained_alone(training: Make) -> None:
    assert not stackable([training()])


def test_products_that_round_differently_are_found(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [training("joint", seed) for seed in range(2)]
    assert stackable(runs)
    exact = torch.baddbmm
    monkeypatch.setattr(torch, "baddbmm", lambda *given: exact(*given) * (1 + 2**-22))
    assert not stackable(runs)


def test_layers_with_state_are_not_stacked(training: Make) -> None:
    runs = [training("joint", seed) for seed in range(2)]
    for one in runs:
        one.model.fusion = nn.Sequential(nn.BatchNorm1d(4))
    assert not stackable(runs)


def test_layers_of_the_user_are_not_stacked(training: Make) -> None:
    """They could draw random numbers, or read the rows of other samples, in training only."""

    class Noise(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z + torch.randn_like(z) if self.training else z

    runs = [training("joint", seed) for seed in range(2)]
    for one in runs:
        one.model.encoder_module("audio").layers.append(Noise())
    assert not stackable(runs)


def test_a_failing_run_fails_no_other(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mean_loss = Training.mean_loss

    def failing(self: Training, *given: Any) -> float:
        if self.settings.seed == 1 and self.epoch == 1:
            raise TrainingError("the training loss is nan in epoch 1")
        return mean_loss(self, *given)

    settings = [settings_of(data, "joint", seed) for seed in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(Training, "mean_loss", failing)
        errors = together(settings, tmp_path / "together")
    assert [str(error) for error in errors] == ["None", "the training loss is nan in epoch 1", "None"]
    assert not (tmp_path / "together" / "1" / "result.json").exists()
    for seed in (0, 2):
        run(settings[seed], tmp_path / "alone" / str(seed))
        assert written(tmp_path / "together" / str(seed)) == written(tmp_path / "alone" / str(seed))


def interrupted(settings: Settings, folder: Path, stop: int) -> None:
    """Leave a run that was interrupted when the epoch `stop` began."""
    begin = Training.begin_epoch

    def stopping(self: Training, epoch: int) -> None:
        if epoch == stop:
            raise KeyboardInterrupt
        begin(self, epoch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "begin_epoch", stopping)
        run(settings, folder)


def test_a_damaged_checkpoint_ends_no_other_run(data: str, tmp_path: Path) -> None:
    settings = [settings_of(data, "joint", seed, checkpoint_every=1) for seed in range(3)]
    for seed, one in enumerate(settings):
        interrupted(one, tmp_path / "together" / str(seed), 1)
    (tmp_path / "together" / "1" / "checkpoint.pt").write_bytes(b"damaged")
    errors = together(settings, tmp_path / "together", resume=True)
    assert [type(error) for error in errors] == [type(None), RunFolderError, type(None)]
    for seed in (0, 2):
        run(settings[seed], tmp_path / "alone" / str(seed))
        assert written(tmp_path / "together" / str(seed)) == written(tmp_path / "alone" / str(seed))


def test_a_failing_step_or_end_is_an_error_of_its_runs(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, keep_best = [settings_of(data, "joint", seed) for seed in range(3)], Training.keep_best

    def failing(self: Training) -> None:
        if self.settings.seed == 1:
            raise RunFolderError("the weights are lost")
        keep_best(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "keep_best", failing)
        errors = together(settings, tmp_path / "ends")
    assert [str(error) for error in errors] == ["None", "the weights are lost", "None"]
    assert (tmp_path / "ends" / "2" / "result.json").is_file()

    def no_memory(self: Stack, epoch: int) -> None:
        raise MemoryError("of the step")

    monkeypatch.setattr(Stack, "train_epoch", no_memory)
    assert [str(error) for error in together(settings, tmp_path / "steps")] == ["of the step"] * 3


def test_runs_interrupted_at_different_epochs_go_on_together(data: str, tmp_path: Path) -> None:
    settings = [
        settings_of(data, "diagnose-relearn", seed, checkpoint_every=1, **RELEARNS) for seed in (0, 1)
    ]
    for seed, stop in ((0, 1), (1, 2)):
        interrupted(settings[seed], tmp_path / "together" / str(seed), stop)
    assert together(settings, tmp_path / "together", resume=True) == [None, None]
    for seed, one in enumerate(settings):
        run(one, tmp_path / "alone" / str(seed))
        assert written(tmp_path / "together" / str(seed)) == written(tmp_path / "alone" / str(seed))


def test_counts_of_adam_are_each_runs_own(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A re-learning resets them for some runs only, which then cannot share a step with the others."""

    def forgetting(_: object, run: Any) -> None:
        if run.settings.seed == 1 and run.epoch == 0:
            run.optimizer.state.clear()

    monkeypatch.setattr(METHODS["joint"], "epoch_end", forgetting)
    same_as_alone(data, tmp_path, "joint", optimizer="adamw", lr=1e-2)


@pytest.mark.parametrize("large", [False, True])
def test_runs_that_gain_nothing_are_held_one_at_a_time(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """Because the model cannot be stacked, or because the data of all would fill the memory."""
    held, most = 0, 0
    inner = runs_module.prepared

    @contextmanager
    def counting(*given: Any, **named: Any) -> Iterator[Any]:
        nonlocal held, most
        with inner(*given, **named) as found:
            held += 1
            most = max(most, held)
            yield found
            held -= 1

    monkeypatch.setattr(runs_module, "prepared", counting)
    monkeypatch.setattr(fit_module, "prepared", counting)
    if large:
        monkeypatch.setattr(runs_module, "MEMORY_LIMIT", 3 * 150 * 13 * 4 - 1)
    options = {} if large else {"fusion": "sum"}
    settings = [settings_of(data, "joint", seed, **options) for seed in range(3)]
    assert together(settings, tmp_path) == [None] * 3
    assert most == 1
    assert all((tmp_path / str(seed) / "result.json").is_file() for seed in range(3))
    if large:  # with a byte more they are held together
        monkeypatch.setattr(runs_module, "MEMORY_LIMIT", 3 * 150 * 13 * 4)
        assert together(settings, tmp_path / "more") == [None] * 3
        assert most == 3


def test_finished_runs_are_kept_and_wrong_ones_reported(data: str, tmp_path: Path) -> None:
    settings = [settings_of(data, "joint", seed) for seed in range(3)]
    run(settings[0], tmp_path / "together" / "0")
    before = written(tmp_path / "together" / "0")
    (tmp_path / "together" / "1").mkdir()
    (tmp_path / "together" / "1" / "mine.txt").write_text("keep")
    errors = together(settings, tmp_path / "together", resume=True)
    assert errors[0] is None
    assert errors[2] is None
    assert "mine.txt" in str(errors[1]) or "holds" in str(errors[1])
    assert written(tmp_path / "together" / "0") == before
    assert arguments(tmp_path)["folder"] == tmp_path
