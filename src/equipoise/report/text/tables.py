"""The tables of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from equipoise.experiments.compare.comparison import NOT_RANKED
from equipoise.experiments.compare.fairness import CHANGED_DATA
from equipoise.experiments.compare.significance import FEW_SEEDS, smallest_wilcoxon_p
from equipoise.report.records import Run
from equipoise.report.text.evidence import Evidence
from equipoise.report.text.learning import Reading, effects, last_diagnosis, metric
from equipoise.report.text.main_figure import MainFigure
from equipoise.report.text.wording import (
    MISSING,
    NARROW,
    TIMES,
    Spread,
    counted,
    decimal,
    number,
    p_value,
)

MEGABYTE: Final = 1e6


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the exact number behind it (None for words), and a smaller second line."""

    text: str
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows.
        columns: head of each column; the first names the rows.
        rows: cells, as many as columns.
        words: numbers of the columns, beside the first, that hold words and are set flush left.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: frozenset[int] = field(default_factory=frozenset)


def amount(value: Any, text: str) -> Cell:
    """Return a cell of a number; what is not finite shows as missing."""
    exact = number(value)
    return Cell(text, exact) if math.isfinite(exact) else Cell(MISSING)


def results(evidence: Evidence) -> Table:
    """Return the methods with accuracy, difference to joint, rank and cost, best mean first."""
    figure = evidence.figure
    head = ["method", f"test {figure.name}", "std", "seeds", "difference to joint", "95 % interval"]
    head += ["Wilcoxon p (Holm)", "rank", "forward", "backward", "seconds", "peak MB"]
    rows = [_method_row(evidence, method) for method in evidence.by_mean()]
    units = ("in per cent ", " in percentage points") if figure.is_share else ("", "")
    caption = (
        f"{figure.title} and its standard deviation {units[0]}over seeds, differences{units[1]} with "
        "Student's interval. Samples forward and backward are multiples of joint's, seconds and peak memory "
        "means of a run."
    )
    return Table(f"{caption}{few_seeds(evidence)}", head, rows)


def few_seeds(evidence: Evidence) -> str:
    """Say what tests over few seeds cannot show; nothing where there are enough."""
    seeds = len(evidence.comparison.summary["seeds"])
    if seeds >= FEW_SEEDS:
        return ""
    return (
        f" With {counted(seeds, 'seed')} no p-value of the Wilcoxon test can be below "
        f"{smallest_wilcoxon_p(seeds):g}, before any correction, and a bootstrap interval is too narrow."
    )


def _method_row(evidence: Evidence, method: str) -> list[Cell]:
    values, figure = evidence.methods[method], evidence.figure
    difference = evidence.difference(method) or {}
    mean, low, high = (number(difference.get(key)) for key in ("mean", "low", "high"))
    wilcoxon = number(difference.get("wilcoxon_p_holm"))
    rank = values.get("rank") if evidence.comparison.ranked else None
    return [
        Cell(method, note=_notes(values)),
        amount(values["mean"], figure.shown(number(values["mean"]))),
        amount(values["std"], figure.spread(number(values["std"]))),
        amount(values["n"], str(values["n"])),
        amount(mean, figure.difference(mean)),
        Cell(interval(low, high, figure)),
        amount(wilcoxon, p_value(wilcoxon)),
        Cell(MISSING if evidence.comparison.ranked else NOT_RANKED)
        if rank is None
        else amount(rank, str(rank)),
        *_costs(evidence, values),
    ]


def interval(low: float, high: float, figure: MainFigure) -> str:
    """Write an interval of differences."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"{figure.difference(low)} to {figure.difference(high)}"


def _notes(values: Mapping[str, Any]) -> str:
    """Return what must be known of a method beside its name."""
    notes = ["experimental"] if values.get("experimental") else []
    notes += ["changes its training data"] if values.get("train_data") == CHANGED_DATA else []
    notes += [f"{values['failed']} failed"] if values.get("failed") else []
    return ", ".join(notes)


def _costs(evidence: Evidence, values: Mapping[str, Any]) -> list[Cell]:
    cost = values.get("cost") or {}
    seconds = number(values.get("train_seconds_mean"))
    memory = number(cost.get("peak_memory_bytes")) / MEGABYTE
    return [
        *(_multiple(evidence, cost, key) for key in ("relative_forward", "relative_backward")),
        amount(seconds, decimal(seconds, 1)),
        amount(memory, decimal(memory, 0)),
    ]


def _multiple(evidence: Evidence, cost: Mapping[str, Any], key: str) -> Cell:
    """Return a multiple of joint's cost; between runs that are not alike it would mean nothing."""
    times = number(cost.get(key)) if evidence.comparable else math.nan
    return amount(times, f"{TIMES}{NARROW}{decimal(times)}")


def runs(evidence: Evidence) -> Table:
    """Return every run with what became of it."""
    figure, rows = evidence.figure, []
    for row in evidence.comparison.results.to_dict("records"):
        done = row["status"] == "ok"
        rows.append(
            [
                Cell(str(row["method"])),
                Cell(str(int(row["seed"])), float(row["seed"])),
                amount(row["best_epoch"], decimal(number(row["best_epoch"]), 0)),
                *(
                    amount(row[f"{split}_{figure.key}"], figure.shown(number(row[f"{split}_{figure.key}"])))
                    for split in ("val", "test")
                ),
                amount(row["train_seconds"], decimal(number(row["train_seconds"]), 1)),
                Cell("finished" if done else str(row["status"])),
            ]
        )
    head = ["method", "seed", "best epoch", f"validation {figure.name}", f"test {figure.name}"]
    head += ["seconds", "status"]
    return Table("Every run, in the order of results.csv.", head, rows, frozenset({6}))


def fingerprints(found: Sequence[Run]) -> Table:
    """Return what the runs had in common, and what not."""
    keys = ("data", "budget", "split", "init", "order")
    rows = [
        [
            Cell(run.method),
            Cell(str(run.seed), float(run.seed)),
            *(Cell(str(run.result.get(f"{k}_fingerprint", MISSING))[:12]) for k in keys),
        ]
        for run in found
        if run.finished and run.result
    ]
    head = ["method", "seed", "data", "budget", "splits", "initial weights", "order"]
    caption = (
        "Equal fingerprints mean equal content; runs of one seed must agree in every column. A method that "
        "trains nothing has no order."
    )
    return Table(caption, head, rows, frozenset({2, 3, 4, 5, 6}))


def options(values: Mapping[str, Any], caption: str) -> Table:
    """Return options with their values."""
    rows = [[Cell(str(key)), Cell(_plain(value))] for key, value in values.items()]
    return Table(caption, ["option", "value"], rows, frozenset({1}))


def environments(found: Sequence[Run]) -> Table:
    """Return machine and versions; a value that differed between runs lists all."""
    held: dict[str, list[str]] = {}
    for run in found:
        environment = dict(run.result.get("environment") or {})
        versions = environment.pop("versions", {})
        for key, value in {**environment, **versions}.items():
            if str(value) not in held.setdefault(str(key), []):
                held[str(key)].append(str(value))
    rows = [[Cell(key), Cell("; ".join(values))] for key, values in held.items()]
    return Table("Machine and versions of the runs.", ["", "value"], rows, frozenset({1}))


def learning(read: Sequence[Reading], where: str) -> Table | None:
    """Return the learning state of each modality at the last diagnosis, and what re-learning applied."""
    last, pulled = last_diagnosis(read), effects(read)
    if not last:
        return None
    rows, several = [], any(point.gap.n > 1 for point in last.values())
    for modality, point in last.items():
        gap, low, high = (decimal(v, 3) for v in (point.gap.mean, point.gap.low, point.gap.high))
        row = [Cell(modality)]
        row += [amount(spread.mean, decimal(spread.mean, 3)) for spread in (point.train, point.val)]
        row.append(amount(point.gap.mean, gap))
        if several:
            row.append(Cell(f"{low} to {high}" if point.gap.n > 1 else MISSING))
        if pulled:
            strength = pulled[modality].strength if modality in pulled else Spread.of([])
            row.append(amount(strength.mean, decimal(strength.mean, 3)))
        rows.append(row)
    name = metric(read)
    head = ["modality", f"training {name}", f"validation {name}", "gap"]
    head += ["gap over the seeds"] if several else []
    head += ["mean strength applied"] if pulled else []
    return Table(f"Learning state at the last diagnosis of {where}.", head, rows)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple):
        plain = dict(value) if isinstance(value, Mapping) else list(value)
        return str(yaml.safe_dump(plain, default_flow_style=True, width=10_000)).strip()
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
