"""A model that computes its loss, and a Trainer with the batches of our trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from against_trainer import EPOCHS, Trained

HANDLES = {"audio": "net.audio_net", "video": "net.video_net"}


class WithLoss(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, audio: Tensor, video: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        logits = self.net(audio, video)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class Begin(TrainerCallback):
    """Sets order and random state of an epoch like our trainer."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trained.begin(round(state.epoch or 0))


def collate(rows: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
    audio, video, labels = (torch.stack(column) for column in zip(*rows, strict=True))
    return {"audio": audio, "video": video, "labels": labels}


class OurOrder(Trainer):
    served: DataLoader[Any]

    def get_train_dataloader(self) -> Any:
        return self.accelerator.prepare(self.served)


def trainer(
    folder: Path,
    trained: Trained,
    *callbacks: Any,
    epochs: int = EPOCHS,
    kind: type[WithLoss] = WithLoss,
    held: Any = None,
    **options: Any,
) -> Any:
    args = TrainingArguments(
        str(folder / "trainer"),
        **{
            "num_train_epochs": epochs,
            "per_device_train_batch_size": 16,
            "learning_rate": 0.05,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
            "save_strategy": "no",
            "logging_strategy": "epoch",
            **options,
        },
    )
    model = kind(trained.plain)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    constant = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    loader = trained.loader
    validation = {} if held is None else {"eval_dataset": held, "data_collator": collate}
    made = OurOrder(model, args, train_dataset=loader.dataset, optimizers=(optimizer, constant), **validation)
    made.served = DataLoader(
        loader.dataset,
        batch_sampler=loader.batch_sampler,
        collate_fn=collate,
        generator=torch.Generator(),
    )
    for callback in (Begin(trained), *callbacks):
        made.add_callback(callback)
    return made
