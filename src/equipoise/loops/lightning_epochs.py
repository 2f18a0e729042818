"""What the callbacks of Lightning's Trainer share: their state in checkpoints, and acting between epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from equipoise.diagnosis import Diagnosis
from equipoise.files.extras import needing
from equipoise.loops.callbacks import DiagnosesInTrainer, Tool
from equipoise.loops.lightning_loaders import (
    Choice,
    check_choice,
    planned_epochs,
    training_loader,
    validation_loader,
)
from equipoise.loops.plain.run import limited
from equipoise.relearning.figures import flat, named

with needing("lightning", "lightning", "equipoise.loops.lightning"):
    import lightning.pytorch as pl


class Checkpointed(pl.Callback):
    """A callback whose state is part of the Trainer's checkpoints."""

    _pending: dict[str, Any] | None = None
    """The state of a checkpoint that training has not taken over yet."""
    _state: Callable[[], dict[str, Any] | None]

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        kept = self._state()
        return self._pending or {} if kept is None else kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint when training begins."""
        self._pending = state_dict or None


class BetweenEpochs(DiagnosesInTrainer[Tool], Checkpointed):
    """Acts directly before the next epoch, after validation and checkpoints of the one that has ended."""

    train_loader: Choice
    val_loader: Choice

    def _choose(self, train_loader: Choice, val_loader: Choice) -> None:
        """Keep the loaders to diagnose on."""
        self.train_loader, self.val_loader = train_loader, val_loader
        check_choice(train_loader, "train_loader")
        check_choice(val_loader, "val_loader")

    @property
    def state_key(self) -> str:
        """The callback's name in a checkpoint."""
        return f"{type(self).__qualname__}({', '.join(self.encoders)})"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that there will be epochs, and batches to diagnose on."""
        self._pending = None
        training_loader(trainer, self.train_loader)
        validation_loader(trainer, self.val_loader)
        self._begin(trainer.current_epoch, planned_epochs(trainer))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Act if that is due after the previous epoch."""
        self._after(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Do the same when training is resumed from a checkpoint of an epoch's last batch.

        Lightning then begins the next epoch without `on_train_epoch_start`.
        """
        self._after(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint, now or when fitting begins."""
        super().load_state_dict(state_dict)
        if self._tool is not None and self._pending is not None:
            self._restore(self._pending)

    def _after(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *, last: bool = False) -> None:
        """Act after the epoch that has ended, and log what was measured."""

        def loaders() -> tuple[Iterable[Any], Iterable[Any]]:
            train = limited(training_loader(trainer, self.train_loader))
            return train, limited(validation_loader(trainer, self.val_loader))

        diagnosis = self._follow(trainer.current_epoch - 1, pl_module, loaders, last=last)
        if diagnosis is not None:
            log(trainer, self._figures(diagnosis))

    def _figures(self, diagnosis: Diagnosis) -> dict[str, float]:
        """Return the numbers to log."""
        return flat(diagnosis)


def log(trainer: pl.Trainer, values: Mapping[str, float]) -> None:
    """Log numbers under their names to all loggers of a Trainer."""
    if values:
        for logger in trainer.loggers:
            logger.log_metrics(named(values), step=trainer.global_step)
