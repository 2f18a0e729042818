"""Any method in Lightning: by the module's own step, under the Trainer, to the weights of our own trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from against_trainer import EPOCHS, FITTING, OPTIONS, Trained, trained_by_us

pl = pytest.importorskip("lightning.pytorch")
from equipoise.integrations.lightning import MethodCallback  # noqa: E402

HANDLES = {"audio": "net.audio_net", "video": "net.video_net"}


class Lit(pl.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.calls = 0

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.net(audio, video)

    def training_step(self, batch: Any, _: int) -> Tensor:
        self.calls += 1
        audio, video, target = batch
        loss = nn.functional.cross_entropy(self(audio, video), target)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


class Begin(pl.Callback):
    """Sets order and random state of an epoch as our trainer does."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained

    def on_train_epoch_start(self, trainer: Any, _: Any) -> None:
        self.trained.begin(trainer.current_epoch)


def trainer(folder: Path, *callbacks: Any, epochs: int = EPOCHS, **options: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet |= {"enable_checkpointing": any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks)}
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        **{**quiet, **options},
    )


def fit(folder: Path, trained: Trained, callback: Any, *more: Any, ckpt: Any = None, **options: Any) -> Lit:
    module = Lit(trained.plain)
    # The order is ours to give: Lightning would put a sampler of its own for several processes.
    trainer(folder, Begin(trained), callback, *more, use_distributed_sampler=False, **options).fit(
        module, trained.loader, ckpt_path=ckpt
    )
    return module


@pytest.mark.parametrize("name", FITTING)
def test_weights_are_those_of_our_trainer(tmp_path: Path, name: str) -> None:
    options = OPTIONS.get(name, {})
    trained = trained_by_us(tmp_path, name, options)
    module = fit(tmp_path, trained, MethodCallback(name, HANDLES, head="net.head", options=options))
    trained.assert_equal()
    # Where features are changed the step begins twice; it ends, and logs, once.
    assert module.calls == EPOCHS * len(trained.loader) * (2 if name in ("opm", "dgl") else 1)
    assert "training_step" not in module.__dict__
