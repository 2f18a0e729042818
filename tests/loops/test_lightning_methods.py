"""Methods in Lightning, with the module's own step under the Trainer, give the weights of our trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from against_trainer import EPOCHS, FITTING, OPTIONS, trained_by_us

pl = pytest.importorskip("lightning.pytorch")
from equipoise.loops.lightning import MethodCallback  # noqa: E402
from lightning_modules import HANDLES, Begin, Lit, fit, trainer  # noqa: E402

PLUS = "diagnose-relearn-plus"


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", FITTING)
def test_weights_equal_those_of_our_trainer(tmp_path: Path, name: str) -> None:
    options = OPTIONS.get(name, {})
    trained = trained_by_us(name, options)
    module = fit(tmp_path, trained, MethodCallback(name, HANDLES, head="net.head", options=options))
    trained.assert_equal()
    # For methods that edit features the step starts twice; it ends, and logs, once.
    assert module.calls == EPOCHS * len(trained.loader) * (2 if name in ("opm", "dgl") else 1)
    assert "training_step" not in module.__dict__


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["multi-loss", "pmr", "inforeg", "opm"])
def test_resuming_from_a_checkpoint_gives_the_same_end(tmp_path: Path, name: str) -> None:
    options = OPTIONS.get(name, {})
    trained = trained_by_us(name, options)
    keep = pl.callbacks.ModelCheckpoint(tmp_path / "kept", every_n_epochs=1, save_top_k=-1)

    def callback() -> Any:
        return MethodCallback(name, HANDLES, head="net.head", options=options)

    fit(tmp_path, trained, callback(), keep)
    trained.assert_equal()
    middle = next(path for path in (tmp_path / "kept").iterdir() if "epoch=1-" in path.name)
    fit(tmp_path, trained, callback(), ckpt=middle)  # the model is trained already; the checkpoint resets it
    trained.assert_equal()


class Validated(Lit):
    """With validation batches, and if asked with a scheduler that changes the rate after each step."""

    scheduled = False

    def validation_step(self, batch: Any, _: int) -> None:
        self(*batch[:-1])

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        if not self.scheduled:
            return optimizer
        falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling, "interval": "step"}}


class Scheduled(Validated):
    scheduled = True


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("options", [{"cycles": 2}, {"cycles": 2, "metric": "auxiliary-head"}])
def test_relearning_in_cycles_finds_validation_batches_and_sets_the_rates(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    trained = trained_by_us(PLUS, options)
    start = {key: value.clone() for key, value in trained.plain.state_dict().items()}
    keep = pl.callbacks.ModelCheckpoint(tmp_path / "kept", every_n_epochs=1, save_top_k=-1)

    def fitted(kind: type[Validated], *more: Any, ckpt: Any = None) -> None:
        trained.plain.load_state_dict(start)
        callback = MethodCallback(PLUS, HANDLES, options=options)
        made = trainer(tmp_path, Begin(trained), callback, *more, use_distributed_sampler=False)
        made.fit(kind(trained.plain), trained.loader, trained.in_order[1], ckpt_path=ckpt)
        trained.assert_equal()

    with warnings.catch_warnings():
        warnings.simplefilter("error", eq.EquipoiseWarning)
        fitted(Validated, keep)
    after = next(path for path in (tmp_path / "kept").iterdir() if "epoch=1-" in path.name)
    fitted(Validated, ckpt=after)
    with pytest.warns(eq.EquipoiseWarning, match="a scheduler set the learning rate to 0.045"):
        fitted(Scheduled)


def test_validation_batches_within_the_limit_of_the_trainer_or_none(tmp_path: Path) -> None:
    trained = trained_by_us("joint", {})
    callback = MethodCallback(PLUS, HANDLES, options={"cycles": 2})
    limits = {"limit_train_batches": 2, "limit_val_batches": 1}
    trainer(tmp_path, callback, **limits).fit(Validated(trained.plain), *trained.in_order)
    assert callback.training is not None
    (event,) = callback.training.history
    sizes = [(state["n_train"], state["n_val"]) for state in event["modalities"].values()]
    assert sizes == [(32, 16)] * 2
    with pytest.raises(eq.UsageError, match="no validation loader"):
        fit(tmp_path, trained, MethodCallback(PLUS, HANDLES))


class Tensors(torch.utils.data.Dataset[Any]):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return 48

    def __getitem__(self, row: int) -> Any:
        return self.inner[row]


def ended_of(tmp_path: Path) -> Callable[..., dict[str, Tensor]]:
    """Train with a method on the first 48 samples; return the last weights."""
    trained = trained_by_us("joint", {})
    rows = Tensors(trained.loader.dataset)
    start = {key: value.clone() for key, value in trained.plain.state_dict().items()}

    def ended(size: int, **options: Any) -> dict[str, Tensor]:
        trained.plain.load_state_dict(start)
        for part in trained.plain.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        callback = MethodCallback("ogm", HANDLES, head="net.head", options={"end_epoch": 2})
        loader = torch.utils.data.DataLoader(rows, batch_size=size)
        module = Lit(trained.plain)
        trainer(tmp_path, callback, **options).fit(module, loader)
        return {key: value.clone() for key, value in trained.plain.state_dict().items()}

    return ended


@pytest.mark.usefixtures("float64")
def test_two_accumulated_batches_equal_one_of_twice_the_size(tmp_path: Path) -> None:
    ended = ended_of(tmp_path)
    whole, halves = ended(16), ended(8, accumulate_grad_batches=2)
    for key, value in whole.items():
        torch.testing.assert_close(halves[key], value, rtol=0, atol=1e-10)


def test_the_method_works_with_clipping_and_bf16(tmp_path: Path) -> None:
    ended = ended_of(tmp_path)
    whole, clipped = ended(16), ended(16, gradient_clip_val=0.1, precision="bf16-mixed")
    assert all(torch.isfinite(value).all() for value in clipped.values())
    assert not torch.equal(clipped["head.weight"], whole["head.weight"])


def test_terms_and_coefficients_are_logged(tmp_path: Path) -> None:
    trained = trained_by_us("joint", {})
    logger = pl.loggers.CSVLogger(tmp_path)
    callback = MethodCallback("ogm", HANDLES, head="net.head")
    fit(tmp_path, trained, callback, logger=logger, log_every_n_steps=1)
    header = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[0]
    assert "equipoise/loss/joint" in header
    assert "equipoise/coefficient/audio" in header


class Manual(Lit):
    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.automatic_optimization = False


class Returning(Lit):
    """Steps that return more than a loss, and sometimes None."""

    def training_step(self, batch: Any, index: int) -> Any:
        loss = super().training_step(batch, index)
        return None if index == 1 else {"loss": loss, "seen": len(batch[-1])}


def test_a_module_with_manual_optimization_is_refused(tmp_path: Path) -> None:
    trained = trained_by_us("joint", {})
    with pytest.raises(eq.UsageError, match="use equipoise.by_hand in training_step"):
        trainer(tmp_path, MethodCallback("ogm", HANDLES, head="net.head")).fit(
            Manual(trained.plain), trained.loader
        )
    with pytest.raises(eq.ModelError, match="has no submodule 'net.sound'"):
        fit(tmp_path, trained, MethodCallback("ogm", {"sound": "net.sound"}))
    with pytest.raises(eq.UsageError, match="use equipoise.DiagnoseRelearn"):
        fit(tmp_path, trained, MethodCallback("diagnose-relearn", HANDLES))


def test_steps_may_return_mappings_or_skip(tmp_path: Path) -> None:
    trained = trained_by_us("joint", {})
    before = trained.plain.head.weight.clone()
    module = Returning(trained.plain)
    trainer(tmp_path, MethodCallback("multi-loss", HANDLES)).fit(module, trained.loader)
    assert torch.isfinite(trained.plain.head.weight).all()
    assert not torch.equal(before, trained.plain.head.weight)
