"""A training of Lightning or transformers in two processes, launched by `torchrun FILE KIND FOLDER`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from two_processes import VALIDATION, N, TwoStreams, leave, samples

FIXED = {"every": 1, "count": 2}
PATHS = {"audio": "net.audio", "video": "net.video"}


def lightning(folder: Path, resumed: str | None) -> tuple[nn.Module, Any]:
    import lightning.pytorch as pl
    from torch.utils.data import DataLoader

    from equipoise.loops.lightning import DiagnoseRelearnCallback

    class Lit(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = TwoStreams()

        def forward(self, audio: Tensor, video: Tensor) -> Tensor:
            return self.net(audio, video)

        def training_step(self, batch: Any, _: int) -> Tensor:
            return nn.functional.cross_entropy(self(*batch[:2]), batch[2])

        def validation_step(self, batch: Any, _: int) -> None:
            self(*batch[:2])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    relearn = DiagnoseRelearnCallback(PATHS, **FIXED, optimizer_state="scale")
    keeping = pl.callbacks.ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, every_n_epochs=1)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        limit_train_batches=5,  # of 7
        default_root_dir=folder,
        callbacks=[relearn] if resumed else [relearn, keeping],
        enable_checkpointing=not resumed,
        **quiet,
    )
    module = Lit()
    loaders = [DataLoader(samples(n, seed), batch_size=8) for n, seed in ((N, 0), (VALIDATION, 1))]
    trainer.fit(module, *loaders, ckpt_path=resumed)
    return module, relearn.relearn.history


def transformers(folder: Path, resumed: str | None) -> tuple[nn.Module, Any]:
    from transformers import Trainer, TrainingArguments

    from equipoise.loops.transformers import DiagnoseRelearnCallback

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = TwoStreams()

        def forward(self, audio: Tensor, video: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.net(audio, video)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    def rows(n: int, seed: int) -> list[dict[str, Tensor]]:
        return [dict(zip(("audio", "video", "labels"), row, strict=True)) for row in samples(n, seed)]

    args = TrainingArguments(
        str(folder / "trainer"),
        num_train_epochs=4,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="epoch",
        ddp_backend="gloo",
    )
    relearn = DiagnoseRelearnCallback(PATHS, rows(VALIDATION, 1), **FIXED, optimizer_state="scale")
    trainer = Trainer(Model(), args, train_dataset=rows(N, 0), callbacks=[relearn])
    trainer.train(resume_from_checkpoint=resumed)
    assert relearn.relearn is not None
    return trainer.model, relearn.relearn.history


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kind, place, *rest = sys.argv[1:]
    model, history = globals()[kind](Path(place), rest[0] if rest else None)
    name = f"{'again' if rest else 'whole'}{os.environ['RANK']}.pt"
    torch.save({"weights": model.state_dict(), "history": history}, Path(place) / name)
    leave()
