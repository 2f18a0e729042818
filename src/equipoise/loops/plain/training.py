"""A method that fits a standard step, in a user-defined training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from equipoise.loops.plain.logged import EpochLog
from equipoise.loops.plain.passes import HandBatch, Pass, joined_step
from equipoise.loops.plain.rates import PlannedRates
from equipoise.loops.plain.routed import Accumulated, routed
from equipoise.loops.plain.run import HandRun
from equipoise.methods.core.method import overrides, total
from equipoise.methods.core.requirements import ONE_CLASS
from equipoise.methods.core.run import StepContext
from equipoise.tasks import refuse_ignored
from equipoise.tracking.outlets import Logger
from equipoise.tracking.series import numbers
from equipoise.types import EquipoiseError, UsageError


class HandTraining:
    """A method in a user-defined training loop, made by `by_hand`.

    Attributes:
        method: the method.
        terms: the loss terms of the last step, detached, by name.
        history: the events that the method recorded, in order.
        total_epochs: planned number of epochs.
    """

    def __init__(
        self,
        run: HandRun,
        optimizers: Sequence[Optimizer],
        scaler: Any,
        extra_optimizer: Callable[[Iterable[Any]], Optimizer] | None,
        log: Logger | Sequence[Logger] | None = None,
    ) -> None:
        self.method, self.total_epochs = run.method, run.total_epochs
        self._run, self._model, self._optimizers, self._scaler = run, run.model, list(optimizers), scaler
        self._split, self._routes, self._edits = (
            any(overrides(member, hook) for member in run.method.members() for hook in hooks)
            for hooks in (("edit_features", "fuse", "forward"), ("backward",), ("after_backward",))
        )
        # The other methods read the target through the loss only.
        self._one_class = any(member.needs().tasks <= ONE_CLASS for member in run.method.members())
        self._extra: Optimizer | None = None
        if parameters := list(run.modules.parameters()):
            group = [{"params": parameters, "name": "extra", "factor": 1.0}]
            self._extra = (extra_optimizer or run.fresh_optimizer)(group)
            run.optimizer.optimizers.append(self._extra)
        self._rates = PlannedRates(run, self._optimizers)
        self._steps: list[tuple[StepContext, Pass]] = []  # of the batches since the last optimiser step
        self._context: StepContext | None = None
        self._epoch: int | None = None
        self._served, self._log = 0, EpochLog(log)
        self.terms: dict[str, Tensor] = {}
        self.history = run.events
        run.method.setup(run)  # type: ignore[arg-type]
        self._hook = self._optimizers[-1].register_step_post_hook(self._stepped)

    # Epochs ----------------------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """Yield the remaining epochs (0-based), in place of `range(n)` in the loop."""
        for epoch in range(self._run.epoch, self.total_epochs):
            self.start_epoch(epoch)
            yield epoch
            self.end_epoch()

    @property
    def open(self) -> bool:
        """Whether an epoch has been started and not ended."""
        return self._epoch is not None

    def start_epoch(self, epoch: int) -> None:
        """Start an epoch (0-based), if the loop does not use `epochs()`; ends the open epoch."""
        self.end_epoch()
        self._run.epoch, self._epoch, self._served = epoch, epoch, 0
        self._rates.set(epoch, begins=True)
        self.method.epoch_start(self._run)  # type: ignore[arg-type]

    def end_epoch(self) -> None:
        """End the open epoch, if any."""
        if self._epoch is None:
            return
        self.method.epoch_end(self._run)  # type: ignore[arg-type]
        self._log.ended(self._epoch, self.history)
        self._run.epoch, self._epoch = self._run.epoch + 1, None

    # Steps -----------------------------------------------------------------------------------------------

    def loss(self, batch: Any, compute: Callable[[], Any] | None = None) -> Tensor:
        """Run the model on a batch and return the method's loss, for the usual backward pass.

        Several calls before a step of the optimiser accumulate.

        Args:
            batch: a batch of the loader; moved to the model's device if necessary.
            compute: runs your own step on the batch and returns its loss (or an output with `loss`), which
                then replaces the joint loss; None calls the model and the criterion.

        Returns:
            A scalar, with its graph.

        Raises:
            ModelError: an encoder was not called once, or the method cannot change a feature.
            EquipoiseError: no epoch has been started.
            DataError: the method reads the class of each sample, and one has the class -100.
        """
        if self._epoch is None:
            raise EquipoiseError("no epoch has begun; loop over method.epochs(), or call start_epoch(epoch).")
        if self._context is not None:  # gradients were edited, and the step was skipped
            self.skip()
        self._rates.set(self._epoch)
        run, model = self._run, self._model
        seen = HandBatch.of(batch, model.reader)
        if self._one_class:
            refuse_ignored(seen.target.numpy(force=True))
        seen = seen.to(run.device)
        usual = compute or partial(model.reader.run, model.model, seen.pieces[0])
        step = Pass(seen, usual, split=self._split, own=compute is not None)
        context = StepContext(run, seen)  # type: ignore[arg-type]
        model.plan(step)
        run.forward(partial(self.method.forward, context))
        with run.autocast():  # also where a wrapper of the model has turned it on inside
            terms = self.method.losses(context)
        self.terms = {name: value.detach() for name, value in terms.items()}
        self._log.add(self.terms, "loss/")
        self._log.add({"loss": total(self.terms)}, "train/")
        self._steps.append((context, step))
        self._served += 1
        if self._routes:
            value = total(self.terms)
            return routed(value, lambda scale: self._route(terms, context, scale))
        return total(terms)

    def on_gradients(self) -> None:
        """Let the method read and edit the gradients: after `backward`, before clipping and the step.

        With accumulation call it once, after the last batch. Gradients must be unscaled; those of the
        method's own modules are unscaled here.

        Raises:
            EquipoiseError: `loss` was not called since the last step.
        """
        if not self._steps:
            raise EquipoiseError("call loss(batch) and backward() before on_gradients(); there was no loss.")
        if self._scaler is not None and self._extra is not None:
            self._scaler.unscale_(self._extra)
        self._context, joined = joined_step(self._steps, self._run.processes)
        self._model.last = joined
        self._average_extra()
        self.method.after_backward(self._context)

    def figures(self) -> dict[str, float]:
        """Return loss terms, and coefficients of gradients by modality, of the last step, for plots."""
        found = {f"loss/{name}": float(value) for name, value in self.terms.items()}
        return found | {f"coefficient/{name}": float(value) for name, value in self._coefficients().items()}

    def _coefficients(self) -> dict[str, float]:
        """Return the coefficients of gradients by modality."""
        members = self.method.members()
        return {name: k for own in members for name, k in getattr(own, "coefficients", {}).items()}

    def told(self, epoch: int) -> dict[str, float]:
        """Return the numbers that the method recorded in an epoch, by path: `information/traces/audio`."""
        found: dict[str, float] = {}
        for event in self.history:
            if event["epoch"] == epoch:
                values = {key: value for key, value in event.items() if key not in ("event", "epoch")}
                found |= numbers(values, str(event["event"]))
        return found

    @property
    def pending(self) -> bool:
        """Whether `loss` was called and `on_gradients` was not, since the last step."""
        return bool(self._steps) and self._context is None

    def skip(self) -> None:
        """Discard the batches since the last step of the optimiser."""
        self._steps, self._context = [], None
        self._model.plan(None)
        if self._extra is not None:
            self._extra.zero_grad(set_to_none=True)

    def close(self) -> None:
        """End the open epoch, and remove the hook from the optimiser."""
        self.end_epoch()
        self.skip()
        self._hook.remove()

    def _route(self, terms: Mapping[str, Tensor], context: StepContext, scale: Tensor) -> None:
        parameters = [p for group in self._run.optimizer.param_groups for p in group["params"]]
        with torch.enable_grad(), Accumulated(parameters):
            self.method.backward({name: value * scale for name, value in terms.items()}, context)

    def _stepped(self, *_: Any) -> None:
        """Step the method's own modules and its state after a step of the user's optimiser."""
        if not self._steps:
            return
        if self._context is None and self._edits:
            raise EquipoiseError(
                f"the method {self.method.name!r} edits gradients; call on_gradients() before "
                "optimizer.step()."
            )
        context = self._context
        if context is None:
            context = joined_step(self._steps, self._run.processes)[0]
            self._average_extra()
        if self._extra is not None:
            leading = self._optimizers[0].param_groups[0]["lr"]
            for group in self._extra.param_groups:
                group["lr"] = leading * group.get("factor", 1.0)
            if self._scaler is not None:
                self._scaler.step(self._extra)
            else:
                self._extra.step()
        self.method.after_step(context)
        self._log.add(self._coefficients(), "coefficient/")
        self._run.step += 1
        self.skip()

    def _average_extra(self) -> None:
        """Average the gradients of the method's own modules over the processes, as no wrapper does."""
        if self._run.processes == 1 or self._extra is None:
            return
        for parameter in self._run.modules.parameters():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= self._run.processes

    # State -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, beside model and optimiser; call it at the end of an epoch.

        If all batches of the epoch have been used, this ends the epoch.
        """
        if self._epoch is not None and self._served >= self._known_steps():
            self.end_epoch()
        return {
            "method": self.method.state_dict(),
            "modules": self._run.modules.state_dict(),
            "optimizer": self._extra.state_dict() if self._extra is not None else {},
            "generator": self._run.generator.get_state(),
            "epoch": self._run.epoch,
            "step": self._run.step,
            "history": list(self.history),
            "peaks": [list(peaks) for peaks in self._rates.peaks],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of an interrupted training; `epochs()` then yields the remaining epochs.

        Raises:
            UsageError: it is the state of another method.
        """
        if set(self._run.modules.state_dict()) != set(state["modules"]):
            raise UsageError(
                f"the state does not belong to {self.method.name!r} with these options: its modules have "
                f"{len(state['modules'])} tensors; expected {len(self._run.modules.state_dict())}."
            )
        self.method.load_state_dict(state["method"])
        self._run.modules.load_state_dict(state["modules"])
        if self._extra is not None:
            self._extra.load_state_dict(state["optimizer"])
        self._run.generator.set_state(state["generator"])
        self._run.epoch, self._run.step = int(state["epoch"]), int(state["step"])
        self._rates.peaks = [list(peaks) for peaks in state.get("peaks", self._rates.peaks)]
        self._epoch = None
        self.history[:] = list(state["history"])

    def _known_steps(self) -> float:
        try:
            return self._run.steps_per_epoch
        except UsageError:
            return float("inf")
