"""Contribution of each modality to the predictions of any model in plain PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.contribution.replaced_features import FeatureHooks, Leaves, stand_ins
from equipoise.diagnosis.contribution.subset_queries import PERMUTED, Choices, Query, queries
from equipoise.diagnosis.contribution.subset_scores import ScoredSplit, answers, contributions_from
from equipoise.diagnosis.features.capture import check_handles, encoders_of
from equipoise.diagnosis.features.reading import (
    BatchReader,
    device_of,
    in_order,
    moved_batches,
    untouched_generators,
)
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.tasks import refuse_ignored
from equipoise.typed_options import from_options
from equipoise.types import DataError, ModelError


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
    """Measure how much each modality contributes to a model's predictions.

    Forward hooks replace the outputs of the encoders. The model runs in evaluation mode without gradients;
    afterwards its weights, gradients, modes and hooks and all random states are unchanged. Integer targets
    are classes, scored by accuracy; floating-point targets are numbers, scored by R^2, unless all are 0 or 1.
    The two classes may have one output: a logit, or a probability if all outputs are in [0, 1].

    The model runs once over the training split and `2^M + 2 M + M * repeats` times over the other split, so
    few modalities and a small split take little time. The encoder outputs for the other split stay in memory.

    Args:
        model: the whole model.
        train_loader: an iterable of batches, for the mean features.
        loader: the split that is scored, usually validation; iterated twice, in the same order.
        encoders: modality name to a module inside `model`, as for `collect_features`. Optional if the model
            has `modalities` and `encoder_module`.
        reader: how batches are read, if the default does not fit.
        split: name of the scored split.
        classes: names of the classes.
        **choices: see `Choices`.

    Raises:
        ModelError: a handle is not part of the model or is called too often or never, its output cannot be
            replaced, or the model's predictions have the wrong shape.
        DataError: a loader gives no batch, or a different order each time.
        UsageError: there are no handles, or the reader does not fit the batches.
    """
    reader = reader or BatchReader()
    chosen = from_options(Choices, choices, "of a contribution")
    encoders = encoders_of(model) if encoders is None else encoders
    check_handles(encoders, model)
    if "mid_fusion" in getattr(model, "capabilities", ()):
        raise ModelError(
            "the encoders of this model exchange signals before their features can be replaced "
            "('mid_fusion'); expected late fusion: use contribution_of_model, which encodes each subset anew."
        )
    hooks = FeatureHooks(encoders)
    passes = _Passes(model, hooks, reader)
    with isolated_rng(), evaluating(model), torch.no_grad(), hooks.registered():
        train_target, means = passes.train(train_loader)
        target, answered = passes.score(loader, means, queries(tuple(encoders), chosen), chosen)
    scored = ScoredSplit(tuple(encoders), target, train_target, passes.num_classes, split, classes)
    return contributions_from(answered, scored, chosen)


class _Passes:
    """The forward passes of a model over the two splits."""

    def __init__(self, model: nn.Module, hooks: FeatureHooks, reader: BatchReader) -> None:
        self.model, self.hooks, self.reader = model, hooks, reader
        self.num_classes = 0
        self.binary, self.threshold = False, 0.0

    def train(self, loader: Iterable[Any]) -> tuple[NDArray[Any], dict[str, Leaves]]:
        """Return the targets of the training split and the mean features `[1, k, ...]`."""
        sums: dict[str, Leaves] = {}
        targets: list[Tensor] = []
        probable = True
        with self._batches(loader) as batches:
            for batch, target in batches:
                logits, seen = self.hooks.call(partial(self.reader.logits, self.model, batch), len(target))
                probable = probable and bool(((logits >= 0) & (logits <= 1)).all())
                for m, leaves in seen.items():
                    own = [leaf.sum(dim=0, dtype=torch.float64, keepdim=True).cpu() for leaf in leaves]
                    sums[m] = [a + b for a, b in zip(sums[m], own, strict=True)] if m in sums else own
                targets.append(target)
        train_target = _joined(targets, "training")
        self.binary, self.threshold = bool(np.isin(train_target, (0, 1)).all()), 0.5 if probable else 0.0
        train_target = train_target.astype(np.int64) if self.binary else train_target
        return train_target, {m: [total / len(train_target) for total in own] for m, own in sums.items()}

    def score(
        self, loader: Iterable[Any], means: Mapping[str, Leaves], asked: list[Query], choices: Choices
    ) -> tuple[NDArray[Any], dict[Query, NDArray[Any]]]:
        """Return the targets of the scored split and its predictions under every query.

        Permutations take features from the whole split, hence a second iteration.
        """
        found: dict[Query, list[NDArray[Any]]] = {query: [] for query in asked}
        in_batch = [query for query in asked[1:] if query.stand_in != PERMUTED]
        kept: dict[str, list[Leaves]] = {}
        targets: list[Tensor] = []
        with self._batches(loader) as batches:
            for batch, target in batches:
                full, own = self._predict(batch, target, {})
                found[asked[0]].append(full)  # all modalities present
                for query in in_batch:
                    found[query].append(self._predict(batch, target, stand_ins(query, own, means))[0])
                for name, leaves in own.items():
                    kept.setdefault(name, []).append([leaf.cpu() for leaf in leaves])
                targets.append(target)
        joined = _joined(targets, "scored")
        features = {m: [torch.cat(leaf) for leaf in zip(*parts, strict=True)] for m, parts in kept.items()}
        self._permuted(loader, joined, features, found, choices)
        return joined, {query: np.concatenate(parts) for query, parts in found.items()}

    def _permuted(
        self,
        loader: Iterable[Any],
        expected: NDArray[Any],
        features: Mapping[str, Leaves],
        found: Mapping[Query, list[NDArray[Any]]],
        choices: Choices,
    ) -> None:
        permuted = [query for query in found if query.stand_in == PERMUTED]
        orders = [torch.from_numpy(choices.permutation(len(expected), r)) for r in range(choices.repeats)]
        start = 0
        with self._batches(loader) as batches:
            for batch, target in batches:
                rows = slice(start, start + len(target))
                if not np.array_equal(target.numpy(), expected[rows]):
                    break
                for query in permuted:
                    order = orders[query.repeat][rows]
                    absent = [m for m in features if m not in query.present]
                    given = {m: [leaf[order] for leaf in features[m]] for m in absent}
                    found[query].append(self._predict(batch, target, given)[0])
                start = rows.stop
        if start != len(expected):
            raise DataError(
                "the loader gives other samples, or another order, each time it is iterated; expected the "
                "same each time: turn shuffling off, and give a loader instead of an iterator."
            )

    def _predict(
        self, batch: Any, target: Tensor, given: Mapping[str, Leaves]
    ) -> tuple[NDArray[Any], dict[str, Leaves]]:
        logits, seen = self.hooks.call(lambda: self.reader.logits(self.model, batch), len(target), given)
        predictions = logits.detach().double().cpu().numpy()
        if not target.is_floating_point() and predictions.shape in ((len(target),), (len(target), 1)):
            above = predictions.reshape(-1) - self.threshold
            predictions = np.stack([-above, above], axis=1)
        self.num_classes = predictions.shape[-1]
        if not target.is_floating_point() and int(target.max()) >= self.num_classes:
            raise DataError(
                f"a target is {int(target.max())}, but the model predicts {self.num_classes} classes; "
                "expected class indices from 0, or floating-point numbers."
            )
        return answers(predictions, target.numpy()), seen

    @contextmanager
    def _batches(self, loader: Iterable[Any]) -> Iterator[Iterator[tuple[Any, Tensor]]]:
        def moved() -> Iterator[tuple[Any, Tensor]]:
            for batch in moved_batches(in_order(loader), device_of(self.model)):
                target = self.reader.target(batch).detach().cpu()
                if self.binary and bool((target.is_floating_point() & (target != target.bool())).any()):
                    raise DataError(
                        "all training targets are 0 or 1, and some of the scored split are other numbers; "
                        "expected two classes in both, or numbers in both."
                    )
                if target.is_floating_point() or self.binary:
                    target = target.long() if self.binary else target.double()
                yield batch, target.flatten() if target.ndim == 2 and target.shape[1] == 1 else target

        with untouched_generators(loader):
            yield moved()


def _joined(targets: list[Tensor], what: str) -> NDArray[Any]:
    if not targets:
        raise DataError(f"the loader of the {what} split gave no batch; expected at least one.")
    target: NDArray[Any] = torch.cat(targets).numpy()
    if target.ndim != 1:
        raise DataError(f"targets have the shape {list(target.shape)}; expected one per sample, [samples].")
    refuse_ignored(target)
    return target
