"""A finished run whose model is used, with what turns new samples into its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.diagnosis import collect_features
from equipoise.diagnosis.features.capture import encoders_of
from equipoise.models import BalancedModel
from equipoise.tasks import CLASSIFICATION, Task, task_named
from equipoise.threads import cpu_threads
from equipoise.training.assembly import prepare_data
from equipoise.training.measuring.mean_features import MeanFeatures
from equipoise.training.option_text import recorded_settings
from equipoise.training.record import fingerprints
from equipoise.training.record.inputs import RunInputs, read_inputs
from equipoise.training.record.record import CONFIG, INPUTS, RunRecord
from equipoise.training.settings import Settings
from equipoise.types import DataError, EquipoiseError, ModelError, RunFolderError, warn


@dataclass(frozen=True)
class UsedRun:
    """A finished run.

    Attributes:
        record: its record; None of a model that was passed on without it.
        model: its model.
        summary: its result.
        settings: its settings.
        inputs: what turns samples into inputs.
    """

    record: RunRecord | None
    model: BalancedModel
    summary: Mapping[str, Any]
    settings: Settings
    inputs: RunInputs

    @classmethod
    def of(cls, record: RunRecord, model: BalancedModel, summary: Mapping[str, Any]) -> UsedRun:
        """Read what is needed; where an earlier version kept no inputs, its data are read.

        Raises:
            RunFolderError: a file is damaged, or there are neither inputs nor data.
        """
        settings = recorded_settings(record.options(), record.path(CONFIG))
        inputs = read_inputs(record) or _inputs_of_data(record, model, summary, settings)
        return cls(record, model, summary, settings, inputs)

    @property
    def task(self) -> Task:
        """The kind of its target."""
        return task_named(self.summary.get("task", CLASSIFICATION.name))

    @property
    def target_scale(self) -> tuple[float, float]:
        """Mean and deviation by which a numeric target is standardised."""
        mean, deviation = self.summary.get("target_scale", (0.0, 1.0))
        return float(mean), float(deviation)


def _inputs_of_data(
    record: RunRecord, model: BalancedModel, summary: Mapping[str, Any], settings: Settings
) -> RunInputs:
    """Measure the inputs on the data of a run that has not kept them."""
    try:
        _, data = prepare_data(settings)
        found = fingerprints.of_data(data)
        if changed := [key for key, value in found.items() if summary[key] != value]:
            raise DataError(f"they have changed since, {', '.join(changed)} differ")
    except EquipoiseError as error:
        raise RunFolderError(
            f"{record.folder} has no {INPUTS}, so its training data are needed to normalise new samples, and "
            f"they cannot be used ({str(error).rstrip('.')}); restore them, or train again with this version."
        ) from error
    features = MeanFeatures()
    try:
        with cpu_threads(model, settings.threads):
            collect_features(encoders_of(model), model, data.train_eval, reader=features.reader)
    except (DataError, ModelError) as error:
        warn(f"the mean features of the encoders are unknown, and with them contributions: {error}")
        return RunInputs.of(data, {})
    return RunInputs.of(data, features.means())
