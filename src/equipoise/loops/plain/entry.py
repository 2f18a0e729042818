"""`by_hand`: a method, a model and handles of its encoders, prepared for a user-defined training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from equipoise.diagnosis.features.capture import encoders_of
from equipoise.diagnosis.features.reading import BatchReader, device_of
from equipoise.distributed import process_count, share_values, unwrapped
from equipoise.loops.plain.heads import Head
from equipoise.loops.plain.model import HandledModel
from equipoise.loops.plain.run import Batches, Criterion, HandRun, example_of
from equipoise.loops.plain.training import HandTraining
from equipoise.methods.core.creation import create_method, option_names
from equipoise.methods.core.method import Method, overrides
from equipoise.methods.diagnose_relearn import DiagnoseRelearnMethod
from equipoise.methods.diagnose_relearn_plus import DiagnoseRelearnPlus
from equipoise.methods.shared.relearns import Relearns
from equipoise.models import BalancedModel
from equipoise.pooling import Pool
from equipoise.relearning.optimizer_state import as_optimizers
from equipoise.tracking.outlets import Logger
from equipoise.typed_options import check_keywords
from equipoise.types import UsageError, warn

INSTEAD = "train with equipoise.fit, which takes a model of your own as model='module:Class'."


def by_hand(
    method: str | Method,
    model: nn.Module,
    encoders: Mapping[str, nn.Module] | None = None,
    *,
    train_loader: Iterable[Any],
    val_loader: Batches | None = None,
    train_eval_loader: Batches | None = None,
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
    log: Logger | Sequence[Logger] | None = None,
    **options: Any,
) -> HandTraining:
    """Prepare a method for your own loop: `loss(batch)`, `backward()`, `on_gradients()`, `step()`.

        method = equipoise.by_hand("ogm-ge", model, {"audio": model.audio_net, "video": model.visual_net},
                                   head=model.head, train_loader=loader, optimizer=optimizer, epochs=90)
        for epoch in method.epochs():
            for batch in loader:
                optimizer.zero_grad()
                method.loss(batch).backward()
                method.on_gradients()
                optimizer.step()

    The model runs unchanged, once a step. The method's own modules (such as auxiliary heads) are trained by a
    second optimiser of the same kind, which follows the learning rate of the first. A method that plans
    learning rates sets those of each epoch, as a part of the optimiser's own before any scheduler; a
    scheduler that changes them is overruled, with a warning. In distributed training call this in every
    process; scores are computed over the samples of all processes.

    Args:
        method: name (`equipoise list methods`), or a method such as `equipoise.methods.OGM(alpha=0.5)`.
        model: any module, wrapped for several processes or not.
        encoders: modality to encoder, each called once a pass; optional for a model with `encoder_module`.
        train_loader: training batches; one of two samples is tried on the model, in evaluation mode.
        val_loader: validation batches, of a method that measures them between epochs; or a function that
            returns their loader.
        train_eval_loader: training batches that such a method measures beside them, best without
            augmentation, in the same way; by default those of `train_loader`.
        optimizer: yours; of several, the one that steps last must be the last.
        epochs: planned passes over the training data.
        head: the linear layer that reads the concatenated features in the order of `encoders`, or modality to
            linear layer where outputs are added; needed by methods with `logits="slice"`.
        output: module whose output is the joint logits; by default the model.
        pool: from an encoder's output to `[B, d]`, for all encoders or by name.
        criterion: from logits and target to the mean loss, used for `CE(u, y)`; by default the task's loss.
        inputs_of: from a batch to the model's input, see `BatchReader`.
        target_of: from a batch to its target.
        forward: called as `forward(model, batch)`, replaces `inputs_of`.
        task: `classification`, `multilabel` or `regression`; by default the model's attribute, or the first.
        seed: of the method's random stream and modules.
        scaler: a `GradScaler`, if the loop has one.
        extra_optimizer: from parameters to the optimiser of the method's modules.
        log: one or more loggers of Lightning or Fabric, which get at the end of each epoch the means of loss
            terms and coefficients, and what the method recorded; the step is the epoch.
        **options: of the method, if it is given by name.

    Raises:
        UsageError: the method does not fit a standard step, or an option or handle is not valid.
        ModelError: the model does not use the handles as expected.
    """
    if isinstance(method, str):
        check_keywords(by_hand, options, option_names(method))
    chosen = method if isinstance(method, Method) else create_method(method, options)
    if options and not isinstance(method, str):
        raise UsageError(f"options ({', '.join(options)}) need a method by name; set them in the method.")
    inner = unwrapped(model)
    if encoders is None:
        encoders = encoders_of(inner)
        head = head or cast("BalancedModel", inner).head
    check_fit(chosen, tuple(encoders), process_count())
    if val_loader is None and needs_validation(chosen):
        raise UsageError(
            f"the method {chosen.name!r} compares training with validation samples; give val_loader=."
        )
    reader = BatchReader(inputs_of, target_of, forward)
    own_task = getattr(inner, "task", None)
    task = task or (own_task if isinstance(own_task, str) else "classification")
    handled = HandledModel(model, encoders, reader, pool=pool, head=head, output=output, task=task)
    optimizers = _checked(optimizer, model)
    if not hasattr(epochs, "__index__") or epochs < 1:
        raise UsageError(f"epochs is {epochs!r}; expected a whole number of at least 1.")
    handled.trial(example_of(train_loader, reader).to(device_of(model)))
    chosen.check(handled)
    measured = val_loader, train_eval_loader
    run = HandRun(chosen, handled, optimizers, train_loader, epochs, seed, criterion, *measured)
    share_values(run.modules.parameters())
    for problem in chosen.problems(run.plan):
        warn(problem)
    return HandTraining(run, optimizers, scaler, extra_optimizer, log)


def needs_validation(method: Method) -> bool:
    """Return whether a method measures validation samples between epochs."""
    return any(isinstance(member, Relearns) for member in method.members())


def _checked(optimizer: Optimizer | Sequence[Optimizer], model: nn.Module) -> list[Optimizer]:
    """Return optimisers without wrappers; warn if they hold nothing of the model."""
    given = optimizer if isinstance(optimizer, Sequence) else [optimizer]
    if not given or not all(isinstance(one, Optimizer) for one in given):
        raise UsageError(f"optimizer is {optimizer!r}; expected the optimizer of the loop, or several.")
    optimizers = as_optimizers(given)
    held = {parameter for one in optimizers for group in one.param_groups for parameter in group["params"]}
    if held.isdisjoint(model.parameters()):
        warn("the optimizer holds no parameter of the model; make it of model.parameters().")
    return optimizers


def check_fit(method: Method, modalities: Sequence[str], processes: int) -> None:
    """Refuse a method that needs more than a standard step: forward, loss, backward, gradients, step.

    From here on the method does without a model of its own where it can.

    Raises:
        UsageError: states what the method needs, and an alternative.
    """
    for member in method.members():
        member.keep_model()
        reason = reason_against(member, modalities)
        if reason:
            raise UsageError(f"the method {member.name!r} does not fit a loop of your own: {reason}")
        if processes > 1 and overrides(member, "backward"):
            raise UsageError(
                f"the method {member.name!r} routes gradients itself, which wrappers for several processes "
                "do not see; train in one process."
            )


def reason_against(method: Method, modalities: Sequence[str]) -> str:
    """Return why a method does not fit a standard step; empty if it does."""
    if isinstance(method, DiagnoseRelearnMethod):
        return "it acts between epochs; use equipoise.DiagnoseRelearn, or the callback of that name."
    if isinstance(method, DiagnoseRelearnPlus) and method.distillation != "none":
        return f"its distillation needs the position of each sample of a batch; {INSTEAD}"
    if not method.trains or method.argument is not None:
        return f"it trains no joint model; {INSTEAD}"
    if method.parts(modalities):
        return f"it builds on finished runs; {INSTEAD}"
    if method.changes_model():
        return f"it has its own inference rule, which becomes part of the model; {INSTEAD}"
    if overrides(method, "train_step"):
        return f"it replaces the training step; {INSTEAD}"
    if method.changes_data():
        return f"it chooses the training data; {INSTEAD}"
    return ""
