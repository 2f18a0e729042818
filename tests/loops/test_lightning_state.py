"""Side effects of re-learning in Lightning's Trainer: averaged copies, optimisers and learning rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from two_processes import TwoStreams

pl = pytest.importorskip("lightning.pytorch")
from torch.utils.data import DataLoader  # noqa: E402

from equipoise.loops.lightning import DiagnoseRelearnCallback  # noqa: E402
from two_processes import samples  # noqa: E402

PATHS = {"audio": "net.audio", "video": "net.video"}
FIXED = {"every": 1, "count": 1, "strength": "fixed", "max_alpha": 0.3}


class Lit(pl.LightningModule):
    def __init__(self, optimizers: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = TwoStreams()
        self.optimizers_of = optimizers
        self.rates: list[float] = []

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.net(audio, video)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.cross_entropy(self(*batch[:2]), batch[2])

    def validation_step(self, batch: Any, _: int) -> None:
        self(*batch[:2])

    def configure_optimizers(self) -> Any:
        if self.optimizers_of is not None:
            return self.optimizers_of(self)
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def fitted(folder: Path, module: pl.LightningModule, *callbacks: Any, epochs: int = 3) -> pl.LightningModule:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
        **quiet,
    )
    trainer.fit(module, *(DataLoader(samples(n, seed), batch_size=16) for n, seed in ((101, 0), (53, 1))))
    return module


class Noting(pl.Callback):
    """Keeps the weights and those of an averaging callback before and after a re-learning."""

    def __init__(self, averaging: Any, seen: list[Any]) -> None:
        self.averaging, self.seen = averaging, seen

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        parts = (pl_module, getattr(self.averaging._average_model, "module", self.averaging._average_model))
        self.seen.append([{k: v.clone() for k, v in p.net.audio.named_parameters()} for p in parts])


@pytest.mark.parametrize("kind", ["ema", "swa"])
@pytest.mark.parametrize("policy", ["keep", "blend", "copy", None])
def test_the_copies_of_averaging_callbacks_are_updated(tmp_path: Path, kind: str, policy: str | None) -> None:
    if kind == "ema" and not hasattr(pl.callbacks, "EMAWeightAveraging"):
        pytest.skip("this version of Lightning has no callback for moving averages")
    averaging = (
        pl.callbacks.EMAWeightAveraging(decay=0.9)
        if kind == "ema"
        else pl.callbacks.StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)
    )
    options = {} if policy is None else {"ema_policy": policy}
    relearn = DiagnoseRelearnCallback(PATHS, **FIXED, **options)
    seen: list[Any] = []
    module = Lit()
    initial = {name: value.clone() for name, value in module.net.audio.named_parameters()}
    fitted(tmp_path, module, averaging, Noting(averaging, seen), relearn, Noting(averaging, seen))
    (before, average), (now, after) = seen[4:6]  # epoch 2
    for name, value in after.items():
        torch.testing.assert_close(now[name], 0.7 * before[name] + 0.3 * initial[name])
        expected = {
            "keep": average[name],
            "blend": 0.7 * average[name] + 0.3 * initial[name],
            "copy": now[name],
        }[policy or "blend"]
        torch.testing.assert_close(value, expected)


class Manual(Lit):
    """Two optimisers with manual optimization."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, _: int) -> None:
        one, two = self.optimizers()
        one.zero_grad()
        two.zero_grad()
        self.manual_backward(nn.functional.cross_entropy(self(*batch[:2]), batch[2]))
        one.step()
        two.step()

    def configure_optimizers(self) -> Any:
        rest = [*self.net.video.parameters(), *self.net.head.parameters()]
        return torch.optim.AdamW(self.net.audio.parameters()), torch.optim.SGD(rest, lr=0.1, momentum=0.9)


def test_all_optimisers_of_the_module_are_updated(tmp_path: Path) -> None:
    class Cleared(pl.Callback):
        found: list[bool]

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            states = {p: state for o in trainer.optimizers for p, state in o.state.items()}
            encoders = [*pl_module.net.audio.parameters(), *pl_module.net.video.parameters()]
            self.found = [any(v.any() for v in states[p].values()) for p in encoders if p in states]

    cleared = Cleared()
    relearn = DiagnoseRelearnCallback(PATHS, **FIXED, optimizer_state="zero")
    fitted(tmp_path, Manual(), relearn, cleared)
    assert len(cleared.found) == 10
    assert not any(cleared.found)


def test_the_rate_warms_up_again_with_a_scheduler_of_every_step(tmp_path: Path) -> None:
    rates: list[list[float]] = []

    def configured(module: Lit) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        optimizer.register_step_post_hook(lambda o, *_: module.rates.append(float(o.param_groups[0]["lr"])))
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=21)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    ends = []
    for options in ({}, {"rewarm_steps": 5}):
        module = Lit(configured)
        fitted(tmp_path, module, DiagnoseRelearnCallback(PATHS, **FIXED, **options))
        rates.append(module.rates)
        ends.append(module.net.head.weight.detach().clone())
    assert len(rates[0]) == 21
    # This hook runs before the one that restores the rate, so it sees the rate of the step.
    planned = rates[0]
    factors = [1.0] * 14 + [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0]
    assert rates[1] == pytest.approx([f * r for f, r in zip(factors, planned, strict=True)])
    assert not torch.equal(*ends)


def test_a_copy_may_be_named_explicitly(tmp_path: Path) -> None:
    module = Lit()
    average = torch.optim.swa_utils.AveragedModel(module.net)
    initial = {name: value.clone() for name, value in module.net.audio.named_parameters()}
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.fill_(1.0)
    fitted(tmp_path, module, DiagnoseRelearnCallback(PATHS, **FIXED, ema=average))
    for name, value in average.module.audio.named_parameters():
        torch.testing.assert_close(value, 0.7 + 0.3 * initial[name])
