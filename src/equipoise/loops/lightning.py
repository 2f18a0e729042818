"""Diagnosing & Re-learning, and any method of a standard step, as callbacks of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from equipoise.diagnosis import Diagnosis
from equipoise.loops.handles import Handles, check_handles, resolved
from equipoise.loops.lightning_methods import MethodCallback
from equipoise.relearning import DiagnoseRelearn
from equipoise.types import EquipoiseError, MissingExtraError, UsageError

try:
    import lightning.pytorch as pl
except ModuleNotFoundError as error:
    raise MissingExtraError("lightning", "lightning", "equipoise.loops.lightning") from error

__all__ = ["DiagnoseRelearnCallback", "MethodCallback"]


class DiagnoseRelearnCallback(pl.Callback):
    """Diagnose and re-learn the encoders of a LightningModule every few epochs.

    A re-learning that is due after epoch e is done right before epoch e + 1, when e has been validated and
    its checkpoints are written. Features are computed by calling the module on its batches, under the
    Trainer's precision. The averaged copies of Lightning's `WeightAveraging` and `StochasticWeightAveraging`
    follow, see `RelearnOptions.ema_policy`. Purities, gap and strength go to the Trainer's loggers as
    `equipoise/MODALITY/NAME`; the state is part of the Trainer's checkpoints.

    Args:
        encoders: modality to encoder, or to its path inside the module (`"audio_net"`, `"model.audio"`).
        every, count, lam: see `equipoise.DiagnoseRelearn`.
        train_loader: batches to diagnose on, best without augmentation; by default the Trainer's.
        val_loader: validation batches; by default the Trainer's (the first, where there are several).
        **options: further arguments of `equipoise.DiagnoseRelearn`, such as `inputs_of` and `forward` for
            batches of another structure. The optimisers are the Trainer's.

    Attributes:
        relearn: the `equipoise.DiagnoseRelearn` that does the work, once fitting has begun.

    Raises:
        UsageError: an option does not exist, or the handles are no modules or paths.
    """

    def __init__(
        self,
        encoders: Handles,
        every: int = 20,
        count: int = 3,
        lam: float | Mapping[str, float] = 3.0,
        *,
        train_loader: Iterable[Any] | None = None,
        val_loader: Iterable[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_handles(encoders)
        self.encoders: Handles = dict(encoders)
        self.options = {"every": every, "count": count, "lam": lam, **options}
        self.train_loader, self.val_loader = train_loader, val_loader
        self.relearn: DiagnoseRelearn | None = None
        self._pending: dict[str, Any] | None = None
        self._followed = -1  # the last epoch that has been followed by what is due behind it

    @property
    def state_key(self) -> str:
        """The callback's name in a checkpoint."""
        return f"{type(self).__qualname__}({', '.join(self.encoders)})"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the encoders as they are, or as the checkpoint says that they were."""
        self._followed = -1
        # Both kinds of averaging callbacks of Lightning keep their copy under this name.
        copies = [getattr(callback, "_average_model", None) for callback in trainer.callbacks]  # type: ignore[attr-defined]
        found = {"optimizer": trainer.optimizers, "ema": [copy for copy in copies if copy is not None]}
        self.relearn = DiagnoseRelearn(resolved(self.encoders, pl_module), **{**found, **self.options})
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            self.relearn.check(trainer.max_epochs)
        self._take_over()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Re-learn where that is due behind the epoch before."""
        self._follow(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Do what a training misses that goes on from a checkpoint of an epoch's last batch.

        Lightning then begins the next epoch without `on_train_epoch_start`.
        """
        self._follow(trainer, pl_module)

    def _follow(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch - 1
        if epoch <= self._followed:
            return
        self._followed = epoch
        relearn = self._begun()
        relearn.track()
        if relearn.due(epoch):
            with trainer.precision_plugin.forward_context():
                diagnosis = relearn.step(epoch, pl_module, self._train(trainer), self._val(trainer))
            self._log(trainer, diagnosis)

    def _begun(self) -> DiagnoseRelearn:
        if self.relearn is None:
            raise EquipoiseError("the callback has not seen fitting begin; add it to Trainer(callbacks=).")
        return self.relearn

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps."""
        if self.relearn is None:
            return self._pending or {}
        return {"relearn": self.relearn.state_dict(), "followed": self._followed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of a checkpoint, now or once fitting begins."""
        self._pending = state_dict or None
        self._take_over()

    def _take_over(self) -> None:
        if self.relearn is not None and self._pending is not None:
            self.relearn.load_state_dict(self._pending["relearn"])
            self._followed = int(self._pending["followed"])
            self._pending = None

    def _train(self, trainer: pl.Trainer) -> Iterable[Any]:
        if self.train_loader is not None:
            return self.train_loader
        loader: Any = trainer.train_dataloader
        if isinstance(loader, Mapping | list | tuple):
            raise UsageError(
                f"the Trainer has {len(loader)} training loaders; give train_loader= the one to diagnose on."
            )
        return loader  # type: ignore[no-any-return]

    def _val(self, trainer: pl.Trainer) -> Iterable[Any]:
        if self.val_loader is not None:
            return self.val_loader
        loop = trainer.fit_loop.epoch_loop.val_loop
        loop.setup_data()
        loaders: Any = trainer.val_dataloaders
        if isinstance(loaders, list | tuple):
            loaders = loaders[0] if loaders else None
        if loaders is None or isinstance(loaders, Mapping):
            raise UsageError(
                "the gap is one between training and validation, and the Trainer has no validation loader; "
                "give it one, or give the callback val_loader=."
            )
        return loaders  # type: ignore[no-any-return]

    def _log(self, trainer: pl.Trainer, diagnosis: Diagnosis) -> None:
        values = {
            f"equipoise/{name}/{key}": value
            for name, state in diagnosis.items()
            for key, value in (
                ("train_score", state.train_score),
                ("val_score", state.val_score),
                ("gap", state.gap),
                ("strength", state.applied),
            )
            if value is not None
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
