"""Any method that fits a standard step as a callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import nn

from equipoise.loops.handles import Handles, check_handles, head_resolved, one_resolved, resolved
from equipoise.loops.plain import HandTraining, by_hand
from equipoise.methods import Method, create_method
from equipoise.types import EquipoiseError, MissingExtraError, UsageError

try:
    import lightning.pytorch as pl
except ModuleNotFoundError as error:
    raise MissingExtraError("lightning", "lightning", "equipoise.loops.lightning") from error


class MethodCallback(pl.Callback):
    """Train a LightningModule by a method, by its own `training_step` and under its Trainer.

    The step's loss stands for the joint loss; what the method adds is put into the loss that goes back, and
    gradients are edited when they are accumulated and unscaled, before they are clipped. Loss terms and
    coefficients go to the Trainer's loggers as `equipoise/...`; its checkpoints hold the method's state.

    Args:
        method: name (`equipoise list methods`), or a method such as `equipoise.methods.OGM(alpha=0.5)`.
        encoders: modality to encoder, or to its path inside the module (`"audio_net"`, `"model.audio"`).
        head: see `equipoise.by_hand`; or a path, or modality to path.
        output: module whose output are the joint logits, or its path; by default the LightningModule itself,
            whose `forward` the step then has to call.
        options: options of a method that is given by name.
        train_loader: where the method looks samples up; by default the Trainer's.
        **more: further arguments of `equipoise.by_hand`: `criterion`, `pool`, `inputs_of`, `target_of`,
            `forward`, `task`, `seed`.

    Attributes:
        training: the `equipoise.HandTraining` that does the work, once training has begun.

    Raises:
        UsageError: the method does not exist, or the handles are no modules or paths.
    """

    def __init__(
        self,
        method: str | Method,
        encoders: Handles,
        *,
        head: Any = None,
        output: str | nn.Module | None = None,
        options: Mapping[str, Any] | None = None,
        train_loader: Iterable[Any] | None = None,
        **more: Any,
    ) -> None:
        super().__init__()
        check_handles(encoders)
        self.method = create_method(method, options) if isinstance(method, str) else method
        self.encoders, self.head, self.output = dict(encoders), head, output
        self.train_loader, self.more = train_loader, more
        self.training: HandTraining | None = None
        self._pending: dict[str, Any] | None = None

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
        self.training = by_hand(
            self.method,
            pl_module,
            resolved(self.encoders, pl_module),
            head=head_resolved(self.head, pl_module),
            output=None if self.output is None else one_resolved(self.output, pl_module, "output"),
            train_loader=self._loader(trainer),
            optimizer=trainer.optimizers[0],
            epochs=trainer.max_epochs,
            scaler=getattr(trainer.precision_plugin, "scaler", None),
            **self.more,
        )
        if self._pending is not None:
            self.training.load_state_dict(self._pending)
            self._pending = None
        step = partial(self._step, pl_module.training_step)
        step.__wrapped__ = pl_module.training_step  # type: ignore[attr-defined]  # its signature is looked at
        pl_module.__dict__["training_step"] = step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the method's epoch."""
        self._begun().start_epoch(trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin the epoch that Lightning begins without saying so, behind a checkpoint of an epoch's end."""
        if not self._begun().open:
            self._begun().start_epoch(trainer.current_epoch)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any
    ) -> None:
        """Let the method edit the gradients."""
        if self._begun().pending:
            self._begun().on_gradients()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log terms and coefficients as often as the Trainer logs."""
        every = max(1, getattr(trainer, "log_every_n_steps", 50))
        if trainer.loggers and (batch_idx + 1) % every == 0:
            self._log(trainer, self._begun().figures())

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the method's epoch."""
        training = self._begun()
        training.end_epoch()
        self._log(trainer, training.told(trainer.current_epoch))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the module its own step back."""
        self._undo(pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the module its own step back."""
        self._undo(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return what the checkpoint keeps."""
        return self._pending or {} if self.training is None else self.training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of a checkpoint once training begins."""
        self._pending = state_dict or None

    def _step(self, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do the module's own step within the method's."""
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

    def _undo(self, pl_module: pl.LightningModule) -> None:
        pl_module.__dict__.pop("training_step", None)
        if self.training is not None:
            self._pending = None
            self.training.close()

    def _begun(self) -> HandTraining:
        if self.training is None:
            raise EquipoiseError("the callback has not seen training begin; add it to Trainer(callbacks=).")
        return self.training

    def _loader(self, trainer: pl.Trainer) -> Iterable[Any]:
        loader: Any = trainer.train_dataloader if self.train_loader is None else self.train_loader
        if isinstance(loader, Mapping | list | tuple):
            raise UsageError(
                f"the Trainer has {len(loader)} training loaders; give train_loader= one of them."
            )
        return loader  # type: ignore[no-any-return]

    def _log(self, trainer: pl.Trainer, values: Mapping[str, float]) -> None:
        if values:
            for logger in trainer.loggers:
                named = {f"equipoise/{name}": value for name, value in values.items()}
                logger.log_metrics(named, step=trainer.global_step)


class _Skipped(Exception):  # noqa: N818 - a step that the module does not want to take
    pass
