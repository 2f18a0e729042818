"""Comparisons as one table for a paper: LaTeX, Markdown or CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd

from equipoise.experiments.compare.across import AcrossDatasets, across_datasets
from equipoise.experiments.compare.comparison import BASELINE, Comparison
from equipoise.experiments.compare.floors import is_below
from equipoise.files.csv_cells import csv_text
from equipoise.report.paper.comparison import best_mean, difference, main_entry
from equipoise.report.paper.words import BELOW, first_record, machine, of_runs
from equipoise.report.records import comparisons_of
from equipoise.report.text.grid import Column, Entry, Grid
from equipoise.report.text.main_figure import MainFigure
from equipoise.report.text.wording import counted, decimal, listed, number, p_equals
from equipoise.types import UsageError, check_known

KINDS: Final = ("latex", "markdown", "csv")
ALPHA: Final = 0.05
SURE: Final = "*"
"""Marks a difference whose corrected p-value is below `ALPHA`."""


def paper_table(folders: Sequence[Path], kind: str) -> str:
    """Return a table of the methods of comparisons, of a grid, or of runs, with a column group for each.

    Means and standard deviations over seeds, paired differences to joint with intervals and marks of
    significance, the best in bold where methods may be ranked; several datasets also give mean ranks. The
    caption states seeds, splits and selection. CSV holds the numbers alone, a row a dataset and method.

    Args:
        folders: as of `write_report`.
        kind: one of `KINDS`. LaTeX needs the package booktabs.

    Raises:
        UnknownNameError: no such kind.
        RunFolderError, PathError, UsageError: see `comparisons_of`.
    """
    check_known("kind of table", [kind], KINDS)
    found = comparisons_of(folders)
    if kind == "csv":
        return csv_text(frame(found))
    across = _across(found)
    grid, said = _grid(found, across), caption(found, across)
    if kind == "latex":
        return grid.latex(" ".join(said), conditions(found))
    notes = "\n".join(f"- {line}" for line in conditions(found))
    return f"{grid.markdown()}\n{' '.join(said)}\n\n{notes}\n"


def frame(found: Mapping[str, Comparison]) -> pd.DataFrame:
    """Return the numbers of a table, a row a dataset and method."""
    rows = []
    for title, comparison in found.items():
        for method, values in comparison.table().iterrows():
            own = comparison.summary["methods"][method]
            row = {"dataset": title, "method": method, **{str(k): v for k, v in values.items()}}
            rows.append(row | {"macro_f1": own.get("macro_f1_mean"), "significant": _is_sure(own)})
    return pd.DataFrame(rows)


def _grid(found: Mapping[str, Comparison], across: AcrossDatasets | str) -> Grid:
    columns = []
    for title, comparison in found.items():
        methods: Mapping[str, Mapping[str, Any]] = comparison.summary["methods"]
        held: dict[str, Callable[[Mapping[str, Any]], Entry]] = {
            MainFigure.of(comparison.summary).name: partial(main_entry, best=best_mean(comparison)),
            f"vs {BASELINE} [95 %]": _difference,
        }
        columns += [
            Column(title, head, {method: cell(values) for method, values in methods.items()})
            for head, cell in held.items()
        ]
    if isinstance(across, AcrossDatasets):
        ranks = {method: Entry(decimal(rank, 1)) for method, rank in across.mean_ranks.items()}
        columns.append(Column("all", "mean rank", ranks))
    return Grid(list(dict.fromkeys(row for column in columns for row in column.entries)), columns)


def _difference(values: Mapping[str, Any]) -> Entry:
    block = values.get(f"difference_to_{BASELINE}")
    if not block:
        return Entry()
    text = difference(*(number(block[key]) for key in ("mean", "low", "high")))
    return Entry(text + SURE if _is_sure(values) else text)


def _is_sure(values: Mapping[str, Any]) -> bool:
    block = values.get(f"difference_to_{BASELINE}") or {}
    return number(block.get("p_value_holm")) < ALPHA


def _across(found: Mapping[str, Comparison]) -> AcrossDatasets | str:
    """Return the mean ranks over several datasets, or why there are none."""
    try:
        return across_datasets(list(found.values()))
    except UsageError as error:
        return str(error).partition(";")[0]


def caption(found: Mapping[str, Comparison], across: AcrossDatasets | str) -> list[str]:
    """Return the sentences of a caption: what is shown, over which seeds and splits, by which selection."""
    figures = list(dict.fromkeys(MainFigure.of(one.summary).title for one in found.values()))
    lines = [f"{listed(figures)} on the test split: mean \N{PLUS-MINUS SIGN} standard deviation over seeds."]
    lines += _drawn(found)
    lines.append(
        "The weights of the epoch that is best on validation are kept, and the test split is opened once a "
        "run."
    )
    every = [values for one in found.values() for values in one.summary["methods"].values()]
    if any(values.get(f"difference_to_{BASELINE}") for values in every):
        lines.append(
            f"Differences to {BASELINE} are paired by seed, with Student's 95 % intervals; {SURE} marks p < "
            f"{ALPHA} after Holm's correction over the methods."
        )
    if any(one.ranked for one in found.values()):
        lines.append("Bold: the best mean.")
    for title, one in found.items():
        if not one.ranked:
            why = "; ".join(one.summary["not_ranked_because"]) or "the runs are not of one comparison"
            lines.append(f"Nothing is ranked on {title}: {why}.")
    if any(is_below(values) for values in every):
        lines.append(f"{BELOW} does not beat a linear model on its own inputs.")
    lines += [line for title, one in found.items() for line in _own(title, one, len(found) > 1)]
    if isinstance(across, AcrossDatasets):
        lines.append(
            f"Mean ranks are over {counted(len(across.datasets), 'dataset')}, 1 being the best ("
            f"{p_equals('Friedman', across.friedman_p)}; by Nemenyi's test two methods differ if their mean "
            f"ranks do by {across.critical_difference:.1f})."
        )
    elif len(found) > 1 and all(one.ranked for one in found.values()):
        lines.append(f"Mean ranks are left out: {across}.")
    return lines


def _drawn(found: Mapping[str, Comparison]) -> list[str]:
    """Say over which seeds and splits; datasets with the same share a sentence."""
    held: dict[str, list[str]] = {}
    for title, one in found.items():
        seeds = one.summary["seeds"]
        drawn = one.results["split_fingerprint"].dropna().nunique()
        splits = "the same splits for all seeds" if drawn <= 1 else "splits drawn anew for each seed"
        text = f"{counted(len(seeds), 'seed')} ({_ranges(seeds)}), {splits}"
        held.setdefault(text if len(seeds) > 1 else text.partition(",")[0], []).append(title)
    if len(held) == 1:
        return [f"{next(iter(held))}."]
    return [f"{listed(titles)}: {text}." for text, titles in held.items()]


def _ranges(seeds: Sequence[int]) -> str:
    """Write seeds in short: `0 to 9`, or `0, 2, 5`."""
    together = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if together else ", ".join(map(str, seeds))


def _own(title: str, one: Comparison, several: bool) -> list[str]:
    """Return what must be said of one dataset: failed runs, and options that were tuned."""
    where, lines = f" on {title}" if several else "", []
    failed = one.results.loc[one.results["status"] != "ok", "method"].value_counts()
    for method, count in failed.items():
        lines.append(f"{counted(int(count), 'run')} of {method}{where} failed, so it has no rank.")
    if tuning := one.summary.get("tuning"):
        lines.append(
            f"Options of {listed(list(tuning['methods']))}{where} were tuned on validation, with "
            f"{counted(tuning['trials'], 'trial')} each and other seeds."
        )
    return lines


def conditions(found: Mapping[str, Comparison]) -> list[str]:
    """Return how the runs were made, for each dataset: model, budget, fingerprints, versions."""
    lines, machines = [], []
    for title, one in found.items():
        if record := first_record(one):
            result = record.result()
            lines.append(f"{title}: {of_runs(one, result, record.options())}")
            machines.append(machine(result["environment"]))
    return [*lines, *(f"Versions and machine: {text}." for text in dict.fromkeys(machines))]
