"""The tables of a report."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from equipoise.decimals import MISSING
from equipoise.experiments.compare.comparison import NOT_RANKED
from equipoise.experiments.compare.fairness import CHANGED_DATA
from equipoise.experiments.compare.floors import is_below
from equipoise.experiments.compare.significance import smallest_wilcoxon_p
from equipoise.report.records import Run
from equipoise.report.text.evidence import Evidence
from equipoise.report.text.learning import Reading, effects, last_diagnosis, metric
from equipoise.report.text.wording import NARROW, TIMES, between, counted, decimal, number, p_value

MEGABYTE: Final = 1e6
WILCOXON: Final = "Wilcoxon p (Holm)"


@dataclass(frozen=True)
class Cell:
    """One cell: its text, its exact number (None for words), and a smaller second line."""

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
        words: indices of the columns, except the first, that hold words and are aligned to the left.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: frozenset[int] = field(default_factory=frozenset)

    @classmethod
    def of(cls, caption: str, rows: Sequence[Mapping[str, Cell]], words: Container[str] = ()) -> Table:
        """Return a table of rows of cells by the head of their column; `words` are heads of columns, too."""
        columns = list(rows[0]) if rows else []
        flush = frozenset(place for place, head in enumerate(columns) if head in words)
        return cls(caption, columns, [list(row.values()) for row in rows], flush)


def amount(value: Any, text: str, note: str = "") -> Cell:
    """Return a cell of a number; what is not finite shows as missing."""
    exact = number(value)
    return Cell(text, exact, note) if math.isfinite(exact) else Cell(MISSING)


def rounded(value: Any, digits: int = 3) -> Cell:
    """Return a cell of a number with so many decimals; what is not finite shows as missing."""
    return amount(value, decimal(number(value), digits))


def whole(value: Any) -> Cell:
    """Return a cell of a whole number that is a name, such as a seed: without separators."""
    return Cell(str(int(value)), float(value))


def results(evidence: Evidence) -> Table:
    """Return the methods with accuracy, difference to joint, rank and cost, best mean first."""
    figure = evidence.figure
    rows = [_method_row(evidence, method) for method in evidence.by_mean()]
    caption = (
        f"{figure.title} and its standard deviation over seeds, differences with Student's interval. "
        "Samples forward and backward are multiples of joint's, seconds and peak memory "
        "means of a run."
    )
    return Table.of(f"{caption}{few_seeds(evidence)}", rows)


def few_seeds(evidence: Evidence) -> str:
    """Say what tests over few seeds cannot show; nothing if there are enough."""
    if evidence.comparison.enough_seeds:
        return ""
    seeds = len(evidence.comparison.summary["seeds"])
    return (
        f" With {counted(seeds, 'seed')} the p-value of the Wilcoxon test is left out, as it cannot be below "
        f"{smallest_wilcoxon_p(seeds):g}, and a bootstrap interval is too narrow."
    )


def _method_row(evidence: Evidence, method: str) -> dict[str, Cell]:
    values, figure = evidence.methods[method], evidence.figure
    difference, cost = evidence.difference(method) or {}, values.get("cost") or {}
    mean, low, high = (number(difference.get(key)) for key in ("mean", "low", "high"))
    wilcoxon = number(difference.get("wilcoxon_p_holm"))
    ranked = evidence.comparison.ranked
    rank = values.get("rank") if ranked else None
    row = {
        "method": Cell(method, note=_notes(values)),
        f"test {figure.name}": rounded(values["mean"]),
        "std": rounded(values["std"]),
        "seeds": amount(values["n"], str(values["n"])),
        "difference to joint": amount(mean, decimal(mean, 3, signed=True)),
        "95 % interval": Cell(between(low, high, signed=True)),
        WILCOXON: amount(wilcoxon, p_value(wilcoxon)),
        "rank": amount(rank, str(rank)) if ranked else Cell(NOT_RANKED),
        "forward": _multiple(evidence, cost.get("relative_forward")),
        "backward": _multiple(evidence, cost.get("relative_backward")),
        "seconds": rounded(values.get("train_seconds_mean"), 1),
        "peak MB": rounded(number(cost.get("peak_memory_bytes")) / MEGABYTE, 0),
    }
    return {head: cell for head, cell in row.items() if head != WILCOXON or evidence.comparison.enough_seeds}


def _notes(values: Mapping[str, Any]) -> str:
    """Return the notes beside the name of a method."""
    notes = ["experimental"] if values.get("experimental") else []
    notes += ["below its floor"] if is_below(values) else []
    notes += ["changes its training data"] if values.get("train_data") == CHANGED_DATA else []
    notes += [f"{values['failed']} failed"] if values.get("failed") else []
    return ", ".join(notes)


def _multiple(evidence: Evidence, times: Any) -> Cell:
    """Return a multiple of joint's cost; between runs that are not alike it would mean nothing."""
    known = number(times) if evidence.comparable else math.nan
    return amount(known, f"{TIMES}{NARROW}{decimal(known)}")


def runs(evidence: Evidence) -> Table:
    """Return every run with its figures and how it ended."""
    figure = evidence.figure
    splits = {"val": f"validation {figure.name}", "test": f"test {figure.name}"}
    rows = [
        {
            "method": Cell(str(row["method"])),
            "seed": whole(row["seed"]),
            "best epoch": rounded(row["best_epoch"], 0),
            **{
                head: rounded(row[key])
                for key, head in ((f"{split}_{figure.key}", head) for split, head in splits.items())
            },
            "seconds": rounded(row["train_seconds"], 1),
            "status": Cell("finished" if row["status"] == "ok" else str(row["status"])),
        }
        for row in evidence.comparison.results.to_dict("records")
    ]
    return Table.of("Every run, in the order of results.csv.", rows, ("status",))


def floors(result: Mapping[str, Any]) -> list[Table]:
    """Return the linear models on the inputs of a run's dataset; none for records without them."""
    floor = result.get("floor")
    if not floor:
        return []
    models = {**floor["modalities"], "all modalities": floor["joint"]}
    rows = [
        {
            "linear model on": Cell(name),
            "validation score": rounded(model["score"]),
            "reads": Cell("; ".join(dict.fromkeys(model["inputs"].values()))),
        }
        for name, model in models.items()
    ]
    caption = (
        "The floor: linear models on the inputs, without an encoder, fitted to the training split in "
        f"{decimal(number(result.get('floor_seconds')), 2)} s."
    )
    return [Table.of(caption, rows, ("reads",))]


def fingerprints(found: Sequence[Run]) -> Table:
    """Return the fingerprints, which show what the runs had in common."""
    keys = {
        "data": "data",
        "budget": "budget",
        "split": "splits",
        "init": "initial weights",
        "order": "order",
    }
    rows = [
        {
            "method": Cell(run.method),
            "seed": whole(run.seed),
            **{
                head: Cell(str(run.result.get(f"{key}_fingerprint", MISSING))[:12])
                for key, head in keys.items()
            },
        }
        for run in found
        if run.finished and run.result
    ]
    caption = (
        "Equal fingerprints mean equal content; runs of one seed must agree in every column. A method that "
        "trains nothing has no order."
    )
    return Table.of(caption, rows, keys.values())


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
    rows, several, name = [], any(point.gap.n > 1 for point in last.values()), metric(read)
    for modality, point in last.items():
        row = {
            "modality": Cell(modality),
            f"training {name}": rounded(point.train.mean),
            f"validation {name}": rounded(point.val.mean),
            "gap": rounded(point.gap.mean),
        }
        if several:
            reach = between(point.gap.low, point.gap.high) if point.gap.n > 1 else MISSING
            row["gap over the seeds"] = Cell(reach)
        if pulled:
            strength = pulled[modality].strength.mean if modality in pulled else None
            row["mean strength applied"] = rounded(strength)
        rows.append(row)
    return Table.of(f"Learning state at the last diagnosis of {where}.", rows)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple):
        plain = dict(value) if isinstance(value, Mapping) else list(value)
        return str(yaml.safe_dump(plain, default_flow_style=True, width=10_000)).strip()
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
