"""Trainings with the callbacks that watch equal those without, bit for bit, and see what a Monitor sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import equipoise as eq
from equipoise.types import UsageError

pl = pytest.importorskip("lightning.pytorch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from transformers.modeling_outputs import SequenceClassifierOutput  # noqa: E402

from equipoise.loops import lightning as for_lightning  # noqa: E402
from equipoise.loops import transformers as for_transformers  # noqa: E402

EPOCHS = 4
PATHS = {"a": "net.a", "b": "net.b"}
MODALITIES = ("a", "b")


class Pairs(Dataset[Any]):
    def __init__(self, n: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(n) % 3
        self.a = torch.randn(n, 4, generator=draw) + self.labels[:, None]
        self.b = torch.randn(n, 6, generator=draw)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"a": self.a[row], "b": self.b[row], "labels": self.labels[row]}


class Net(nn.Module):
    """Dropout and order use the global random stream, norms have running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (
            nn.Sequential(nn.Linear(d, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)) for d in (4, 6)
        )
        self.head = nn.Linear(16, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.cat([self.a(a), self.b(b)], dim=1))


def seen(callback: Any) -> list[tuple[int, dict[str, Any]]]:
    return [(entry["epoch"], entry["modalities"]) for entry in callback.monitor.history]


def same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class Lit(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.order: list[Tensor] = []

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.net(a, b)

    def training_step(self, batch: Any, _: int) -> Tensor:
        self.order.append(batch["a"])
        return nn.functional.cross_entropy(self(batch["a"], batch["b"]), batch["labels"])

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(batch["a"], batch["b"]), batch["labels"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.02)


class Kept(pl.loggers.logger.Logger):
    name, version = "kept", "0"

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[dict[str, float]] = []

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.numbers.append(metrics)


def fitted(folder: Path, *callbacks: Any, epochs: int = EPOCHS, ckpt: Any = None, **options: Any) -> Lit:
    torch.manual_seed(0)
    module = Lit()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
        **{"logger": False, **options},
    )
    loaders = DataLoader(Pairs(61, 0), 16, shuffle=True), DataLoader(Pairs(40, 1), 16)
    trainer.fit(module, *loaders, ckpt_path=ckpt)
    return module


def test_lightning_trains_as_without_it(tmp_path: Path) -> None:
    callback, logger = for_lightning.MonitorCallback(PATHS, every=2), Kept()
    watched = fitted(tmp_path, callback, logger=logger)
    stream = torch.rand(3)
    plain = fitted(tmp_path)
    assert same(plain, watched)
    assert all(map(torch.equal, plain.order, watched.order))
    assert torch.equal(stream, torch.rand(3))
    assert [epoch for epoch, _ in seen(callback)] == [0, 2, 3]  # and after the last
    assert not any(part._forward_hooks for part in watched.modules())
    last = eq.Monitor({"a": plain.net.a, "b": plain.net.b})
    last.step(3, plain, DataLoader(Pairs(61, 0), 16), DataLoader(Pairs(40, 1), 16))
    assert seen(callback)[-1] == (3, last.history[0]["modalities"])
    logged = [numbers for numbers in logger.numbers if "equipoise/gap/a" in numbers]
    assert [numbers["equipoise/strength/b"] for numbers in logged] == [
        states["b"]["applied"] for _, states in seen(callback)
    ]
    assert all(numbers["equipoise/seconds"] > 0 for numbers in logged)
    assert callback._repr_html_()


def test_a_resumed_lightning_has_the_whole_history(tmp_path: Path) -> None:
    whole = for_lightning.MonitorCallback(PATHS, every=1)
    checkpoints = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    fitted(tmp_path, whole, checkpoints)
    resumed = for_lightning.MonitorCallback(PATHS, every=1)
    fitted(tmp_path, resumed, ckpt=tmp_path / "epoch=1.ckpt")
    assert [epoch for epoch, _ in seen(resumed)] == [0, 1, 2, 3]
    assert seen(resumed)[:2] == seen(whole)[:2]


class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, a: Tensor, b: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        logits = self.net(a, b)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def trained(folder: Path, *callbacks: Any, resume: Path | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    args = transformers.TrainingArguments(
        str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=16,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **{"save_strategy": "no", **options},
    )
    trainer = transformers.Trainer(
        WithLoss(), args, train_dataset=Pairs(61, 0), eval_dataset=Pairs(40, 1), callbacks=list(callbacks)
    )
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return trainer


def test_transformers_trains_as_without_it(tmp_path: Path) -> None:
    first = for_transformers.MonitorCallback(PATHS, Pairs(40, 1), every=2)
    watched = trained(tmp_path / "with", first)
    stream = torch.rand(3)
    plain = trained(tmp_path / "without")
    assert same(plain.model, watched.model)
    assert torch.equal(stream, torch.rand(3))
    assert [epoch for epoch, _ in seen(first)] == [0, 2, 3]
    last = eq.Monitor({"a": plain.model.net.a, "b": plain.model.net.b})
    last.step(3, plain.model, DataLoader(Pairs(61, 0), 16), DataLoader(Pairs(40, 1), 16))
    assert seen(first)[-1] == (3, last.history[0]["modalities"])
    logged = [entry for entry in watched.state.log_history if "equipoise/gap/b" in entry]
    assert [entry["equipoise/strength/b"] for entry in logged] == [
        states["b"]["applied"] for _, states in seen(first)
    ]


def test_a_look_of_transformers_is_at_the_last_weights_and_resumes(tmp_path: Path) -> None:
    """Also where the Trainer then takes the best ones; a resumed training has the whole history."""

    def watched(folder: str, **options: Any) -> Any:
        callback = for_transformers.MonitorCallback(PATHS, Pairs(40, 1), every=2)
        trained(tmp_path / folder, callback, eval_strategy="epoch", save_strategy="epoch", **options)
        return seen(callback)

    last = watched("last")
    assert [epoch for epoch, _ in last] == [0, 2, 3]
    assert watched("best", load_best_model_at_end=True) == last
    folders = sorted((tmp_path / "best").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    assert watched("best", load_best_model_at_end=True, resume=folders[1]) == last


def test_wrong_options_are_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"'evry'.*every"):
        for_lightning.MonitorCallback(PATHS, evry=2)
    with pytest.raises(UsageError, match="norm_stats"):
        for_transformers.MonitorCallback(PATHS, Pairs(4, 0), norm_stats="reset")
