"""A LightningModule for a plain model, and a training of it on the batches of our trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from against_trainer import EPOCHS, Trained

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
    """Sets order and random state of an epoch like our trainer."""

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
    # The loader sets the order: with several processes Lightning would replace its sampler.
    trainer(folder, Begin(trained), callback, *more, use_distributed_sampler=False, **options).fit(
        module, trained.loader, ckpt_path=ckpt
    )
    return module
