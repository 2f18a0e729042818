"""Methods under transformers.Trainer, with the model's own loss, give the weights of our trainer."""

from __future__ import annotations

import sys
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import equipoise as eq
from against_trainer import FITTING, OPTIONS, trained_by_us

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from transformers import TrainingArguments  # noqa: E402
from transformers.modeling_outputs import SequenceClassifierOutput  # noqa: E402

from equipoise.loops.transformers import MethodCallback  # noqa: E402
from trainer_modules import HANDLES, WithLoss, collate, trainer  # noqa: E402

PLUS = "diagnose-relearn-plus"
pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("name", FITTING)
def test_weights_equal_those_of_our_trainer(tmp_path: Path, name: str) -> None:
    options = OPTIONS.get(name, {})
    trained = trained_by_us(name, options)
    callback = MethodCallback(name, HANDLES, head="net.head", options=options)
    made = trainer(tmp_path, trained, callback)
    made.train()
    trained.assert_equal()
    assert "forward" not in made.model.__dict__
    terms = {key for entry in made.state.log_history for key in entry if key.startswith("equipoise/loss/")}
    assert "equipoise/loss/joint" in terms or name == "cml"


def test_gradients_of_a_scaled_loss_are_unscaled_before_the_method_edits_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `fp16` on a GPU: the loss is multiplied by a power of two."""
    trained, seen = trained_by_us("multi-loss", {}), []
    edit = eq.HandTraining.on_gradients

    def spy(training: eq.HandTraining) -> None:
        edit(training)
        seen.append(max(float(p.grad.abs().max()) for p in trained.plain.parameters()))

    monkeypatch.setattr(eq.HandTraining, "on_gradients", spy)
    made = trainer(tmp_path, trained, MethodCallback("multi-loss", HANDLES, head="net.head"))
    made.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    assert not made.args.max_grad_norm
    made.train()
    assert made.accelerator.scaler.get_scale() == 2.0**16
    assert 0 < max(seen) < 10
    trained.assert_equal()


@pytest.mark.parametrize("name", ["multi-loss", "pmr", "inforeg", "opm"])
def test_resuming_from_a_checkpoint_gives_the_same_end(tmp_path: Path, name: str) -> None:
    options = OPTIONS.get(name, {})
    # No dropout: the Trainer restores the random state of the checkpoint, ours seeds each epoch anew.
    still = {modality: {"dropout": 0.0} for modality in ("audio", "video")}
    trained = trained_by_us(name, options, encoder_options=still)

    def made() -> Any:
        callback = MethodCallback(name, HANDLES, head="net.head", options=options)
        return trainer(tmp_path, trained, callback, save_strategy="epoch")

    made().train()
    trained.assert_equal()
    folders = sorted((tmp_path / "trainer").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    assert (folders[1] / "equipoise-method.pt").is_file()
    made().train(resume_from_checkpoint=str(folders[1]))
    trained.assert_equal()


def test_accumulated_batches_equal_one(tmp_path: Path) -> None:
    trained = trained_by_us("joint", {})
    for part in trained.plain.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    start = {key: value.clone() for key, value in trained.plain.state_dict().items()}

    def ended(size: int, **options: Any) -> dict[str, Tensor]:
        trained.plain.load_state_dict(start)
        made = trainer(
            tmp_path,
            trained,
            MethodCallback("ogm", HANDLES, head="net.head", options={"end_epoch": 2}),
            **options,
        )
        rows = torch.utils.data.Subset(trained.loader.dataset, range(48))
        made.served = DataLoader(rows, batch_size=size, collate_fn=collate)
        made.train()
        return {key: value.clone() for key, value in trained.plain.state_dict().items()}

    whole, halves = ended(16), ended(8, gradient_accumulation_steps=2)
    for key, value in whole.items():
        torch.testing.assert_close(halves[key], value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("falls", [False, True])
def test_relearning_in_cycles_finds_validation_batches_and_sets_the_rates(
    tmp_path: Path, given: bool, falls: bool
) -> None:
    trained = trained_by_us(PLUS, {"cycles": 2})
    held = trained.in_order[1].dataset
    callback = MethodCallback(PLUS, HANDLES, options={"cycles": 2}, val_dataset=held if given else None)
    made = trainer(tmp_path, trained, callback, held=held, eval_strategy="no" if given else "epoch")
    # As the Trainer's own schedulers, it sets the rate after each step, here to the user's own or lower.
    part = 0.9 if falls else 1.0
    made.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(made.optimizer, lambda step: part**step)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", eq.EquipoiseWarning)
        made.train()
    said = [str(one.message) for one in caught if issubclass(one.category, eq.EquipoiseWarning)]
    assert ["a scheduler set the learning rate to 0.045" in line for line in said] == [True] * falls
    trained.assert_equal()


def test_without_validation_samples_the_method_is_refused(tmp_path: Path) -> None:
    trained = trained_by_us("joint", {})
    # The first of four epochs ends before the Trainer evaluates.
    for ends, evaluates in (([0.5], "no"), ([0.25], "epoch")):
        callback = MethodCallback(PLUS, HANDLES, options={"ends": ends})
        held = trained.in_order[1].dataset
        made = trainer(tmp_path, trained, callback, held=held, eval_strategy=evaluates)
        with pytest.raises(eq.UsageError, match="give the callback val_dataset="):
            made.train()
    with pytest.raises(eq.UsageError, match="use equipoise.DiagnoseRelearn"):
        trainer(tmp_path, trained, MethodCallback("diagnose-relearn", HANDLES)).train()


class Dict(WithLoss):
    def forward(self, audio: Tensor, video: Tensor, labels: Tensor | None = None) -> Any:
        return dict(super().forward(audio, video, labels))


class Tuple(WithLoss):
    def forward(self, audio: Tensor, video: Tensor, labels: Tensor | None = None) -> Any:
        return super().forward(audio, video, labels).to_tuple()


class Named(NamedTuple):
    loss: Tensor | None
    logits: Tensor


class NamedFields(WithLoss):
    def forward(self, audio: Tensor, video: Tensor, labels: Tensor | None = None) -> Any:
        found = super().forward(audio, video, labels)
        return Named(found.loss, found.logits)


@pytest.mark.parametrize(("kind", "name"), [(Dict, "multi-loss"), (Tuple, "opm"), (NamedFields, "ogm-ge")])
def test_outputs_of_any_kind_train_alike(tmp_path: Path, kind: type[WithLoss], name: str) -> None:
    options = OPTIONS.get(name, {})
    trained = trained_by_us(name, options)
    callback = MethodCallback(name, HANDLES, head="net.head", options=options)
    trainer(tmp_path, trained, callback, kind=kind).train()
    trained.assert_equal()


class Silent(WithLoss):
    def forward(self, audio: Tensor, video: Tensor, labels: Tensor | None = None) -> Any:
        return {"logits": super().forward(audio, video).logits, "loss": None}


class Stream(IterableDataset[Any]):
    """As many samples as are asked for, or `n`."""

    def __init__(self, rows: Any, n: int = sys.maxsize) -> None:
        self.rows, self.n = rows, n

    def __iter__(self) -> Any:
        return (self.rows[at % 48] for at in range(self.n))


@pytest.mark.parametrize("n", [sys.maxsize, 48])
def test_a_training_set_without_a_length_is_one_epoch(tmp_path: Path, n: int) -> None:
    """Five steps of the method, by hand and under the Trainer, on the same batches."""
    trained = trained_by_us("joint", {})
    for part in trained.plain.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    rows, plain = trained.loader.dataset, deepcopy(trained.plain)
    callback = MethodCallback("multi-loss", HANDLES, head="net.head", options={"weight": 0.5})
    made = trainer(tmp_path, trained, callback, max_steps=5)
    made.served = DataLoader(Stream(rows, n), batch_size=16, collate_fn=collate)
    made.train()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    batches = [collate([rows[at % 48] for at in range(first, first + 16)]) for first in range(0, 80, 16)]
    encoders = {"audio": plain.audio_net, "video": plain.video_net}
    rest = {"head": plain.head, "optimizer": optimizer, "train_loader": batches, "epochs": 1}
    method = eq.by_hand("multi-loss", plain, encoders, weight=0.5, **rest)
    for _ in method.epochs():
        for batch in batches:
            optimizer.zero_grad()
            method.loss(batch).backward()
            optimizer.step()
    assert callback.training is not None
    assert callback.training.total_epochs == 1
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(trained.plain.state_dict()[name], value, rtol=0, atol=1e-10)


class CountsItems(WithLoss):
    """Divides its loss by the samples of all accumulated batches, like models of transformers."""

    def forward(self, audio: Tensor, video: Tensor, labels: Any = None, **kwargs: Any) -> Any:
        logits = self.net(audio, video)
        count = kwargs.get("num_items_in_batch")
        if labels is None:
            return SequenceClassifierOutput(logits=logits)
        total = nn.functional.cross_entropy(logits, labels, reduction="sum")
        return SequenceClassifierOutput(total / (len(labels) if count is None else count), logits)


def test_method_terms_are_scaled_like_a_loss_over_all_accumulated_samples() -> None:
    draw = torch.Generator().manual_seed(0)
    net = nn.ModuleDict({"audio": nn.Linear(4, 3), "video": nn.Linear(4, 3), "head": nn.Linear(6, 3)})

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.audio_net, self.video_net, self.head = net["audio"], net["video"], net["head"]

        def forward(self, audio: Tensor, video: Tensor) -> Tensor:
            return self.head(torch.cat([self.audio_net(audio), self.video_net(video)], dim=1))

    model = CountsItems(Net())
    rows = [
        {"audio": torch.randn(4, generator=draw), "video": torch.randn(4, generator=draw), "labels": i % 3}
        for i in range(12)
    ]
    callback = MethodCallback("multi-loss", HANDLES, head="net.head", options={"logits": "slice"})
    args = TrainingArguments("unused", use_cpu=True, report_to=[], save_strategy="no", max_steps=1)
    callback.on_train_begin(
        args,
        transformers.TrainerState(num_train_epochs=1),
        transformers.TrainerControl(),
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        train_dataloader=DataLoader(rows, batch_size=6),
    )
    callback.training.start_epoch(0)  # type: ignore[union-attr]
    batches = list(DataLoader(rows, batch_size=6))
    losses = [model(**batch, num_items_in_batch=12).loss for batch in batches]
    means = [model(**batch).loss for batch in batches]
    assert float(sum(losses)) == pytest.approx(float(sum(means)) / 2, rel=1e-12)


def test_unsupported_uses_are_refused(tmp_path: Path) -> None:
    trained = trained_by_us("joint", {})
    with pytest.raises(eq.UsageError, match="label_smoothing_factor"):
        smoothed = TrainingArguments(
            str(tmp_path / "t"), label_smoothing_factor=0.1, use_cpu=True, report_to=[]
        )
        model = WithLoss(trained.plain)
        MethodCallback("multi-loss", HANDLES).on_train_begin(
            smoothed,
            transformers.TrainerState(),
            transformers.TrainerControl(),
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        )
    with pytest.raises(eq.ModelError, match="dict has no loss: the method needs a model that computes"):
        trainer(tmp_path, trained, MethodCallback("multi-loss", HANDLES), kind=Silent).train()
    with pytest.raises(eq.RunFolderError, match="the method's state is unknown"):
        made = trainer(tmp_path, trained, save_strategy="epoch")
        made.train()
        again = trainer(tmp_path, trained, MethodCallback("multi-loss", HANDLES), save_strategy="epoch")
        again.train(resume_from_checkpoint=True)
