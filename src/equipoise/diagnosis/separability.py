"""Every modality by several measures of separability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import ArrayLike

from equipoise.diagnosis.diagnose import check_modalities, kind_of, split_targets, splits_of
from equipoise.diagnosis.estimate import estimate
from equipoise.diagnosis.measures.catalogue import CAP, MEASURES
from equipoise.diagnosis.measures.scores import Values
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.randomness import isolated_rng
from equipoise.threads import in_turn_or_two
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
    """Measure every modality by several measures.

    Args:
        train: modality name to training features `[N, d_m]`.
        train_labels: classes or a continuous target `[N]`, as for `diagnose`.
        val: modality name to validation features `[N_val, d_m]`.
        val_labels: classes or a continuous target `[N_val]`.
        measures: names of `METRICS`; None takes all for classes, or all for a continuous target, as the
            labels are, and leaves out those that are not defined for so few samples.
        preset: `held-out` fits on training features and scores those of either split that the fit has not
            seen; `paper` and `robust` fit each split to itself, which tells nothing of a linear probe.
        **options: changes to the preset, see `DiagnosisOptions`; `chance_correct` holds where it applies.

    Returns:
        Measure to diagnosis, in the order of `measures`. Of large splits a stratified part is scored, 5000
        samples of each unless `max_samples` says otherwise (None: as for `diagnose`); the states say of
        how many.

    Raises:
        DataError, UnknownNameError: as for `diagnose`.
    """
    check_modalities(train, val)
    asked = measures is not None
    if measures is None:
        kind = kind_of(train_labels, val_labels)
        measures = [name for name, measure in MEASURES.items() if measure.target == kind]
    chosen = {name: _options_of(name, preset, options) for name in measures}
    targets = {name: split_targets(train_labels, val_labels, each) for name, each in chosen.items()}
    with isolated_rng():
        panels = {name: _states_by_measure(name, train[name], val[name], targets, chosen) for name in train}
    found: dict[str, Diagnosis] = {}
    undefined: list[DataError] = []
    for measure, own in chosen.items():
        states = {name: panel[measure] for name, panel in panels.items()}
        measured = {name: state for name, state in states.items() if isinstance(state, LearningState)}
        undefined += [state for state in states.values() if isinstance(state, DataError)]
        if len(measured) == len(states):
            found[measure] = Diagnosis(measured, own)
    if undefined and (asked or not found):
        raise undefined[0]
    return found


def _states_by_measure(
    name: str,
    train: ArrayLike,
    val: ArrayLike,
    targets: Mapping[str, list[Values]],
    chosen: Mapping[str, DiagnosisOptions],
) -> dict[str, LearningState | DataError]:
    """Measure one modality, whose features may be let go afterwards; or say why a measure cannot."""

    def measured(measure: str) -> LearningState | DataError:
        splits = splits_of(name, train, val, targets[measure], disposable=False)
        try:
            return estimate(name, splits, chosen[measure])
        except DataError as error:  # a silhouette of single samples, say
            return error

    together = all(options.backend != "torch" for options in chosen.values())
    return dict(zip(chosen, in_turn_or_two(measured, list(chosen), together=together), strict=True))


def _options_of(measure: str, preset: str, options: Mapping[str, Any]) -> DiagnosisOptions:
    changes = {"max_samples": CAP, **options, "metric": measure}
    if measure in MEASURES and not MEASURES[measure].is_share:
        changes.pop("chance_correct", None)
    return DiagnosisOptions.preset(preset, **changes)
