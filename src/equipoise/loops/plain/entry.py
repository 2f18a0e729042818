"""The way into a training by hand: a method, a model, and handles of its encoders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from equipoise.diagnosis.features.reading import BatchReader, Pool, device_of
from equipoise.distributed import process_count, share_values, unwrapped
from equipoise.loops.plain.fitness import check_fit
from equipoise.loops.plain.heads import Head
from equipoise.loops.plain.model import HandledModel
from equipoise.loops.plain.run import Criterion, HandRun, example_of
from equipoise.loops.plain.training import HandTraining
from equipoise.methods.core.creation import create_method
from equipoise.methods.core.method import Method
from equipoise.types import UsageError, warn

if TYPE_CHECKING:
    from equipoise.models import BalancedModel


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
        criterion: from logits and target to the mean loss, in place of `CE(u, y)`; by default the task's.
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
