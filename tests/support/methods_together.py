"""A training with a method under Lightning in two processes, launched by `torchrun FILE FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from equipoise.loops.lightning import MethodCallback
from hand_processes import EPOCHS, Parts, drawn
from two_processes import leave


class Lit(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = drawn()

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.net(audio, video)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.cross_entropy(self(*batch[:2]), batch[2])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def fitted(name: str, options: dict[str, Any], loader: Any, **strategy: Any) -> nn.Module:
    module = Lit()
    callback = MethodCallback(
        name, {"audio": "net.audio", "video": "net.video"}, head="net.head", options=options
    )
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **strategy,
    )
    trainer.fit(module, loader)
    return module.net


METHODS: dict[str, dict[str, Any]] = {"ogm-ge": {"end_epoch": 2}, "multi-loss": {}, "dgl": {}}

if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
    for name, options in METHODS.items():
        net = fitted(name, options, Parts(rank, 2), devices=2, strategy="ddp")
        torch.save(net.state_dict(), folder / f"{name}-{rank}.pt")
    leave()
