"""What follows a blend: averaged copies, norm statistics, optimiser state, the head, the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import AveragedModel

from equipoise.diagnosis.features.reading import BatchReader, device_of, moved_batches, untouched_generators
from equipoise.distributed import average_values, reshard, share_values, unsynced, unwrapped
from equipoise.randomness import isolated_rng
from equipoise.relearning.blend import snapshot, soft_reinitialize
from equipoise.relearning.optimizer_state import (
    LearningRateRewarm,
    Optimizers,
    as_optimizers,
    settle_optimizer_state,
)
from equipoise.relearning.options import RelearnOptions
from equipoise.scopes import evaluating, modes_restored
from equipoise.tasks import IGNORED_CLASS, MULTILABEL, task_of
from equipoise.types import ModelError, UsageError


class Aftermath:
    """Brings everything that depends on re-learnt weights up to date, as `RelearnOptions` asks.

    Attributes:
        head_target: the head's initial state.
        rewarm: what raises the learning rate of each optimiser again.

    Raises:
        UsageError: an option needs the optimiser or the head (fusion and head), and it is missing.
    """

    def __init__(
        self,
        choices: RelearnOptions,
        reader: BatchReader,
        optimizer: Optimizers | None,
        head: nn.Module | None,
        copies: Sequence[nn.Module],
    ) -> None:
        self.choices, self.reader, self.head, self.copies = choices, reader, head, copies
        self.optimizers = as_optimizers(optimizer)
        self._check()
        self.head_target = snapshot(head) if head is not None else {}
        self.rewarm: list[LearningRateRewarm] = []
        if choices.rewarm_steps:
            self.rewarm = [LearningRateRewarm(one, choices.rewarm_steps) for one in self.optimizers]

    def _check(self) -> None:
        choices = self.choices
        need_optimizer = {
            "optimizer_state": choices.optimizer_state != "keep",
            "rewarm_steps": choices.rewarm_steps > 0,
            "head_policy": choices.head_policy == "refit",
        }
        for option, needed in need_optimizer.items():
            if needed and not self.optimizers:
                raise UsageError(f"{option} needs the optimiser: give optimizer=.")
        if choices.head_policy == "keep":
            return
        if self.head is None:
            raise UsageError(f"head_policy={choices.head_policy!r} needs the head: give head=, a module.")
        if not any(parameter.requires_grad for parameter in self.head.parameters()):
            raise UsageError(
                f"head_policy={choices.head_policy!r} needs a head that is trained, and of this one no "
                "parameter is; choose head_policy='keep'."
            )

    def copies_of(self, encoder: nn.Module, model: nn.Module) -> list[nn.Module]:
        """Return the counterparts of an encoder in the averaged copies that follow it."""
        if self.choices.ema_policy == "keep":
            return []
        return [copied_encoder(encoder, model, copy) for copy in self.copies]

    def settle(
        self,
        blended: dict[nn.Parameter, float],
        encoders: Iterable[nn.Module],
        mean_strength: float,
        model: nn.Module,
        train_loader: Iterable[Any],
    ) -> None:
        """Let norm statistics, head, optimiser and learning rate follow the blended weights.

        `blended` has the strength of each parameter; `mean_strength`, over all modalities, is for the head.
        The random generators of the loader are restored.
        """
        choices, head = self.choices, self.head
        with untouched_generators(train_loader):
            if choices.norm_stats == "recalibrate":
                batches = moved_batches(train_loader, device_of(model))
                recalibrate_norms(
                    encoders,
                    model,
                    self.reader,
                    # A batch of one has no variance, and some layers refuse it.
                    (batch for batch in batches if len(self.reader.target(batch)) > 1),
                )
                reshard(model)
            if choices.head_policy == "blend" and head is not None:
                soft_reinitialize(head, self.head_target, mean_strength)
                share_values(head.parameters())
                blended |= dict.fromkeys(head.parameters(), mean_strength)
            if choices.optimizer_state != "keep":
                settle_optimizer_state(self.optimizers, blended, choices.optimizer_state)
            if choices.head_policy == "refit" and head is not None:
                refit_head(
                    head,
                    model,
                    self.reader,
                    moved_batches(train_loader, device_of(model), repeat=True),
                    steps=choices.head_refit_steps,
                    lr=self._rate_of(head),
                )
        for rewarm in self.rewarm:
            rewarm.start()

    def _rate_of(self, module: nn.Module) -> float:
        """Return the learning rate of a module's parameters, or the first one there is."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        own = {id(parameter) for parameter in module.parameters()}
        its = [group for group in groups if any(id(parameter) in own for parameter in group["params"])]
        return float((its or groups)[0]["lr"])


def copied_encoder(encoder: nn.Module, model: nn.Module, copy: nn.Module) -> nn.Module:
    """Return the counterpart of an encoder, without wrappers, in an averaged copy.

    The copy is an `AveragedModel`, or another module of the same structure: a copy of the model, of a part of
    it that holds the encoder, or of the encoder alone.

    Raises:
        ModelError: the copy has no module at the encoder's place with the same tensors.
    """
    inside = unwrapped(copy.module if isinstance(copy, AveragedModel) else copy)
    paths = [name for name, part in unwrapped(model).named_modules() if unwrapped(part) is encoder]
    shapes = _shapes(encoder)
    for path in paths:
        parts = path.split(".")
        for start in range(len(parts) + 1):  # the copy may be one of an inner module
            try:
                found = unwrapped(inside.get_submodule(".".join(parts[start:])))
            except AttributeError:
                continue
            if type(found) is type(encoder) and _shapes(found) == shapes:
                return found
    raise ModelError(
        f"the averaged copy ({type(inside).__name__}) holds no copy of the encoder "
        f"{paths[0] if paths else type(encoder).__name__!r}; expected in ema= a copy of the model "
        f"({type(unwrapped(model)).__name__}) or of a part that holds the encoder."
    )


def _shapes(module: nn.Module) -> dict[str, object]:
    return {name: value.shape for name, value in module.state_dict().items()}


def frozen_norms(layers: Iterable[_NormBase], model: nn.Module) -> list[_NormBase]:
    """Return the layers that their owner keeps in evaluation mode: training does not change their statistics.

    They are in evaluation mode while the model trains. If all of it is in evaluation mode, its `train()`
    shows which layers stay there. It cannot show layers set by a loop, so a frozen scale counts, too.
    """
    with modes_restored(model):
        by_train = not model.training
        if by_train:
            model.train()
        return [
            layer
            for layer in layers
            if not layer.training
            or (by_train and layer.weight is not None and not layer.weight.requires_grad)
        ]


def frozen_statistics(encoder: nn.Module, model: nn.Module) -> set[str]:
    """Return the names of the encoder's buffers that belong to `frozen_norms`."""
    frozen = set(frozen_norms((layer for layer in encoder.modules() if isinstance(layer, _NormBase)), model))
    return {
        f"{path}.{name}".lstrip(".")
        for path, layer in encoder.named_modules()
        if layer in frozen
        for name, _ in layer.named_buffers(recurse=False)
    }


@torch.no_grad()
def recalibrate_norms(
    encoders: Iterable[nn.Module], model: nn.Module, reader: BatchReader, batches: Iterable[Any]
) -> None:
    """Estimate the running statistics of the encoders' batch normalisation again, from data.

    The model runs in evaluation mode except for these layers, which average over all batches; modes and
    momentum are restored. Layers that `frozen_norms` names are left alone. Several processes, each with its
    share of the samples, end with the mean of theirs.
    """
    norms = dict.fromkeys(  # in an order that all processes share
        layer
        for encoder in encoders
        for layer in encoder.modules()
        if isinstance(layer, _NormBase) and layer.track_running_stats
    )
    for layer in frozen_norms(norms, model):
        del norms[layer]
    if not norms:
        return
    momentum = {layer: layer.momentum for layer in norms}
    try:
        with isolated_rng(), evaluating(model), unsynced(model):
            for layer in norms:
                layer.reset_running_stats()
                layer.momentum = None  # None means the plain average over batches
                layer.training = True
            for batch in batches:
                reader.run(model, batch)
        average_values(
            statistic
            for layer in norms
            for statistic in (layer.running_mean, layer.running_var)
            if statistic is not None
        )
    finally:
        for layer in norms:
            layer.momentum = momentum[layer]


def loss_of(output: Tensor, target: Tensor) -> Tensor:
    """Return the loss of a batch: that of the target's task, or of two classes where there is one logit.

    A column `[B, 1]` is a number or class of each sample. Samples of class -100 are left out.
    """
    if target.ndim == 2 and target.shape[1] == 1:
        whole = bool((target == target.bool()).all())
        target = target[:, 0].long() if whole else target[:, 0]
    if target.ndim == 1 and not target.is_floating_point():
        target = target.long()
    if target.is_floating_point() or target.ndim > 1 or output.numel() != len(target):
        return task_of(target).loss(output, target)
    kept = target != IGNORED_CLASS
    return MULTILABEL.loss(output.reshape(-1, 1)[kept], target[kept, None])


def refit_head(
    head: nn.Module,
    model: nn.Module,
    reader: BatchReader,
    batches: Iterable[Any],
    steps: int,
    lr: float,
) -> None:
    """Take some plain gradient steps of the head on the re-learnt features, everything else held fixed.

    The loss is that of `loss_of`. Gradients held by parameters are kept. Several
    processes step by the mean of their gradients.
    """
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    with isolated_rng(), evaluating(model), unsynced(model):
        for batch in islice(batches, steps):
            target = reader.target(batch)
            loss = loss_of(reader.logits(model, batch), target)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            average_values(gradient for gradient in gradients if gradient is not None)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter.sub_(lr * gradient)
