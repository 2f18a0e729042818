"""Contribution of each modality to the predictions of a finished run, or of any model of the contract."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor

from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.contribution.refits import refits
from equipoise.diagnosis.contribution.subset_queries import PERMUTED, Choices, Query, queries
from equipoise.diagnosis.contribution.subset_scores import ScoredSplit, answers, contributions_from
from equipoise.diagnosis.features.reading import untouched_generators
from equipoise.experiments.examine.run_data import open_run
from equipoise.models import BalancedModel
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.tasks import MULTILABEL
from equipoise.threads import cpu_threads, one_thread
from equipoise.training.prediction.explained import is_explicable
from equipoise.training.record.record import METRICS, RunRecord
from equipoise.typed_options import from_options
from equipoise.types import Batch, UsageError, check_known, warn

SPLITS: Final = ("validation", "test")
Features = dict[str, Tensor]


def contribution_of_run(
    run_dir: str | os.PathLike[str], split: str = "validation", **choices: Any
) -> Contributions:
    """Measure how much each modality contributes to the predictions of a finished run.

    The run's data are read again. The test split is opened only on request. The run record then gets an
    event `diagnosis-test`, which differs from `test`, the single opening at the end of training: it shows
    that these figures were measured after all decisions of the run.

    Args:
        run_dir: folder of a finished run.
        split: `validation` or `test`.
        **choices: see `equipoise.diagnosis.Choices`.

    Returns:
        The contributions, with the scores of linear heads on the run's features beside them.

    Raises:
        RunFolderError: there is no finished run, or the data have changed since.
        UnknownNameError: no such split or option.
        DataError: the run's data are no longer there.
        UsageError: the run is one of several labels a sample.
    """
    chosen = from_options(Choices, choices, "of a contribution")
    check_known("split", [split], SPLITS)
    result, _, data = open_run(run_dir)
    if data.task == MULTILABEL.name:
        raise UsageError(
            f"contributions are those to one class or number a sample, and the run in {run_dir} has several "
            "labels; equipoise.diagnose_run measures the learning state of its encoders."
        )
    if not is_explicable(result.model, data.modality_specs):
        warn(
            f"{result.summary['method']} predicts by more than the features of its encoders, such as a mean "
            "over several networks; the contributions are those of one network by itself."
        )
    loader = data.val
    if split == "test":
        RunRecord(Path(run_dir)).append(METRICS, {"event": "diagnosis-test", "why": "contribution"})
        loader = data.open_test()
    with cpu_threads(result.model):
        return contribution_of_model(
            result.model, data.train_eval, loader, split=split, classes=tuple(data.classes), choices=chosen
        )


def contribution_of_model(
    model: BalancedModel,
    train_loader: Iterable[Batch],
    loader: Iterable[Batch],
    *,
    split: str = "validation",
    classes: tuple[str, ...] | None = None,
    choices: Choices | None = None,
) -> Contributions:
    """Measure how much each modality contributes to a model's predictions, encoding each sample once.

    With intermediate fusion a feature contains signal from other modalities. Each subset is then encoded
    anew, without what the absent modalities would have added to the others; a permuted modality brings other
    samples' inputs. Linear heads read each modality encoded by itself.

    The model runs in evaluation mode and is left as it was. Both loaders yield their batches in one order;
    `loader` is the split that is scored. See `equipoise.contribution` for the other arguments.
    """
    chosen = choices or Choices()
    with (
        isolated_rng(),
        untouched_generators(train_loader),
        untouched_generators(loader),
        evaluating(model),
        torch.no_grad(),
        one_thread(),
    ):
        mixed = "mid_fusion" in model.capabilities
        asked = (_Mixed if mixed else _Encoded)(model, train_loader, loader, chosen)
        scored = ScoredSplit(
            model.modalities, asked.target, asked.train_target, model.num_outputs, split, classes
        )
        answered = {query: asked.answer(query) for query in queries(model.modalities, chosen)}
        found = contributions_from(answered, scored, chosen)
        heads = refits(asked.own_train, asked.train_target, asked.own, asked.target, model.num_outputs)
        return heads.into(found)


class _Encoded:
    """A model with late fusion: features once, the fusion for every query."""

    def __init__(
        self, model: BalancedModel, train: Iterable[Batch], loader: Iterable[Batch], choices: Choices
    ) -> None:
        self.model, self.choices = model, choices
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        train_features, self.train_target, _ = self._encode(train)
        self.means = {m: z.mean(dim=0, dtype=torch.float64).to(z) for m, z in train_features.items()}
        self.features, self.target, self.sizes = self._encode(loader)
        self.own_train, self.own = self._alone(train, train_features), self._alone(loader, self.features)

    def answer(self, query: Query) -> NDArray[Any]:
        """Return the predicted classes of a query, `[N]`."""
        logits = torch.cat(list(self._logits(query)))
        return answers(logits.double().cpu().numpy(), self.target)

    def _logits(self, query: Query) -> Iterator[Tensor]:
        """Yield the logits batch by batch, of the sizes in which evaluation sees them."""
        z = {
            m: own if m in query.present else self._stand_in(m, own, query)
            for m, own in self.features.items()
        }
        parts = {m: torch.split(own, self.sizes) for m, own in z.items()}
        for i in range(len(self.sizes)):
            yield self.model.fuse({m: part[i] for m, part in parts.items()}).float()

    def _stand_in(self, modality: str, own: Tensor, query: Query) -> Tensor:
        if query.stand_in == PERMUTED:
            return own[torch.from_numpy(self.choices.permutation(len(own), query.repeat)).to(own.device)]
        return torch.zeros_like(own) if query.stand_in == "zero" else self.means[modality].expand_as(own)

    def _alone(self, loader: Iterable[Batch], features: Features) -> dict[str, NDArray[Any]]:
        """Return what each encoder makes of its own modality, for the linear heads."""
        return {m: z.float().cpu().numpy() for m, z in features.items()}

    def _encode(
        self, loader: Iterable[Batch], only: list[str] | None = None
    ) -> tuple[Features, NDArray[Any], list[int]]:
        found, targets = [], []
        for batch in loader:
            found.append(self.model.encode(batch.to(self.device), only=only))
            targets.append(batch.target)
        features = {m: torch.cat([z[m] for z in found]) for m in found[0]}
        return features, torch.cat(targets).cpu().numpy(), [len(target) for target in targets]


class _Mixed(_Encoded):
    """A model with intermediate fusion: every query is encoded for itself."""

    def __init__(
        self, model: BalancedModel, train: Iterable[Batch], loader: Iterable[Batch], choices: Choices
    ) -> None:
        super().__init__(model, train, loader, choices)
        self.loader = loader

    def _logits(self, query: Query) -> Iterator[Tensor]:
        start, gathered = 0, self._inputs() if query.stand_in == PERMUTED else {}
        for batch in self.loader:
            batch = batch.to(self.device)
            rows = slice(start, start + len(batch))
            if query.stand_in == PERMUTED:
                order = torch.from_numpy(self.choices.permutation(len(self.target), query.repeat))[rows]
                inputs = {m: x if m in query.present else gathered[m][order] for m, x in batch.inputs.items()}
                z = self.model.encode({m: x.to(self.device) for m, x in inputs.items()})
            else:
                z = self.model.encode(batch, only=[m for m in self.model.modalities if m in query.present])
                z |= {
                    m: self._stand_in(m, own[rows], query)
                    for m, own in self.features.items()
                    if m not in query.present
                }
            yield self.model.fuse(z).float()
            start = rows.stop

    def _inputs(self) -> Mapping[str, Tensor]:
        """Return the inputs of the whole split; a permutation reaches all over it."""
        found = [batch.inputs for batch in self.loader]
        return {m: torch.cat([inputs[m] for inputs in found]) for m in self.model.modalities}

    def _alone(self, loader: Iterable[Batch], features: Features) -> dict[str, NDArray[Any]]:
        alone = {m: self._encode(loader, [m])[0][m] for m in self.model.modalities}
        return {m: z.float().cpu().numpy() for m, z in alone.items()}
