"""Any method that fits a standard step, in a loop that somebody else has written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from equipoise.distributed import process_count
from equipoise.loops.plain.fitness import splits_pass
from equipoise.loops.plain.joining import joined_step
from equipoise.loops.plain.model import HandledModel
from equipoise.loops.plain.optimizers import like, named_group
from equipoise.loops.plain.passes import Pass
from equipoise.loops.plain.routed import Accumulated, routed
from equipoise.loops.plain.run import HandRun
from equipoise.methods.core.method import Method, overrides
from equipoise.methods.core.run import StepContext
from equipoise.types import EquipoiseError, UsageError


class HandTraining:
    """A method at work in your own loop; see `by_hand`, which makes one.

    Attributes:
        method: the method.
        terms: the loss terms of the last step, detached, by name.
        history: what the method told of itself, an entry an event.
        total_epochs: as planned.
    """

    def __init__(
        self,
        method: Method,
        model: HandledModel,
        run: HandRun,
        optimizers: Sequence[Optimizer],
        scaler: Any,
        extra_optimizer: Callable[[Iterable[Any]], Optimizer] | None,
    ) -> None:
        self.method, self.total_epochs = method, run.total_epochs
        self._run, self._model, self._optimizers, self._scaler = run, model, list(optimizers), scaler
        self._split = splits_pass(method)
        self._routes = any(overrides(member, "backward") for member in method.members())
        self._edits = any(overrides(member, "after_backward") for member in method.members())
        self._extra: Optimizer | None = None
        if any(True for _ in run.modules.parameters()):
            group = named_group(run.modules)
            self._extra = extra_optimizer(group) if extra_optimizer else like(optimizers[0], group)
            run.optimizer.optimizers.append(self._extra)
        self._steps: list[tuple[StepContext, Pass]] = []  # of the batches since the last optimiser step
        self._context: StepContext | None = None
        self._epoch: int | None = None
        self._served = 0
        self.terms: dict[str, Tensor] = {}
        self.history = run.events
        method.setup(run)  # type: ignore[arg-type]
        self._hook = self._optimizers[-1].register_step_post_hook(self._stepped)

    # Epochs ----------------------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """Yield the epochs that are left (0-based), in place of `range(n)` in the loop."""
        for epoch in range(self._run.epoch, self.total_epochs):
            self.start_epoch(epoch)
            yield epoch
            self.end_epoch()

    @property
    def open(self) -> bool:
        """Whether an epoch has begun and not ended."""
        return self._epoch is not None

    def start_epoch(self, epoch: int) -> None:
        """Begin an epoch (0-based), where the loop does not go over `epochs()`; ends one that is open."""
        self.end_epoch()
        self._run.epoch, self._epoch, self._served = epoch, epoch, 0
        self.method.epoch_start(self._run)  # type: ignore[arg-type]

    def end_epoch(self) -> None:
        """End the epoch that is open, if any."""
        if self._epoch is None:
            return
        self.method.epoch_end(self._run)  # type: ignore[arg-type]
        self._run.epoch, self._epoch = self._run.epoch + 1, None

    # Steps -----------------------------------------------------------------------------------------------

    def loss(self, batch: Any, compute: Callable[[], Any] | None = None) -> Tensor:
        """Run the model on a batch and return the method's loss, to be propagated back as usual.

        Several calls before a step of the optimiser accumulate.

        Args:
            batch: as the loader gave it; moved to the model's device where it is not there.
            compute: runs your own step on the batch and returns its loss (or what has one as `loss`), which
                then stands for the joint loss; None calls the model and the criterion.

        Returns:
            A number, with its graph.

        Raises:
            ModelError: an encoder was not called once, or a feature cannot be changed where that is needed.
            EquipoiseError: no epoch has been started.
        """
        if self._epoch is None:
            raise EquipoiseError("no epoch has begun; loop over method.epochs(), or call start_epoch(epoch).")
        if self._context is not None:  # gradients were edited, and the step was skipped
            self._forget()
        run, model = self._run, self._model
        context = run.context(batch)
        piece = context.batch.pieces[0]  # type: ignore[attr-defined]
        usual = compute or (lambda: model.reader.run(model.model, piece))
        step = Pass(batch=context.batch, compute=usual, split=self._split, own=compute is not None)  # type: ignore[arg-type]
        model.plan(step)
        run.forward(partial(self.method.forward, context))
        terms = self.method.losses(context)
        self.terms = {name: value.detach() for name, value in terms.items()}
        self._steps.append((context, step))
        self._served += 1
        if self._routes:
            value = torch.stack(list(self.terms.values())).sum()
            return routed(value, lambda scale: self._route(terms, context, scale))
        return torch.stack(list(terms.values())).sum()

    def on_gradients(self) -> None:
        """Let the method read and edit the gradients: behind `backward`, before clipping and the step.

        With accumulation call it once, behind the last batch. Gradients must be unscaled; those of the
        method's own modules are unscaled here.

        Raises:
            EquipoiseError: no loss was asked for since the last step.
        """
        if not self._steps:
            raise EquipoiseError("on_gradients() comes behind loss(batch) and backward(); there was no loss.")
        if self._scaler is not None and self._extra is not None:
            self._scaler.unscale_(self._extra)
        self._context, step = joined_step(self._steps)
        self._model.looks_at(step)
        self._average_extra()
        self.method.after_backward(self._context)

    def figures(self) -> dict[str, float]:
        """Return what can be plotted of the last step: loss terms, coefficients of gradients by modality."""
        found = {f"loss/{name}": float(value) for name, value in self.terms.items()}
        for member in self.method.members():
            for name, value in getattr(member, "coefficients", {}).items():
                found[f"coefficient/{name}"] = float(value)
        return found

    def told(self, epoch: int) -> dict[str, float]:
        """Return the numbers of what the method told of an epoch, by path: `information/traces/audio`."""
        found: dict[str, float] = {}
        for event in self.history:
            if event["epoch"] == epoch:
                values = {key: value for key, value in event.items() if key not in ("event", "epoch")}
                found |= _numbers(values, str(event["event"]))
        return found

    @property
    def pending(self) -> bool:
        """Whether losses were asked for whose gradients the method has not seen yet."""
        return bool(self._steps) and self._context is None

    def skip(self) -> None:
        """Forget the batches since the last step of the optimiser, which will not be taken."""
        self._forget()

    def close(self) -> None:
        """End the open epoch, and let go of the optimiser."""
        self.end_epoch()
        self._forget()
        self._hook.remove()

    def _route(self, terms: Mapping[str, Tensor], context: StepContext, scale: Tensor) -> None:
        parameters = [p for group in self._run.optimizer.param_groups for p in group["params"]]
        with torch.enable_grad(), Accumulated(parameters):
            self.method.backward({name: value * scale for name, value in terms.items()}, context)

    def _stepped(self, *_: Any) -> None:
        """Follow a step of the user's optimiser."""
        if not self._steps:
            return
        if self._context is None and self._edits:
            raise EquipoiseError(
                f"the method {self.method.name!r} edits gradients; call on_gradients() before "
                "optimizer.step()."
            )
        context = self._context or joined_step(self._steps)[0]
        if self._context is None:
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
        self._run.step += 1
        self._forget()

    def _average_extra(self) -> None:
        """Bring the gradients of the method's own modules, which no wrapper knows, to one mean."""
        if process_count() == 1 or self._extra is None:
            return
        for parameter in self._run.modules.parameters():
            if parameter.grad is not None:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= process_count()

    def _forget(self) -> None:
        self._steps, self._context = [], None
        self._model.forget()
        if self._extra is not None:
            self._extra.zero_grad(set_to_none=True)

    # State -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold beside model and optimiser; take it at the end of an epoch.

        Where all batches of the epoch have been served, this ends the epoch.
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
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of an interrupted training; `epochs()` then goes on behind it.

        Raises:
            UsageError: it is the state of another method.
        """
        if set(self._run.modules.state_dict()) != set(state["modules"]):
            raise UsageError(
                f"the state is not one of {self.method.name!r} with these options: its modules hold "
                f"{len(state['modules'])} tensors; expected {len(self._run.modules.state_dict())}."
            )
        self.method.load_state_dict(state["method"])
        self._run.modules.load_state_dict(state["modules"])
        if self._extra is not None:
            self._extra.load_state_dict(state["optimizer"])
        self._run.generator.set_state(state["generator"])
        self._run.epoch, self._run.step = int(state["epoch"]), int(state["step"])
        self._epoch = None
        self.history[:] = list(state["history"])

    def _known_steps(self) -> float:
        try:
            return self._run.steps_per_epoch
        except UsageError:
            return float("inf")


def _numbers(value: Any, path: str) -> dict[str, float]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _numbers(inner, f"{path}/{key}").items()}
    return {path: float(value)} if isinstance(value, int | float) else {}
