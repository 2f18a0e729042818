"""The tables behind the table of results: all tests of the differences to joint, and all costs."""

from __future__ import annotations

from equipoise.report.text.evidence import Evidence
from equipoise.report.text.tables import MEGABYTE, Cell, Table, amount, few_seeds, interval
from equipoise.report.text.wording import decimal, number, p_value

TESTS = ("p_value", "p_value_holm", "wilcoxon_p", "wilcoxon_p_holm")
COSTS = {"forward_samples": 0, "backward_samples": 0, "train_seconds": 1, "method_seconds": 1}
"""Costs with their decimals."""


def differences(evidence: Evidence) -> Table | None:
    """Return each method's difference to joint with both intervals and both tests; None without any."""
    figure, rows = evidence.figure, []
    for method in evidence.by_mean():
        if not (held := evidence.difference(method)):
            continue
        mean, n = number(held.get("mean")), number(held.get("n"))
        ends = [number(held.get(key)) for key in ("low", "high", "bootstrap_low", "bootstrap_high")]
        rows.append(
            [
                Cell(method),
                amount(n, f"{n:.0f}"),
                amount(mean, figure.difference(mean)),
                Cell(interval(ends[0], ends[1], figure)),
                Cell(interval(ends[2], ends[3], figure)),
                *(amount(held.get(key), p_value(number(held.get(key)))) for key in TESTS),
            ]
        )
    if not rows:
        return None
    head = ["method", "seeds", "difference to joint", "Student's 95 % interval", "bootstrap 95 % interval"]
    head += ["p of the t-test", "the same, Holm", "p of Wilcoxon's test", "the same, Holm"]
    unit = ", in percentage points" if figure.is_share else f" of {figure.name}"
    caption = f"Paired differences over the seeds that both methods finished{unit}."
    return Table(f"{caption}{few_seeds(evidence)}", head, rows)


def costs(evidence: Evidence) -> Table:
    """Return what each method cost, as the mean of a run."""
    rows = []
    for method in evidence.by_mean():
        values = evidence.methods[method]
        # Summaries of earlier versions hold these two alone.
        known = {"train_seconds": values.get("train_seconds_mean")}
        known["forward_samples"] = values.get("forward_samples_mean")
        held = {key: number(value) for key, value in (known | (values.get("cost") or {})).items()}
        cells = [
            amount(held.get(key), decimal(number(held.get(key)), digits)) for key, digits in COSTS.items()
        ]
        memory = number(held.get("peak_memory_bytes")) / MEGABYTE
        rows.append([Cell(method), *cells, amount(memory, decimal(memory, 1))])
    head = [
        "method",
        "samples forward",
        "samples backward",
        "seconds of training",
        "of them the method's own",
    ]
    return Table("Means of a run over the seeds.", [*head, "peak memory, MB"], rows)
