"""Measure every modality by several measures of separability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import ArrayLike

from equipoise.diagnosis.estimate import estimate
from equipoise.diagnosis.features.arrays import check_modalities, kind_of, split_targets, splits_of
from equipoise.diagnosis.measures.catalogue import CAP, MEASURES
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.randomness import isolated_rng
from equipoise.threads import map_on_single_threads
from equipoise.types import DataError


def separability(
    train: Mapping[str, ArrayLike],
    train_labels: ArrayLike,
    val: Mapping[str, ArrayLike],
    val_labels: ArrayLike,
    measures: Iterable[str] | None = None,
    *,
    preset: str = "held-out",
    **options: Any,
) -> dict[str, Diagnosis]:
    """Measure every modality by several measures; features and targets are given as for `diagnose`.

    `measures` are names of `METRICS`; None takes all measures for this kind of target, except those that are
    undefined for so few samples. The preset `held-out` scores samples of both splits that were not used for
    fitting; `paper` and `robust` fit and score each split by itself, which makes a linear probe meaningless.
    `options` are changes to the preset, see `DiagnosisOptions`. `chance_correct` is ignored by measures to
    which it does not apply. `max_samples` is 5000 unless given.

    Returns:
        Measure to diagnosis, in the order of `measures`. The states have the numbers of samples.

    Raises:
        DataError, UnknownNameError: as for `diagnose`.
    """
    check_modalities(train, val)
    requested = measures is not None
    if measures is None:
        kind = kind_of(train_labels, val_labels)
        measures = [name for name, measure in MEASURES.items() if measure.target == kind]
    chosen = {name: _options_of(name, preset, options) for name in measures}
    targets = {name: split_targets(train_labels, val_labels, each) for name, each in chosen.items()}
    parallel = all(each.backend != "torch" for each in chosen.values())

    def states_of(modality: str) -> dict[str, LearningState | DataError]:
        """Return a state for each measure, or why it is undefined; the features are loaded once."""
        x, x_val = train[modality], val[modality]

        def measured(measure: str) -> LearningState | DataError:
            splits = splits_of(modality, x, x_val, targets[measure], disposable=False)
            try:
                return estimate(modality, splits, chosen[measure])
            except DataError as error:  # for instance a silhouette of classes with one sample each
                return error

        return dict(
            zip(chosen, map_on_single_threads(measured, list(chosen), parallel=parallel), strict=True)
        )

    with isolated_rng():
        by_modality = {name: states_of(name) for name in train}
    found: dict[str, Diagnosis] = {}
    undefined: list[DataError] = []
    for measure, own in chosen.items():
        states = {name: by_measure[measure] for name, by_measure in by_modality.items()}
        measured = {name: state for name, state in states.items() if isinstance(state, LearningState)}
        undefined += [state for state in states.values() if isinstance(state, DataError)]
        if len(measured) == len(states):
            found[measure] = Diagnosis(measured, own)
    if undefined and (requested or not found):
        raise undefined[0]
    return found


def _options_of(measure: str, preset: str, options: Mapping[str, Any]) -> DiagnosisOptions:
    changes = {"max_samples": CAP, **options, "metric": measure}
    if measure in MEASURES and not MEASURES[measure].is_share:
        changes.pop("chance_correct", None)
    return DiagnosisOptions.preset(preset, **changes)
