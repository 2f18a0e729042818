"""One epoch of several runs with stacked weights, `[S, ...]` of `S` runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from equipoise.diagnosis.features.capture import encoders_of
from equipoise.methods import StepContext
from equipoise.methods.core.method import overrides, total
from equipoise.models import BalancedModel
from equipoise.scopes import evaluating
from equipoise.training.loop import Training
from equipoise.training.side_by_side.layers import stacked
from equipoise.types import Batch


class Stack:
    """Runs of one method on one model, with equal numbers of samples.

    Encoders, fusion and optimiser work on all runs at once. What belongs to the method is called for each
    run, which sees its own features, logits, weights and gradients.
    """

    def __init__(self, trainings: Sequence[Training]) -> None:
        self.trainings = trainings
        self.sizes: list[int] = []
        self._generators = [torch.Generator() for _ in trainings]
        self._own = [dict(training.stepped.named_parameters()) for training in trainings]
        self._weights = {
            name: torch.stack([own[name].detach() for own in self._own]).requires_grad_()
            for name in self._own[0]
        }
        method = trainings[0].method
        self._hooks = [hook for hook in ("after_backward", "after_step") if overrides(method, hook)]
        self._edited = overrides(method, "edit_features") or overrides(method, "fuse")
        clips = trainings[0].settings.budget.clip_norm is not None
        self._reads_gradients = clips or "after_backward" in self._hooks
        self._of_model = {
            name.removeprefix("model."): weight
            for name, weight in self._weights.items()
            if name.startswith("model.")
        }
        self._model = stacked(trainings[0].model, self._of_model, self._generators).train()

    def train_epoch(self, epoch: int) -> list[list[Tensor]]:
        """Take the steps of an epoch; return the losses of the batches, by run."""
        for training, generator in zip(self.trainings, self._generators, strict=True):
            training.begin_epoch(epoch)
            training.prepare_epoch()
            generator.set_state(torch.get_rng_state())
        losses = []
        with self._weights_shared(), self._counting():
            optimizer = self._optimizer()
            for batches in zip(*(training.ordered() for training in self.trainings), strict=True):
                losses.append(self._step(batches, optimizer))
                self.sizes.append(len(batches[0]))
        self._give_back(optimizer)
        return [[found[place] for found in losses] for place in range(len(self.trainings))]

    def is_exact(self) -> bool:
        """Return whether features, logits and gradients are those of each run alone on this machine.

        Its products of stacked matrices might round differently. Nothing is changed.
        """
        runs = self.trainings
        batches = [run.take(range(min(run.batch_size, run.train_size))) for run in runs]
        with ExitStack() as modes:
            for model in [self._model, *(run.model for run in runs)]:
                modes.enter_context(evaluating(model))
            found = _outputs(self._model, _joined(batches))
            split = zip(runs, self._by_run(found[-1]), batches, strict=True)
            losses = [run.loss(u, batch.target) for run, u, batch in split]
            together = [self._by_run(rows) for rows in found]
            together += [grad.unbind() for grad in _gradients(losses, self._of_model.values())]
            for place, (run, batch) in enumerate(zip(runs, batches, strict=True)):
                alone = _outputs(run.model, batch.inputs)
                own = dict(run.model.named_parameters())
                alone += _gradients([run.loss(alone[-1], batch.target)], [own[n] for n in self._of_model])
                if not all(torch.equal(one, many[place]) for one, many in zip(alone, together, strict=True)):
                    return False
        return True

    def random_states(self) -> list[Tensor]:
        """Return the state of torch's random numbers of each run after the steps."""
        return [generator.get_state() for generator in self._generators]

    def _step(self, batches: Sequence[Batch], optimizer: Optimizer) -> list[Tensor]:
        """Take one step of each run, see `Method.standard_step`; return the losses."""
        for weight in chain(self._weights.values(), *(own.values() for own in self._own)):
            weight.grad = None
        contexts = self._forward(batches)
        pairs = zip(self.trainings, contexts, strict=True)
        losses = [total(training.method.losses(context)) for training, context in pairs]
        torch.autograd.backward(losses)
        self._share_gradients()
        self._call("after_backward", contexts)
        for training in self.trainings:
            training.clip_gradients()
        optimizer.step()
        self._call("after_step", contexts)
        for training in self.trainings:
            training.step += 1
        return [loss.detach() for loss in losses]

    def _forward(self, batches: Sequence[Batch]) -> list[StepContext]:
        """Return the context of each run, after encoding and fusion, see `Method.forward`."""
        features = self._model.encode(_joined(batches))
        # Fused before they are split: gradients of features are then added in the order of a run alone.
        logits = None if self._edited else self._model.fuse(features)
        of_runs = {m: self._by_run(z) for m, z in features.items()}
        contexts = []
        for place, (training, batch) in enumerate(zip(self.trainings, batches, strict=True)):
            context = StepContext(training, batch)
            context.features = context.z = {m: z[place] for m, z in of_runs.items()}
            contexts.append(context)
        if logits is not None:
            for context, u in zip(contexts, self._by_run(logits), strict=True):
                context.u = u
            return contexts
        for training, context in zip(self.trainings, contexts, strict=True):
            context.z = training.method.edit_features(context.z, context)
            context.u = training.method.fuse(context.z, context)
        return contexts

    def _by_run(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Split rows `[S B, ...]` into those of each run."""
        return rows.view(len(self.trainings), -1, *rows.shape[1:]).unbind()

    def _call(self, hook: str, contexts: Sequence[StepContext]) -> None:
        if hook not in self._hooks:
            return
        for training, context in zip(self.trainings, contexts, strict=True):
            with training.own_time():
                getattr(training.method, hook)(context)

    def _share_gradients(self) -> None:
        """Add the gradients of what runs computed by themselves; show each run its part of the sum."""
        for name, weight in self._weights.items():
            own = [mine[name].grad for mine in self._own]
            if any(grad is not None for grad in own):
                added = torch.stack([torch.zeros_like(weight[0]) if grad is None else grad for grad in own])
                weight.grad = added if weight.grad is None else weight.grad + added
            if weight.grad is not None and self._reads_gradients:
                for mine, grad in zip(self._own, weight.grad.unbind(), strict=True):
                    mine[name].grad = grad

    @contextmanager
    def _weights_shared(self) -> Iterator[None]:
        """Let the weights of each run be its part of the stacked ones in a block."""
        kept = [{name: weight.data for name, weight in own.items()} for own in self._own]
        for place, own in enumerate(self._own):
            for name, weight in own.items():
                weight.data = self._weights[name].detach()[place]
        try:
            yield
        finally:
            for own, data in zip(self._own, kept, strict=True):
                for name, weight in own.items():
                    data[name].copy_(weight.data)
                    weight.data, weight.grad = data[name], None

    @contextmanager
    def _counting(self) -> Iterator[None]:
        with ExitStack() as stack:
            for training in self.trainings:
                stack.enter_context(training.counting())
            yield

    def _optimizer(self) -> Optimizer:
        """Return the optimiser of the first run, over the stacked weights, with the state of all."""
        own = [_inner(training.optimizer) for training in self.trainings]
        names = {id(weight): name for name, weight in self._own[0].items()}
        groups = [
            group | {"params": [self._weights[names[id(weight)]] for weight in group["params"]]}
            for group in own[0].param_groups
        ]
        optimizer = type(own[0])(groups)  # type: ignore[call-arg]
        for name, weight in self._weights.items():
            states = [kept.state.get(mine[name], {}) for kept, mine in zip(own, self._own, strict=True)]
            if any(states):
                optimizer.state[weight] = _stacked_state(states, weight)
        return optimizer

    @torch.no_grad()
    def _give_back(self, optimizer: Optimizer) -> None:
        """Write the states of the optimiser back into the runs, and count the passes of the encoders."""
        samples = sum(self.sizes)
        for place, (training, own) in enumerate(zip(self.trainings, self._own, strict=True)):
            kept = _inner(training.optimizer)
            for name, weight in self._weights.items():
                if weight in optimizer.state:
                    kept.state[own[name]] = {
                        key: value[place].clone() if value.shape == weight.shape else value.clone()
                        for key, value in optimizer.state[weight].items()
                    }
            encoders = len(set(encoders_of(training.model).values()))
            training.counters.forward_passes += samples * encoders
            training.counters.backward_passes += samples * encoders


def _joined(batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Return the inputs of batches, one after the other."""
    return {name: torch.cat([batch.inputs[name] for batch in batches]) for name in batches[0].inputs}


def _outputs(model: BalancedModel, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return features and, as the last entry, logits."""
    z = model.encode(inputs)
    return [*z.values(), model.fuse(z)]


def _gradients(losses: Sequence[Tensor], weights: Iterable[Tensor]) -> list[Tensor]:
    """Return the gradients of the sum of losses, zeros where there is none."""
    weights = list(weights)
    found = torch.autograd.grad(losses, weights, allow_unused=True)
    return [torch.zeros_like(w) if grad is None else grad for w, grad in zip(weights, found, strict=True)]


def _inner(optimizer: Any) -> Optimizer:
    """Return torch's optimiser inside that of lightning-fabric."""
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def optimizer_numbers(training: Training) -> tuple[object, ...]:
    """Return the numbers of a run's optimiser that a stack has in common, such as Adam's counts of steps."""
    optimizer = _inner(training.optimizer)
    rates = [(group["lr"], group["factor"]) for group in optimizer.param_groups]
    counts = [
        (name, key, float(value))
        for name, weight in training.stepped.named_parameters()
        for key, value in optimizer.state.get(weight, {}).items()
        if value is not None and (not isinstance(value, Tensor) or value.shape != weight.shape)
    ]
    return (*rates, *counts)


def _stacked_state(states: Sequence[Mapping[str, Any]], stacked: Tensor) -> dict[str, Any]:
    """Return the state of a stacked weight; a run without one, as SGD's after a reset, has zeros."""
    known = next(state for state in states if state)
    found: dict[str, Any] = {}
    for key, value in known.items():
        if isinstance(value, Tensor) and value.shape == stacked.shape[1:]:
            found[key] = torch.stack([state.get(key, torch.zeros_like(value)) for state in states])
        else:
            found[key] = value.clone() if isinstance(value, Tensor) else value
    return found
