"""Ablations as tables: accuracies of each variant, and paired differences to joint and the default."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.compare.statistics import PairedDifference, paired_difference
from equipoise.experiments.paper.items.ablations import DEFAULT, JOINT
from equipoise.experiments.paper.plan import PlannedCase
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.report.paper.comparison import difference, spread
from equipoise.report.text.grid import Column, Entry, Grid
from equipoise.report.text.wording import decimal

BASELINES = (JOINT, DEFAULT)
NO_EFFECT = "no effect"
"""Stands for a difference of 0 with every seed: the models lack what the variant changes."""


@dataclass(frozen=True)
class Row:
    """What the runs of a variant on a set gave.

    Attributes:
        case: the variant on the set.
        test, validation: accuracies by seed.
        forward: mean number of samples passed forward in a run.
        against: label of a baseline to the paired difference, over the seeds that both finished.
    """

    case: PlannedCase
    test: pd.Series[float]
    validation: pd.Series[float]
    forward: float
    against: dict[str, PairedDifference]


def rows(found: Reproduction) -> Iterator[tuple[str, dict[str, Row]]]:
    """Yield each set with its variants by label."""
    for data in found.sets:
        own = {case.case.label: case for case in found.cases if case.data == data}
        runs = {label: _runs(found.comparisons[case.cell.name]) for label, case in own.items()}
        yield (
            data,
            {
                label: Row(
                    case,
                    runs[label]["test"],
                    runs[label]["validation"],
                    float(runs[label]["forward"].mean()),
                    {base: _paired(runs[label]["test"], runs[base]["test"]) for base in BASELINES},
                )
                for label, case in own.items()
            },
        )


def _runs(comparison: Comparison) -> pd.DataFrame:
    """Return the figures of the finished runs, by seed."""
    finished = comparison.results[comparison.results["status"] == "ok"].set_index("seed")
    main = str(comparison.summary["metric"]).removeprefix("test_")
    columns = {"test": f"test_{main}", "validation": f"val_{main}", "forward": "forward_samples"}
    return pd.DataFrame({name: finished[column].astype(float) for name, column in columns.items()})


def _paired(values: pd.Series[float], base: pd.Series[float]) -> PairedDifference:
    common = values.index.intersection(base.index)
    return paired_difference(list(values[common]), list(base[common]))


def grid(found: Reproduction) -> Grid:
    """Return the table: a row a variant, and columns for each set."""
    columns = []
    for data, variants in rows(found):
        base = variants[JOINT].forward
        held: dict[str, dict[str, Entry]] = {
            "test": {m: Entry(spread(row.test.mean(), row.test.std(ddof=1))) for m, row in variants.items()},
            "validation": {m: Entry(decimal(row.validation.mean(), 3)) for m, row in variants.items()},
        }
        for baseline in BASELINES:
            others = {m: row.against[baseline] for m, row in variants.items() if m != baseline}
            held[f"vs {baseline} [95 %]"] = {
                m: Entry(NO_EFFECT if is_none(own) else difference(own.mean, own.low, own.high))
                for m, own in others.items()
            }
        held["cost"] = {m: Entry(decimal(row.forward / base, 2)) for m, row in variants.items()}
        columns += [Column(data, head, entries) for head, entries in held.items()]
    labels = dict.fromkeys(label for column in columns for label in column.entries)
    return Grid(list(labels), columns, "variant")


def is_none(one: PairedDifference) -> bool:
    """Whether the difference is 0 with every seed."""
    return one.low == one.high == 0


def frame(found: Reproduction) -> pd.DataFrame:
    """Return the numbers of the table, one row a set and variant, for CSV."""
    lines: list[dict[str, Any]] = []
    for data, variants in rows(found):
        for label, row in variants.items():
            (method,) = row.case.cell.methods
            line: dict[str, Any] = {
                "set": data,
                "variant": label,
                "method": method,
                "options": options_of(row.case),
            }
            line |= {"n": len(row.test), "test": row.test.mean(), "test_std": row.test.std(ddof=1)}
            line |= {"validation": row.validation.mean(), "forward_samples": row.forward}
            for baseline, own in row.against.items():
                ends = {"": own.mean, "_low": own.low, "_high": own.high, "_p_value": own.p_value}
                line |= {f"vs_{baseline}{key}": value for key, value in ends.items()}
            lines.append(line)
    return pd.DataFrame(lines)


def options_of(case: PlannedCase) -> str:
    """Return the options of a variant as JSON."""
    (method,) = case.cell.methods
    return json.dumps(dict(case.cell.method_options.get(method, {})))


def variants(found: Reproduction) -> list[str]:
    """Return a line for each variant: its method and options."""
    lines = {}
    for case in found.cases:
        (method,) = case.cell.methods
        options = options_of(case)
        given = f" with `{options}`" if options != "{}" else " with its defaults"
        lines[case.case.label] = f"{case.case.label}: `{method}`{given}."
    return list(lines.values())
