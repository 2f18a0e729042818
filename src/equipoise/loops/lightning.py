"""Watching, Diagnosing & Re-learning, and methods of a standard step, as callbacks of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from equipoise.diagnosis import Diagnosis
from equipoise.files.extras import needing
from equipoise.loops.callbacks import Handles, RelearnsInTrainer, TrainsByMethod, WatchesInTrainer
from equipoise.loops.lightning_epochs import BetweenEpochs, Checkpointed, log
from equipoise.loops.lightning_loaders import Choice, check_choice, training_loader, validation_loader
from equipoise.loops.plain.run import limited
from equipoise.methods import Method
from equipoise.relearning import DiagnoseRelearn, Monitor
from equipoise.relearning.figures import flat
from equipoise.types import UsageError

with needing("lightning", "lightning", "equipoise.loops.lightning"):
    import lightning.pytorch as pl


class DiagnoseRelearnCallback(RelearnsInTrainer, BetweenEpochs[DiagnoseRelearn]):
    """Diagnose and re-learn the encoders of a LightningModule every few epochs.

    A re-learning that is due after epoch e runs directly before epoch e + 1, after validation and checkpoints
    of e. Features are computed by calling the module on the batches that the Trainer would give it: in its
    precision, after the hooks of module and datamodule, within `limit_train_batches` and
    `limit_val_batches`. The averaged copies of Lightning's `WeightAveraging` and
    `StochasticWeightAveraging` follow, see `RelearnOptions.ema_policy`. Purities, gap and strength go to the
    Trainer's loggers as `equipoise/NAME/MODALITY`; the state is part of the Trainer's checkpoints. A second
    fit of the same encoders keeps the initial weights from before the first, with a warning; a new callback
    takes them anew.

    Args:
        encoders: modality to encoder, or to its path inside the module (`"audio_net"`, `"model.audio"`).
        every, count, lam: see `equipoise.DiagnoseRelearn`.
        train_loader: batches to diagnose on, preferably without augmentation, read whole; or the name of one
            of the Trainer's loaders (key, position, or path such as `"clean/0"`); by default the Trainer's.
        val_loader: validation batches in the same way; by default the first of the Trainer's loaders.
        **options: further arguments of `equipoise.DiagnoseRelearn`, such as `inputs_of` and `forward` for
            batches of another structure. The optimisers are the Trainer's.

    Attributes:
        relearn: the `equipoise.DiagnoseRelearn` that does the work, once fitting has begun.

    Raises:
        UsageError: an option does not exist, the handles are not modules or paths, or a loader has no length.
    """

    def __init__(
        self,
        encoders: Handles,
        every: int = 20,
        count: int = 3,
        lam: float | Mapping[str, float] = 3.0,
        *,
        train_loader: Choice = None,
        val_loader: Choice = None,
        **options: Any,
    ) -> None:
        super().__init__(encoders, {"every": every, "count": count, "lam": lam, **options})
        self._choose(train_loader, val_loader)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the initial weights of the encoders, or restore them from the checkpoint."""
        # Both averaging callbacks of Lightning keep their copy under this name.
        copies = [getattr(callback, "_average_model", None) for callback in trainer.callbacks]  # type: ignore[attr-defined]
        averages = [copy for copy in copies if copy is not None]
        self._start(
            pl_module,
            trainer.precision_plugin.forward_context,
            self._pending,
            optimizer=trainer.optimizers,
            ema=averages,
        )


class MonitorCallback(WatchesInTrainer, BetweenEpochs[Monitor]):
    """Watch how well each modality of a LightningModule is learnt, without a change to the training.

    A look that is due after epoch e runs directly before epoch e + 1; one more follows the last epoch.
    Scores, gap and strength go to the Trainer's loggers as `equipoise/NAME/MODALITY`, the seconds of a look
    as `equipoise/seconds`; batches are read as by `DiagnoseRelearnCallback`. The history is part of the
    Trainer's checkpoints, and a second fit begins a new one.

    Args:
        encoders: modality to encoder, or to its path inside the module (`"audio_net"`, `"model.audio"`).
        every: epochs between looks.
        train_loader, val_loader: batches to measure on, see `DiagnoseRelearnCallback`.
        **options: further arguments of `equipoise.Monitor`, such as `lam`, `preset`, `metric`, `log`.

    Attributes:
        monitor: the `equipoise.Monitor` with the history, once fitting has begun.

    Raises:
        UsageError: an option does not exist, the handles are not modules or paths, or a loader has no length.
    """

    def __init__(
        self,
        encoders: Handles,
        every: int = 5,
        *,
        train_loader: Choice = None,
        val_loader: Choice = None,
        **options: Any,
    ) -> None:
        super().__init__(encoders, {"every": every, **options})
        self._choose(train_loader, val_loader)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a history, or restore it from the checkpoint."""
        self._start(pl_module, trainer.precision_plugin.forward_context, self._pending)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look after the last epoch."""
        self._after(trainer, pl_module, last=True)

    def _figures(self, diagnosis: Diagnosis) -> dict[str, float]:
        assert self.monitor is not None
        return {**flat(diagnosis), "seconds": self.monitor.history[-1]["seconds"]}


class MethodCallback(TrainsByMethod, Checkpointed):
    """Train a LightningModule by a method, with its own `training_step` and under its Trainer.

    The loss of the step is used as the joint loss; the method's terms are added to the loss that is returned,
    and gradients are edited when they are accumulated and unscaled, before they are clipped. Loss terms and
    coefficients go to the Trainer's loggers as `equipoise/...`; its checkpoints hold the method's state. A
    second fit starts the method anew.

    Args:
        method: name (`equipoise list methods`), or a method such as `equipoise.methods.OGM(alpha=0.5)`.
        encoders: modality to encoder, or to its path inside the module (`"audio_net"`, `"model.audio"`).
        head: see `equipoise.by_hand`; or a path, or modality to path.
        output: module whose output is the joint logits, or its path; by default the LightningModule, whose
            `forward` the step then has to call.
        options: options of a method that is given by name.
        train_loader: where the method reads samples by position, or the name of one of the Trainer's loaders;
            by default the Trainer's.
        val_loader: validation batches, of a method that measures them, in the same way; by default the first
            of the Trainer's loaders.
        **more: further arguments of `equipoise.by_hand`: `criterion`, `pool`, `inputs_of`, `target_of`,
            `forward`, `task`, `seed`.

    Attributes:
        training: the `equipoise.HandTraining` that does the work, once training has begun.

    Raises:
        UsageError: the method does not exist, or the handles are not modules or paths.
    """

    def __init__(
        self,
        method: str | Method,
        encoders: Handles,
        *,
        head: Any = None,
        output: str | nn.Module | None = None,
        options: Mapping[str, Any] | None = None,
        train_loader: Choice = None,
        val_loader: Choice = None,
        **more: Any,
    ) -> None:
        super().__init__(method, encoders, head, output, options, more)
        self.train_loader, self.val_loader = train_loader, val_loader
        check_choice(val_loader, "val_loader")

    @property
    def state_key(self) -> str:
        """The callback's name in a checkpoint."""
        return f"{type(self).__qualname__}({self.method.name}: {', '.join(self.encoders)})"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Try the model, and put the method around its `training_step`."""
        if not pl_module.automatic_optimization or len(trainer.optimizers) != 1:
            raise UsageError(
                f"{type(pl_module).__name__} steps its optimisers itself, or has {len(trainer.optimizers)}; "
                "the callback needs automatic optimisation with one: use equipoise.by_hand in training_step."
            )
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            raise UsageError(
                "the method needs to know the length of the training; give the Trainer max_epochs."
            )
        needed: dict[str, Any] = {}
        if self._validates():
            validation_loader(trainer, self.val_loader)  # raises before training
            needed["val_loader"] = lambda: limited(validation_loader(trainer, self.val_loader))
        # The model is tried, and may make tensors in true half or double precision.
        with trainer.precision_plugin.tensor_init_context():
            training = self._start(
                pl_module,
                train_loader=training_loader(trainer, self.train_loader),
                optimizer=trainer.optimizers[0],
                epochs=trainer.max_epochs,
                scaler=getattr(trainer.precision_plugin, "scaler", None),
                **needed,
            )
        if self._pending is not None:
            training.load_state_dict(self._pending)
            self._pending = None
        step = partial(self._step, pl_module.training_step)
        step.__wrapped__ = pl_module.training_step  # type: ignore[attr-defined]  # Lightning reads its signature
        pl_module.__dict__["training_step"] = step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the method's epoch."""
        self._begun().start_epoch(trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the epoch when training is resumed from a checkpoint of an epoch's last batch."""
        if not self._begun().open:
            self._begun().start_epoch(trainer.current_epoch)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        """Let the method edit the gradients."""
        self._edit_gradients()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log terms and coefficients as often as the Trainer logs."""
        every = max(1, getattr(trainer, "log_every_n_steps", 50))
        if trainer.loggers and (batch_idx + 1) % every == 0:
            log(trainer, self._begun().figures())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the method's epoch."""
        training = self._begun()
        training.end_epoch()
        log(trainer, training.told(trainer.current_epoch))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the module's own step."""
        pl_module.__dict__.pop("training_step", None)
        if self.training is not None:
            self._pending = None
            self.training.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Restore the module's own step."""
        self.on_train_end(trainer, pl_module)

    def _step(self, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the module's own step within the method's."""
        batch = args[0] if args else kwargs["batch"]
        results: list[Any] = []

        def compute() -> Any:
            results.append(own(*args, **kwargs))
            if results[-1] is None:
                raise _Skipped
            return results[-1]

        training = self._begun()
        try:
            loss = training.loss(batch, compute)
        except _Skipped:
            training.skip()
            return None
        return {**results[-1], "loss": loss} if isinstance(results[-1], Mapping) else loss


class _Skipped(Exception):  # noqa: N818 - not an error: the module skips the step
    pass
