"""The page of a diagnosis."""

from __future__ import annotations

import math

from equipoise.diagnosis import Diagnosis, LearningState
from equipoise.diagnosis.options import METRICS
from equipoise.report.charts.states import states
from equipoise.report.pages.page import Fold, Page
from equipoise.report.text import tables
from equipoise.report.text.sentences import Statement
from equipoise.report.text.tables import Cell, Table, amount
from equipoise.report.text.wording import MISSING, counted, decimal


def diagnosis_page(diagnosis: Diagnosis, source: str) -> Page:
    """Return the page of a diagnosis.

    Args:
        diagnosis: the learning states.
        source: what was diagnosed: a run folder or a file.
    """
    measure = diagnosis.options.metric
    chart = states(diagnosis)
    texts = [
        f"{measure}: {METRICS.get(measure, 'a measure of separability')}.",
        "The gap is training minus validation. By chance alone it differs from zero, the more so on "
        "small splits.",
        "The strength is that of the re-learning that was applied, else what tanh(3 * gap) would ask for: 0 "
        "leaves an encoder as it is, 1 restores its initial weights.",
    ]
    options = tables.options(diagnosis.options.to_dict(), "Options of the diagnosis.")
    return Page(
        kind="diagnosis",
        title=f"Learning state of {counted(len(diagnosis), 'modality').replace('modalitys', 'modalities')}",
        facts=[source, f"measured by {measure}"],
        statements=[_largest(diagnosis)] if len(diagnosis) else [],
        tables=[states_table(diagnosis)],
        charts=[chart] if chart else [],
        folds=[Fold("How to read the numbers", texts), Fold("Options", tables=[options])],
    )


def _largest(diagnosis: Diagnosis) -> Statement:
    gaps = {name: state.train_score - state.val_score for name, state in diagnosis.items()}
    finite = {name: gap for name, gap in gaps.items() if math.isfinite(gap)}
    if not finite:
        return Statement("Over-training", "Not measured.", "No score is a finite number.")
    name = max(finite, key=lambda key: finite[key])
    state, measure = diagnosis[name], diagnosis.options.metric
    train, val = decimal(state.train_score, 3), decimal(state.val_score, 3)
    text = (
        f"The {measure} of {name} is {train} on training and {val} "
        f"on validation features: a gap of {decimal(finite[name], 3)}{certainty(state)}"
    )
    if finite[name] <= 0:
        return Statement("Over-training", "No modality is over-trained.", text)
    verdict = f"{name} has the largest gap." if len(diagnosis) > 1 else f"{name} has a gap."
    return Statement("Over-training", verdict, text)


def certainty(state: LearningState) -> str:
    """Say what the interval of a gap tells, as the end of a sentence."""
    if state.interval is None:
        return "; how much of it is chance was not measured (bootstrap 0)."
    low, high = state.interval
    includes = low <= 0 <= high
    return f" (95 % interval {decimal(low, 3)} to {decimal(high, 3)}); the interval " + (
        "includes zero, so it may be chance." if includes else "excludes zero."
    )


def states_table(diagnosis: Diagnosis) -> Table:
    """Return the learning states as a table."""
    measure, rows = diagnosis.options.metric, []
    for name, state in diagnosis.items():
        gap = state.train_score - state.val_score
        strength = _strength(state)
        interval = [decimal(end, 3) for end in state.interval or ()]
        rows.append(
            [
                Cell(name),
                amount(state.train_score, decimal(state.train_score, 3)),
                amount(state.val_score, decimal(state.val_score, 3)),
                amount(gap, decimal(gap, 3)),
                Cell(" to ".join(interval) or MISSING),
                amount(strength, decimal(strength, 3)),
                amount(state.n_train, f"{state.n_train:,}"),
                amount(state.n_val, f"{state.n_val:,}"),
            ]
        )
    head = ["modality", f"training {measure}", f"validation {measure}", "gap", "95 % interval", "strength"]
    return Table("Learning state by modality.", [*head, "training samples", "validation samples"], rows)


def _strength(state: LearningState) -> float:
    if state.applied is not None:
        return state.applied
    return state.strength() if math.isfinite(state.gap) else math.nan
