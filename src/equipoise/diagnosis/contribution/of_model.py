"""Contribution of each modality to the predictions of any model in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.contribution.replaced_features import (
    FeatureHooks,
    Kept,
    Leaves,
    MeanFeatures,
    stand_ins,
)
from equipoise.diagnosis.contribution.subset_queries import PERMUTED, Choices, Query, queries
from equipoise.diagnosis.contribution.subset_scores import Task, answers, contributions_from
from equipoise.diagnosis.features.capture import _check_handles, _in_order, untouched_generators
from equipoise.diagnosis.features.reading import BatchReader, device_of, move_batch
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.types import DataError, ModelError, UsageError


def contribution(
    model: nn.Module,
    train_loader: Iterable[Any],
    loader: Iterable[Any],
    encoders: Mapping[str, nn.Module] | None = None,
    *,
    reader: BatchReader | None = None,
    split: str = "validation",
    classes: tuple[str, ...] | None = None,
    **choices: Any,
) -> Contributions:
    """Tell how much each modality contributes to a model's predictions.

    Forward hooks put other features in place of what the encoders return. The model runs in evaluation mode
    without gradients; afterwards its weights, gradients, modes and hooks and all random states are as before.
    Integer targets are classes, scored by accuracy; floating-point ones are numbers, scored by R^2.

    The training split is passed once, the other one `2^M + 2 M + M * repeats` times, so that few modalities
    and a small split take little time. What the encoders return for the other split is kept in memory.

    Args:
        model: the whole model.
        train_loader: gives the mean features; an iterable of batches.
        loader: the split that is scored, validation as a rule; iterated twice, in one order.
        encoders: modality name to a module inside `model`, the same handles that `collect_features` takes.
            May be left out where the model has `modalities` and `encoder_module`.
        reader: how batches are read, where the default does not fit.
        split: what the scored split is called.
        classes: names of the classes.
        **choices: see `Choices`.

    Raises:
        ModelError: a handle is no part of the model or is called too often or never, what it returns cannot
            be replaced, or the model's predictions have no fitting shape.
        DataError: a loader gives no batch, or its samples in another order each time.
        UsageError: there are no handles, or the reader does not fit the batches.
    """
    reader, chosen = reader or BatchReader(), Choices.of(choices)
    encoders = _handles(model) if encoders is None else encoders
    _check_handles(encoders, model)
    if "mid_fusion" in getattr(model, "capabilities", ()):
        raise ModelError(
            "the encoders of this model exchange signals before their features can be replaced "
            "('mid_fusion'); expected late fusion: use contribution_of_model, which encodes each subset anew."
        )
    with isolated_rng(), evaluating(model), torch.no_grad(), FeatureHooks(encoders).hooked() as hooks:
        passes = _Passes(model, hooks, reader, chosen, tuple(encoders))
        passes.train(train_loader)
        passes.score(loader)
        task = Task(passes.modalities, passes.target, passes.train_target, passes.num_classes, split, classes)
        return contributions_from(lambda query: passes.answered[query], task, chosen)


class _Passes:
    """The passes of a model over two splits, and what it answers."""

    def __init__(
        self,
        model: nn.Module,
        hooks: FeatureHooks,
        reader: BatchReader,
        choices: Choices,
        modalities: tuple[str, ...],
    ) -> None:
        self.model, self.hooks, self.reader = model, hooks, reader
        self.choices, self.modalities = choices, modalities
        self.num_classes = 0
        self.answered: dict[Query, NDArray[Any]] = {}

    def train(self, loader: Iterable[Any]) -> None:
        """Take means over the training split."""
        means, targets = MeanFeatures(), []
        with self._batches(loader) as batches:
            for batch, target in batches:
                _, seen = self.hooks.call(partial(self.reader.run, self.model, batch), len(target))
                means.add(seen, len(target))
                targets.append(target)
        self.train_target, self.means = _joined(targets, "training"), means.result()

    def score(self, loader: Iterable[Any]) -> None:
        """Ask everything: first what each batch can answer by itself, then what takes other samples."""
        asked = queries(self.modalities, self.choices)
        kept, targets = Kept(), []
        found: dict[Query, list[NDArray[Any]]] = {query: [] for query in asked}
        alone = [query for query in asked if query.stand_in != PERMUTED]
        with self._batches(loader) as batches:
            for batch, target in batches:
                full, own = self._ask(batch, target, {})
                found[alone[0]].append(full)
                kept.add(own)
                for query in alone[1:]:
                    given = stand_ins(query, own, self.means)
                    found[query].append(self._ask(batch, target, given)[0])
                targets.append(target)
        self.target = _joined(targets, "scored")
        self._permuted(loader, kept.result(), found)
        self.answered = {query: np.concatenate(parts) for query, parts in found.items()}

    def _permuted(
        self, loader: Iterable[Any], kept: Mapping[str, Leaves], found: dict[Query, list[NDArray[Any]]]
    ) -> None:
        count, start = len(self.target), 0
        orders = [
            torch.from_numpy(self.choices.permutation(count, repeat))
            for repeat in range(self.choices.repeats)
        ]
        with self._batches(loader) as batches:
            for batch, target in batches:
                stop = start + len(target)
                if not np.array_equal(target.numpy(), self.target[start:stop]):
                    break
                for query in [query for query in found if query.stand_in == PERMUTED]:
                    rows = orders[query.repeat][start:stop]
                    given = {
                        m: [leaf[rows] for leaf in kept[m]] for m in self.modalities if m not in query.present
                    }
                    found[query].append(self._ask(batch, target, given)[0])
                start = stop
        if start != count:
            raise DataError(
                "the loader gives other samples, or another order, each time it is iterated; expected the "
                "same each time: turn shuffling off, and give a loader instead of an iterator."
            )

    def _ask(
        self, batch: Any, target: Tensor, given: Mapping[str, Leaves]
    ) -> tuple[NDArray[Any], dict[str, Leaves]]:
        logits, seen = self.hooks.call(lambda: self.reader.logits(self.model, batch), len(target), given)
        predictions = logits.detach().double().cpu().numpy()
        self.num_classes = predictions.shape[-1]
        if not target.is_floating_point() and int(target.max()) >= self.num_classes:
            raise DataError(
                f"a target is {int(target.max())}, but the model tells {self.num_classes} classes; expected "
                "class indices from 0."
            )
        return answers(predictions, target.numpy()), seen

    @contextmanager
    def _batches(self, loader: Iterable[Any]) -> Iterator[Iterator[tuple[Any, Tensor]]]:
        device = device_of(self.model)

        def moved() -> Iterator[tuple[Any, Tensor]]:
            for batch in _in_order(loader):
                batch = move_batch(batch, device)
                target = self.reader.target(batch).detach().cpu()
                if target.is_floating_point():
                    target = target.double()
                yield batch, target.flatten() if target.ndim == 2 and target.shape[1] == 1 else target

        with ExitStack() as stack:
            stack.enter_context(untouched_generators(loader))
            yield moved()


def _handles(model: nn.Module) -> dict[str, nn.Module]:
    names, find = getattr(model, "modalities", None), getattr(model, "encoder_module", None)
    if not names or not callable(find):
        raise UsageError(
            f"cannot tell the encoders of a {type(model).__name__}; give encoders=, a mapping from modality "
            "name to module."
        )
    return {name: find(name) for name in names}


def _joined(targets: list[Tensor], what: str) -> NDArray[Any]:
    if not targets:
        raise DataError(f"the loader of the {what} split gave no batch; expected at least one.")
    target: NDArray[Any] = torch.cat(targets).numpy()
    if target.ndim != 1:
        raise DataError(f"targets have the shape {list(target.shape)}; expected one a sample, [samples].")
    return target
