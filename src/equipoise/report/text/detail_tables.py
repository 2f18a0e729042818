"""The tables that give details: tests of the differences to joint, costs, and learning states."""

from __future__ import annotations

import math

from equipoise.decimals import MISSING
from equipoise.diagnosis import Diagnosis, LearningState
from equipoise.report.text.evidence import Evidence
from equipoise.report.text.tables import MEGABYTE, Cell, Table, amount, few_seeds, rounded
from equipoise.report.text.wording import between, decimal, number, p_value

TESTS = ("p_value", "p_value_holm", "wilcoxon_p", "wilcoxon_p_holm")
COSTS = {
    "samples forward": ("forward_samples", 0),
    "samples backward": ("backward_samples", 0),
    "seconds of training": ("train_seconds", 1),
    "of them the method's own": ("method_seconds", 1),
}
"""Head of each cost, its name in a summary, and its decimals."""


def differences(evidence: Evidence) -> Table | None:
    """Return each method's difference to joint with both intervals and both tests; None without any."""
    rows, tests = [], TESTS if evidence.comparison.enough_seeds else TESTS[:2]
    for method in evidence.by_mean():
        if not (held := evidence.difference(method)):
            continue
        mean, n = number(held.get("mean")), number(held.get("n"))
        ends = [number(held.get(key)) for key in ("low", "high", "bootstrap_low", "bootstrap_high")]
        rows.append(
            [
                Cell(method),
                amount(n, f"{n:.0f}"),
                amount(mean, decimal(mean, 3, signed=True)),
                Cell(between(*ends[:2], signed=True)),
                Cell(between(*ends[2:], signed=True)),
                *(amount(held.get(key), p_value(number(held.get(key)))) for key in tests),
            ]
        )
    if not rows:
        return None
    head = ["method", "seeds", "difference to joint", "Student's 95 % interval", "bootstrap 95 % interval"]
    head += ["p of the t-test", "the same, Holm", "p of Wilcoxon's test", "the same, Holm"][: len(tests)]
    caption = f"Paired differences of {evidence.figure.name} over the seeds that both methods finished."
    return Table(f"{caption}{few_seeds(evidence)}", head, rows)


def costs(evidence: Evidence) -> Table:
    """Return what each method cost, as the mean of a run."""
    rows = []
    for method in evidence.by_mean():
        values = evidence.methods[method]
        # Summaries of earlier versions hold these two alone.
        known = {"train_seconds": values.get("train_seconds_mean")}
        known["forward_samples"] = values.get("forward_samples_mean")
        held = known | (values.get("cost") or {})
        cells = {head: rounded(held.get(key), digits) for head, (key, digits) in COSTS.items()}
        memory = rounded(number(held.get("peak_memory_bytes")) / MEGABYTE, 1)
        rows.append({"method": Cell(method), **cells, "peak memory, MB": memory})
    return Table.of("Means of a run over the seeds.", rows)


def states_table(diagnosis: Diagnosis) -> Table:
    """Return the learning states as a table."""
    measure = diagnosis.options.metric
    rows = [
        {
            "modality": Cell(name),
            f"training {measure}": rounded(state.train_score),
            f"validation {measure}": rounded(state.val_score),
            "gap": rounded(state.train_score - state.val_score),
            "95 % interval": Cell(between(*state.interval) if state.interval else MISSING),
            "strength": rounded(strength_of(state)),
            "training samples": amount(state.n_train, f"{state.n_train:,}"),
            "validation samples": amount(state.n_val, f"{state.n_val:,}"),
        }
        for name, state in diagnosis.items()
    ]
    return Table.of("Learning state by modality.", rows)


def strength_of(state: LearningState) -> float:
    """Return the strength that was applied, else the one that the gap would give; NaN without a gap."""
    if state.applied is not None:
        return state.applied
    return state.strength() if math.isfinite(state.gap) else math.nan
