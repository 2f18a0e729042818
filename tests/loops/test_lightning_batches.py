"""The Lightning callbacks read the batches that the Trainer gives its module, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import equipoise as eq
from two_processes import TwoStreams, samples

pl = pytest.importorskip("lightning.pytorch")
from equipoise.loops.lightning import DiagnoseRelearnCallback, MethodCallback  # noqa: E402

VIDEO = {"video": "net.video"}
BOTH = {"audio": "net.audio", "video": "net.video"}
TRAIN, VAL = samples(101, 0), samples(53, 1)


class Still(pl.LightningModule):
    """Learns nothing, so that each diagnosis is one of the initial weights."""

    rate = 0.0

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = TwoStreams()

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        # A tensor of the default precision, as modules make in their forward pass.
        return self.net(audio, video) + torch.zeros(1, device=video.device)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.cross_entropy(self(*batch[:2]), batch[2])

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        self(*batch[:2])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class Learning(Still):
    rate = 0.1


class Turned(Still):
    """Changes its batches in all hooks; what it does depends on the loader, or on training and validation."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return {"rows": [*batch[:2], (batch[2] + dataloader_idx) % 3]}

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return [part.to(device) for part in batch["rows"]]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        audio, video, target = batch
        return audio, -video if self.trainer.training else video.flip(1), target


class InDataModule(pl.LightningDataModule):
    """Lightning prefers its hook to that of the module."""

    def train_dataloader(self) -> Any:
        return batches(TRAIN)

    def val_dataloader(self) -> Any:
        return batches(VAL)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0], 3 * batch[1] ** 2, batch[2]


def batches(data: Any, **options: Any) -> Any:
    return DataLoader(data, batch_size=16, **options)


def trainer(*callbacks: Any, epochs: int = 3, **options: Any) -> Any:
    silent = ("enable_progress_bar", "enable_model_summary", "logger", "enable_checkpointing")
    quiet: dict[str, Any] = dict.fromkeys(silent, False)
    return pl.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), **quiet, **options)


def diagnosed(module: Any = None, *data: Any, trains: Any = None, **options: Any) -> Any:
    """Return the diagnosis before the last epoch of a training."""
    callback = DiagnoseRelearnCallback(VIDEO, every=1, count=1, **(trains or {}))
    module = module or Still()
    trainer(callback, **options).fit(module, *(data or (batches(TRAIN), batches(VAL))))
    assert callback.relearn is not None
    assert len(callback.relearn.history) == 1
    return callback.relearn.history[0]["modalities"]["video"]


def expected(train: Tensor, val: Tensor, dtype: torch.dtype = torch.float32) -> list[float]:
    """Purities of the initial encoder's features for these inputs, without a Trainer."""
    encoder = deepcopy(Still().net.video).to(dtype)
    with torch.no_grad():
        return [
            eq.purity(encoder(x.to(dtype)).to(torch.promote_types(dtype, torch.float32)), y[2])
            for x, y in ((train, TRAIN[:]), (val, VAL[:]))
        ]


def scores(found: Any) -> list[float]:
    return [found["train_score"], found["val_score"]]


@pytest.mark.parametrize(
    "precision", ["64-true", "bf16-true", "16-true", "bf16-mixed"], ids=lambda name: name
)
def test_features_are_computed_in_the_precision_of_the_trainer(precision: str) -> None:
    kinds = {"64": torch.float64, "16": torch.float16, "bf16": torch.bfloat16}
    dtype = kinds[precision.split("-")[0]] if "true" in precision else torch.float32
    module = Still()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        wanted = expected(TRAIN[:][1], VAL[:][1], dtype)
    assert scores(diagnosed(module, precision=precision)) == wanted
    assert module.net.video[0].weight.dtype is dtype


def test_the_hooks_of_the_module_are_applied() -> None:
    video, other = TRAIN[:][1], VAL[:][1]
    assert scores(diagnosed(Turned())) == expected(-video, other.flip(1))
    assert scores(diagnosed(Turned())) != expected(video, other)
    # The second validation loader has another label, and the same features.
    found = diagnosed(Turned(), batches(TRAIN), [batches(VAL)] * 2, trains={"val_loader": 1})
    assert scores(found) == expected(-video, other.flip(1))


def test_the_hooks_of_the_datamodule_come_first() -> None:
    wanted = expected(3 * TRAIN[:][1] ** 2, 3 * VAL[:][1] ** 2)
    assert scores(diagnosed(None, InDataModule())) == wanted

    class Both(Still):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            raise AssertionError

    assert scores(diagnosed(Both(), InDataModule())) == wanted
    given = {"train_loader": batches(TRAIN), "val_loader": batches(VAL)}
    assert scores(diagnosed(None, InDataModule(), trains=given)) == wanted


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"limit_train_batches": 2, "limit_val_batches": 3}, (32, 48)),
        ({"limit_train_batches": 0.5, "limit_val_batches": 0.5}, (48, 32)),
        ({"limit_train_batches": 100, "limit_val_batches": 4}, (101, 53)),
        ({"overfit_batches": 2}, (32, 32)),
    ],
    ids=["int", "fraction", "more than there are", "overfit"],
)
def test_the_limits_of_the_trainer_hold(options: dict[str, Any], sizes: tuple[int, int]) -> None:
    found = diagnosed(**options)
    assert (found["n_train"], found["n_val"]) == sizes
    encoder, (_, video, target), (_, other, label) = Still().net.video, TRAIN[:], VAL[:]
    train, val = sizes
    assert found["train_score"] == eq.purity(encoder(video[:train]).detach(), target[:train])
    assert found["val_score"] == eq.purity(encoder(other[:val]).detach(), label[:val])


def test_a_limited_shuffled_loader_gives_a_sample_of_all_classes() -> None:
    """The first samples in the order of this dataset have one class only."""
    order = TRAIN[:][2].argsort(stable=True)
    by_class = TensorDataset(*(part[order] for part in TRAIN[:]))
    random = batches(by_class, shuffle=True, generator=torch.Generator().manual_seed(3))
    found = diagnosed(None, random, batches(VAL), limit_train_batches=2)
    assert found["n_train"] == 32
    assert 0 < found["train_score"] < 1
    with pytest.raises(eq.DataError, match="class"):
        diagnosed(None, batches(by_class), batches(VAL), limit_train_batches=2)


class Endless(IterableDataset[Any]):
    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Any]:
        for row in count():
            yield self.data[row % len(self.data)]


def test_an_endless_dataset_ends_at_the_limit_or_is_refused() -> None:
    endless, limits = batches(Endless(TRAIN)), {"limit_train_batches": 3, "limit_val_batches": 2}
    found = diagnosed(None, endless, batches(Endless(VAL)), **limits)
    assert (found["n_train"], found["n_val"]) == (48, 32)
    with pytest.raises(eq.UsageError, match="no length.*give the Trainer limit_train_batches"):
        diagnosed(None, endless, batches(VAL), epochs=-1, max_steps=9)
    for name in ("train_loader", "val_loader"):
        with pytest.raises(eq.UsageError, match=f"{name} is a DataLoader without a length"):
            DiagnoseRelearnCallback(VIDEO, **{name: endless})
    with pytest.raises(eq.UsageError, match="limit_val_batches=0; found 0"):
        diagnosed(limit_val_batches=0)


def test_a_training_of_few_steps_warns_that_no_re_learning_follows() -> None:
    callback = DiagnoseRelearnCallback(VIDEO, every=2, count=1)
    with pytest.warns(eq.EquipoiseWarning, match="never"):
        trainer(callback, epochs=-1, max_steps=14).fit(Still(), batches(TRAIN), batches(VAL))


def test_a_loader_of_a_collection_is_named(recwarn: pytest.WarningsRecorder) -> None:
    other = TensorDataset(VAL[:][0], VAL[:][1] * 0 + VAL[:][2][:, None], VAL[:][2])
    first, second = expected(TRAIN[:][1], VAL[:][1])[1], 1.0

    def score(loaders: Any, choice: Any = None) -> float:
        trains = {} if choice is None else {"val_loader": choice}
        return float(diagnosed(None, batches(TRAIN), loaders, trains=trains)["val_score"])

    nested = {"clean": [batches(VAL), batches(other)], "noisy": batches(other)}
    assert score([batches(VAL), batches(other)], 1) == second
    assert score(nested, "clean/1") == score(nested, "noisy") == second
    assert score(pl.utilities.CombinedLoader(nested, "sequential"), "clean/0") == first
    assert score([batches(VAL)]) == score({"only": batches(VAL)}) == first
    assert not [found for found in recwarn if issubclass(found.category, eq.EquipoiseWarning)]
    with pytest.warns(eq.EquipoiseWarning, match=r"loaders clean/0, clean/1, noisy; .* first, clean/0"):
        assert score(nested) == first
    with pytest.raises(eq.UsageError, match="loaders clean/0, clean/1, noisy, and not 'loud'"):
        score(nested, "loud")
    several = {"a": batches(TRAIN), "b": batches(VAL)}
    for callback in (DiagnoseRelearnCallback(VIDEO, train_loader="c"), MethodCallback("ogm", VIDEO)):
        with pytest.raises(eq.UsageError, match=r"training loaders a, b, and n.*give train_loader= the name"):
            trainer(callback).fit(Still(), several, batches(VAL))


class Noting(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append(pl_module.net.video[0].weight.detach().clone())


def test_a_second_fit_keeps_the_initial_weights_of_the_first() -> None:
    """A strength of 1 sets an encoder to its initial weights."""
    fixed = {"strength": "fixed", "max_alpha": 1.0}
    callback, noting = DiagnoseRelearnCallback(VIDEO, epochs=[0, 2], **fixed), Noting()
    module, training = Learning(), trainer(callback, noting, epochs=3)
    initial = module.net.video[0].weight.detach().clone()
    with pytest.warns(eq.EquipoiseWarning, match="after epoch 2 never takes effect"):
        training.fit(module, batches(TRAIN), batches(VAL))
    training.fit_loop.max_epochs = 5
    with pytest.warns(eq.EquipoiseWarning, match="initial weights are those from before that training"):
        training.fit(module, batches(TRAIN), batches(VAL))
    assert [torch.equal(weight, initial) for weight in noting.seen] == [True, True, False, True, False]
    assert callback.relearn is not None
    assert [entry["epoch"] for entry in callback.relearn.history] == [0, 2]
    # A new callback, in a new Trainer, takes the weights as they are.
    present, again = module.net.video[0].weight.detach().clone(), Noting()
    trainer(DiagnoseRelearnCallback(VIDEO, epochs=[0], **fixed), again, epochs=2).fit(
        module, batches(TRAIN), batches(VAL)
    )
    assert [torch.equal(weight, present) for weight in again.seen] == [True, True]


def test_resuming_with_a_used_callback_equals_an_uninterrupted_training(tmp_path: Path) -> None:
    callback = DiagnoseRelearnCallback(VIDEO, every=1, count=3, lam=30.0)
    whole, training = Learning(), trainer(callback, epochs=5)
    loaders = batches(TRAIN), batches(VAL)
    training.fit(whole, *loaders)
    half = DiagnoseRelearnCallback(VIDEO, every=1, count=3, lam=30.0)
    module, training = Learning(), trainer(half, epochs=3)
    with pytest.warns(eq.EquipoiseWarning, match="after epoch 2, 3 never takes effect"):
        training.fit(module, *loaders)
    training.save_checkpoint(tmp_path / "half.ckpt")
    training.fit_loop.max_epochs = 5
    training.fit(module, *loaders, ckpt_path=tmp_path / "half.ckpt")
    assert half.relearn is not None
    assert [entry["epoch"] for entry in half.relearn.history] == [1, 2, 3]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_methods_train_in_true_half_and_double_precision(precision: str) -> None:
    for name in ("ogm-ge", "multi-loss", "pmr"):
        module = Learning()
        before = module.net.head.weight.detach().clone()
        trainer(MethodCallback(name, BOTH, head="net.head"), epochs=2, precision=precision).fit(
            module, batches(TRAIN)
        )
        assert torch.isfinite(module.net.head.weight).all()
        assert not torch.equal(module.net.head.weight.to(before.dtype), before)


def test_methods_read_samples_like_the_module_and_know_the_limit() -> None:
    for hooked in (Turned(), Still()):
        data = InDataModule() if type(hooked) is Still else batches(TRAIN)
        callback = MethodCallback("pmr", BOTH, head="net.head")
        trainer(callback, epochs=1, limit_train_batches=3).fit(hooked, data)
        run = callback.training._run  # type: ignore[union-attr]
        assert run.steps_per_epoch == 3
        video, taken = TRAIN[:2][1], run.take([0, 1]).pieces[0][1]
        assert torch.equal(taken, 3 * video**2 if type(hooked) is Still else -video)
