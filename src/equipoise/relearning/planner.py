"""What a re-learning would be: encoders are diagnosed, and the strength of each is set; nothing changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from equipoise.diagnosis.captured import diagnose_captured, through_heads
from equipoise.diagnosis.estimate import usual_options
from equipoise.diagnosis.features.arrays import kind_of
from equipoise.diagnosis.features.capture import check_handles, collect_features
from equipoise.diagnosis.features.reading import BatchReader
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis
from equipoise.distributed import agreed, buffers_of_first, refuse_flattened, unwrapped
from equipoise.pooling import Pool
from equipoise.relearning.options import RelearnOptions
from equipoise.relearning.selection import refuse_merged, select_parameters, selection_by_modality
from equipoise.relearning.strength import (
    PlannedRelearning,
    check_heads,
    check_layers,
    lam_by_modality,
    layer_strengths,
    strengths_of,
    warn_of_few,
)
from equipoise.tracking.relearnings import RelearnLog


class Planner:
    """Diagnoses encoders and says how strongly each would be re-learnt, without a change to any.

    Args:
        encoders: modality name to encoder module.
        lam: the paper's `lambda`, for all modalities or by name.
        choices, diagnosis: options of the re-learning and of the diagnosis.
        named: names of the options that the user gave.
        pool: from an encoder's output to `[B, d]`, for all encoders or by name.
        heads: modality to its own classifier of the pooled features, for `metric="auxiliary-head"`.
        reader: how batches are read.

    Attributes:
        samples_forwarded: number of samples that all diagnoses so far have run through the model.

    Raises:
        UsageError: a handle is no module, or a modality has no `lam`.
        ModelError: a selection of parameters does not fit its encoder.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        lam: float | Mapping[str, float],
        choices: RelearnOptions,
        diagnosis: DiagnosisOptions,
        *,
        named: Mapping[str, Any],
        pool: Pool | Mapping[str, Pool] | None,
        heads: Mapping[str, nn.Module] | None,
        reader: BatchReader,
    ) -> None:
        check_handles(encoders)
        self.encoders = dict(encoders)
        self.choices, self.diagnosis = choices, diagnosis
        self.lam = lam_by_modality(lam, self.encoders)
        self.pool, self.reader = pool, reader
        self._heads = check_heads(heads, self.encoders, diagnosis.metric)
        self.samples_forwarded, self._log = 0, RelearnLog(None)
        self._named, self._by_layer, self._warned = dict(named), choices.by_layer, False
        for name, encoder in self.encoders.items():
            refuse_flattened(encoder, f"the encoder of {name!r}")
        # Inside wrappers for distributed training and compilation, names are the encoder's own.
        self._inside = {name: unwrapped(encoder) for name, encoder in self.encoders.items()}
        self._sharing: dict[nn.Module, list[str]] = {}
        for name, encoder in self._inside.items():
            self._sharing.setdefault(encoder, []).append(name)
        self._selections = selection_by_modality(choices.parameters, self.encoders)
        check_layers(choices, (n for encoder in self._sharing for n, _ in encoder.named_parameters()))

    def diagnose(self, model: nn.Module, train_loader: Iterable[Any], val_loader: Iterable[Any]) -> Diagnosis:
        """Measure the learning state of every modality and change nothing; see `step`."""
        return self._diagnosed(model, train_loader, val_loader)[0]

    def plan(
        self, model: nn.Module, train_loader: Iterable[Any], val_loader: Iterable[Any]
    ) -> PlannedRelearning:
        """Take the first half of a `step`: diagnose, and set `alpha_m = tanh(lam * |P_T - P_V|)`."""
        refuse_flattened(model, "the model")
        with buffers_of_first(model):
            diagnosis, classes = self._diagnosed(model, train_loader, val_loader)
        selected = self._selected()
        alphas = agreed(strengths_of(diagnosis, self.lam, self.choices, self._sharing.values(), selected))
        if any(alphas.values()) and not self._warned:
            self._warned = warn_of_few(diagnosis, classes)
        each = (selected if self._by_layer else {}).items()
        layers = {m: layer_strengths(alphas[m], n, self._inside[m], n, self.choices) for m, n in each}
        return PlannedRelearning(diagnosis.applied(alphas), selected, layers)

    def _diagnosed(self, model: nn.Module, *loaders: Iterable[Any]) -> tuple[Diagnosis, int]:
        train, val = (
            collect_features(self.encoders, model, loader, reader=self.reader, pool=self.pool, in_blocks=True)
            for loader in loaders
        )
        self.samples_forwarded += len(train.target) + len(val.target)
        train, val = train.labelled(), val.labelled()
        self._log.measured(train, val)
        kind = "" if "metric" in self._named else kind_of(train.target, val.target)
        usual = usual_options(kind, self._named)
        options = replace(self.diagnosis, **usual) if usual else self.diagnosis
        classes = len(torch.unique(train.target))
        return diagnose_captured(options, *through_heads(self._heads, train, val)), classes

    def _selected(self) -> dict[str, list[str]]:
        """Return the parameters that are re-learnt, by modality; none where all are frozen now."""
        found = {}
        for name, encoder in self._inside.items():
            refuse_merged(encoder, f"the encoder of {name!r}")
            found[name] = select_parameters(encoder, self._selections[name])
        return found
