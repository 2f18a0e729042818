"""The Lightning callback equals the plain loop, with the Trainer's checkpoints, precision and loggers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import equipoise as eq
from processes import python
from two_processes import TwoStreams, samples

pl = pytest.importorskip("lightning.pytorch")
from equipoise.loops.lightning import DiagnoseRelearnCallback  # noqa: E402

PATHS = {"audio": "net.audio", "video": "net.video"}
EPOCHS = 6


class Lit(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = TwoStreams()

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.net(audio, video)

    def training_step(self, batch: Any, _: int) -> Tensor:
        audio, video, target = batch
        return nn.functional.cross_entropy(self(audio, video), target)

    def validation_step(self, batch: Any, _: int) -> None:
        audio, video, target = batch
        self.log("val_loss", nn.functional.cross_entropy(self(audio, video), target))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def loader(n: int, seed: int) -> DataLoader[Any]:
    return DataLoader(samples(n, seed), batch_size=16)


def trainer(folder: Path, callbacks: list[Any], epochs: int = EPOCHS, **options: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet |= {"enable_checkpointing": any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks)}
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=callbacks,
        **{**quiet, **options},
    )


def fitted(folder: Path, *callbacks: Any, ckpt_path: Any = None, batches: Any = None, **options: Any) -> Lit:
    module = Lit()
    training = trainer(folder, list(callbacks), **options)
    training.fit(module, batches or loader(101, 0), loader(53, 1), ckpt_path=ckpt_path)
    return module


class Resumable:
    """Batches that resume from a checkpoint in the middle of an epoch."""

    def __init__(self) -> None:
        self.batches = list(loader(101, 0))
        self.first = self.served = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        first, self.first = self.first, 0
        for self.served, batch in enumerate(self.batches[first:], start=first + 1):  # noqa: B020
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"served": self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.first = state["served"] % len(self.batches)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: nn.Module, two: nn.Module) -> bool:
    left, right = weights(one), weights(two)
    return all(torch.equal(left[name], right[name]) for name in left)


def by_hand(every: int, count: int) -> TwoStreams:
    """The plain loop as a reference for the callback."""
    model = Lit().net
    training, validation = loader(101, 0), loader(53, 1)
    relearn = eq.DiagnoseRelearn({"audio": model.audio, "video": model.video}, every=every, count=count)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(EPOCHS):
        model.train()
        for audio, video, target in training:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(audio, video), target).backward()
            optimizer.step()
        if relearn.due(epoch):
            relearn.step(epoch, model, training, validation)
    return model


@pytest.mark.usefixtures("float64")
def test_weights_equal_those_of_the_plain_loop(tmp_path: Path) -> None:
    callback = DiagnoseRelearnCallback(PATHS, every=1, count=3)
    module = fitted(tmp_path, callback)
    expected = weights(by_hand(1, 3))
    for name, value in weights(module.net).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-10)
    assert [entry["epoch"] for entry in callback.relearn.history] == [1, 2, 3]
    assert not same(module, fitted(tmp_path))


def test_strength_zero_changes_no_bit(tmp_path: Path) -> None:
    callback = DiagnoseRelearnCallback(PATHS, every=1, count=3, lam=0.0)
    assert same(fitted(tmp_path), fitted(tmp_path, callback))
    assert len(callback.relearn.history) == 3


SAVING = {
    "end of the epoch": {"save_on_train_epoch_end": True, "every_n_epochs": 1},
    "after validation": {"save_on_train_epoch_end": False, "every_n_epochs": 1},
    "in the middle": {"every_n_train_steps": 4},
}


@pytest.mark.parametrize("saving", SAVING)
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, saving: str) -> None:
    def callback() -> Any:
        return DiagnoseRelearnCallback(
            PATHS, every=1, count=4, optimizer_state="scale", train_loader=loader(101, 0)
        )

    keeping = pl.callbacks.ModelCheckpoint(tmp_path / "kept", save_top_k=-1, **SAVING[saving])
    whole = fitted(tmp_path, callback(), keeping, batches=Resumable())
    kept = sorted((tmp_path / "kept").glob("*.ckpt"))
    assert len(kept) >= EPOCHS
    for path in kept[1:-1]:
        again = callback()
        assert same(whole, fitted(tmp_path, again, ckpt_path=path, batches=Resumable())), path
        assert [entry["epoch"] for entry in again.relearn.history] == [1, 2, 3, 4]


def test_gap_strength_and_scores_go_to_the_logger(tmp_path: Path) -> None:
    logger = pl.loggers.CSVLogger(tmp_path)
    callback = DiagnoseRelearnCallback(PATHS, every=2, count=1)
    fitted(tmp_path, callback, logger=logger, log_every_n_steps=1)
    text = (Path(logger.log_dir) / "metrics.csv").read_text()
    for name in PATHS:
        for key in (f"purity/{name}/train", f"purity/{name}/val", f"gap/{name}", f"strength/{name}"):
            assert f"equipoise/{key}" in text
    assert str(callback.relearn.history[0]["modalities"]["audio"]["gap"]) in text


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16-mixed"},
        {"accumulate_grad_batches": 3},
        {"gradient_clip_val": 0.1},
        {"num_sanity_val_steps": 0, "check_val_every_n_epoch": 4},
    ],
    ids=lambda options: next(iter(options)),
)
def test_it_works_with_options_of_the_trainer(tmp_path: Path, options: dict[str, Any]) -> None:
    callback = DiagnoseRelearnCallback(PATHS, every=2, count=2)
    module = fitted(tmp_path, callback, **options)
    assert len(callback.relearn.history) == 2
    assert not same(module, fitted(tmp_path, **options))
    still = DiagnoseRelearnCallback(PATHS, every=2, count=2, lam=0.0)
    assert same(fitted(tmp_path, still, **options), fitted(tmp_path, **options))


def test_a_second_fit_starts_anew(tmp_path: Path) -> None:
    callback = DiagnoseRelearnCallback(PATHS, every=1, count=2)
    first = fitted(tmp_path, callback)
    assert same(first, fitted(tmp_path, callback))


def test_wrong_use_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(eq.UsageError, match="handle of 'audio' is a int"):
        DiagnoseRelearnCallback({"audio": 3})
    with pytest.raises(eq.ModelError, match=r"no submodule 'net.sound' for 'audio'; it has net"):
        fitted(tmp_path, DiagnoseRelearnCallback({"audio": "net.sound"}, every=1, count=1))
    callback = DiagnoseRelearnCallback(PATHS, every=1, count=1)
    with pytest.raises(eq.UsageError, match="has no validation loader"):
        fitted(tmp_path, callback, limit_val_batches=0)
    with pytest.warns(eq.EquipoiseWarning, match="never"):
        fitted(tmp_path, DiagnoseRelearnCallback(PATHS, every=20, count=3))


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['lightning'] = None; import equipoise.loops.lightning"
    found = python("-c", code, cwd=tmp_path)
    assert found.returncode == 1
    assert "pip install 'equipoise[lightning]'" in found.stderr.splitlines()[-1]


def test_the_core_imports_no_other_trainers(tmp_path: Path) -> None:
    """Imports of its dependencies do not count: torchmetrics imports transformers if it is installed."""
    code = """
import builtins
real = builtins.__import__
others = {"lightning", "pytorch_lightning", "transformers", "peft", "accelerate", "ray"}
def noting(name, globals=None, locals=None, fromlist=(), level=0):
    if (globals or {}).get("__name__", "").startswith("equipoise"):
        assert level or name.split(".")[0] not in others, name
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = noting
import equipoise as eq
for name in dir(eq):
    getattr(eq, name)
"""
    found = python("-c", code, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
