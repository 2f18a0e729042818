"""Any method that fits a standard step, in a loop that somebody else has written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from equipoise.diagnosis.capture import Pool
from equipoise.diagnosis.reading import BatchReader, device_of
from equipoise.distributed import process_count, share_values, unwrapped
from equipoise.methods.base import Method, overrides, warn
from equipoise.methods.context import StepContext
from equipoise.methods.creation import create_method
from equipoise.methods.hand.fitness import check_fit, splits_pass
from equipoise.methods.hand.heads import Head
from equipoise.methods.hand.joining import joined_step
from equipoise.methods.hand.model import HandledModel, Pass
from equipoise.methods.hand.optimizers import like, named_group
from equipoise.methods.hand.routed import Accumulated, routed
from equipoise.methods.hand.run import Criterion, HandRun, example_of
from equipoise.types import EquipoiseError, UsageError

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


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
        self._optimizers[-1].register_step_post_hook(self._stepped)

    # Epochs ----------------------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """Yield the epochs that are left (0-based), in place of `range(n)` in the loop."""
        for epoch in range(self._run.epoch, self.total_epochs):
            self.start_epoch(epoch)
            yield epoch
            self.end_epoch()

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
        run.forward(context)
        terms = self.method.losses(context)
        self.terms = {name: value.detach() for name, value in terms.items()}
        self._steps.append((context, step))
        self._served += 1
        if self._routes:
            value = torch.stack(list(terms.values())).sum()
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


def by_hand(
    method: str | Method,
    model: nn.Module,
    encoders: Mapping[str, nn.Module] | None = None,
    *,
    train_loader: Iterable[Any],
    optimizer: Optimizer | Sequence[Optimizer],
    epochs: int,
    head: Head | None = None,
    output: nn.Module | None = None,
    pool: Pool | Mapping[str, Pool] | None = None,
    criterion: Criterion | None = None,
    inputs_of: Callable[[Any], Any] | None = None,
    target_of: Callable[[Any], Tensor] | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    task: str | None = None,
    seed: int = 0,
    scaler: Any = None,
    extra_optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
    **options: Any,
) -> HandTraining:
    """Prepare a method for a loop of your own: `loss(batch)`, `backward()`, `on_gradients()`, `step()`.

        method = equipoise.by_hand("ogm-ge", model, {"audio": model.audio_net, "video": model.visual_net},
                                   head=model.head, train_loader=loader, optimizer=optimizer, epochs=90)
        for epoch in method.epochs():
            for batch in loader:
                optimizer.zero_grad()
                method.loss(batch).backward()
                method.on_gradients()
                optimizer.step()

    The model runs as it is, once a step; what the method adds of its own (auxiliary heads, say) is trained by
    a second optimiser of the same kind, which follows the learning rate of the first. In a distributed
    training every process calls this; scores are taken over the samples of all of them.

    Args:
        method: name (`equipoise list methods`), or a method such as `equipoise.methods.OGM(alpha=0.5)`.
        model: any module, wrapped for several processes or not.
        encoders: modality to encoder, each called once a pass; may be left out for a model that offers
            `encoder_module`.
        train_loader: training batches; one of two samples is tried on the model, in evaluation mode.
        optimizer: yours; of several, the one that steps last stands last.
        epochs: planned passes over the training data.
        head: the linear layer that reads the concatenated features in the order of `encoders`, or modality to
            linear layer where outputs are added: what methods with `logits="slice"` need.
        output: module whose output are the joint logits; by default the model.
        pool: from an encoder's output to `[B, d]`, for all encoders or by name.
        criterion: from logits and target to the mean loss, where a formula says `CE(u, y)`; by default the task's.
        inputs_of: from a batch to the model's input, see `BatchReader`.
        target_of: from a batch to its target.
        forward: called as `forward(model, batch)` in place of all that.
        task: `classification`, `multilabel` or `regression`; by default the model's attribute, or the first.
        seed: of the method's random stream and modules.
        scaler: a `GradScaler`, where the loop has one.
        extra_optimizer: from parameters to the optimiser of the method's modules.
        **options: of the method, where it is given by name.

    Raises:
        UsageError: the method does not fit a standard step; an option or handle makes no sense.
        ModelError: the model does not do with the handles what is expected.
    """
    chosen = create_method(method, options) if isinstance(method, str) else method
    if options and not isinstance(method, str):
        raise UsageError(f"options ({', '.join(options)}) go to the method itself where it is not named.")
    inner = unwrapped(model)
    if encoders is None:
        if not callable(getattr(inner, "encoder_module", None)):
            raise UsageError("give encoders=, a mapping from modality name to module.")
        contract = cast("BalancedModel", inner)
        encoders = {m: contract.encoder_module(m) for m in contract.modalities}
        head = head or contract.head
    own_task = getattr(inner, "task", None)
    check_fit(chosen, tuple(encoders), process_count())
    reader = BatchReader(inputs_of, target_of, forward)
    handled = HandledModel(
        model,
        encoders,
        reader,
        pool=pool,
        head=head,
        output=output,
        task=task or (own_task if isinstance(own_task, str) else "classification"),
    )
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    if not optimizers or epochs < 1:
        raise UsageError("expected an optimizer and at least one epoch.")
    handled.trial(example_of(train_loader, reader).to(device_of(model)))
    chosen.check(handled)
    run = HandRun(chosen, handled, optimizers, train_loader, reader, epochs, seed, criterion)
    share_values(run.modules.parameters())
    for problem in run.problems():
        warn(problem)
    return HandTraining(chosen, handled, run, optimizers, scaler, extra_optimizer)
