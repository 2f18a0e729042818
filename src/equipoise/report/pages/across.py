"""The pages of several comparisons: over datasets with a ranking, and of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from equipoise.experiments.compare.across import FEW_DATASETS, AcrossDatasets, across_datasets
from equipoise.experiments.compare.comparison import Comparison
from equipoise.report.charts.methods import accuracy
from equipoise.report.charts.ranks import critical_difference
from equipoise.report.pages.comparison import facts_of, notices
from equipoise.report.pages.page import Drawing, Notice, Page, Section
from equipoise.report.records import runs_of
from equipoise.report.text import sentences, tables
from equipoise.report.text.evidence import Evidence
from equipoise.report.text.sentences import Statement
from equipoise.report.text.tables import Cell, Table, amount, rounded
from equipoise.report.text.wording import counted, decimal, listed, number, p_equals
from equipoise.types import UsageError

PLUS_MINUS: Final = "\N{PLUS-MINUS SIGN}"
DIAGRAM = (
    "Mean ranks, 1 being the best. A bar joins methods that Nemenyi's test does not tell apart at 5 %; joint "
    "and diagnose-relearn stand out by their colour."
)


def across_page(comparisons: Sequence[Comparison]) -> Page:
    """Return the page of several comparisons, one for each dataset.

    If the methods cannot be ranked over the datasets, the page gives the reason and shows each dataset.
    """
    names = list(dict.fromkeys(str(comparison.summary["dataset"]) for comparison in comparisons))
    methods = dict.fromkeys(name for c in comparisons for name in c.summary["methods"])
    sections = [_dataset(comparison, place) for place, comparison in enumerate(comparisons)]
    return Page(
        kind="across datasets",
        title=f"{counted(len(names), 'dataset')}: {listed(names)}",
        facts=[counted(len(methods), "method"), counted(len(comparisons), "comparison")],
        sections=[_together(comparisons), *sections],
    )


def grid_page(found: Mapping[str, Comparison]) -> Page:
    """Return the page of a grid, given the comparison of each cell by name."""
    comparisons = list(found.values())
    datasets = list(dict.fromkeys(str(comparison.summary["dataset"]) for comparison in comparisons))
    methods = dict.fromkeys(name for c in comparisons for name in c.summary["methods"])
    ranked = [_together(comparisons)] if len(datasets) == len(comparisons) > 1 else []
    cells = [_dataset(comparison, place, name) for place, (name, comparison) in enumerate(found.items())]
    return Page(
        kind="grid",
        title=f"Grid of {counted(len(found), 'comparison')} on {listed(datasets)}",
        facts=[counted(len(methods), "method")],
        tables=[_test_table(found, list(methods)), _validation_table(found, list(methods))],
        sections=[*ranked, *cells],
    )


def _test_table(found: Mapping[str, Comparison], methods: Sequence[str]) -> Table:
    return Table.of(
        "Mean of the main test figure and its standard deviation over seeds, by comparison and method. "
        "Numbers of a row were found under equal conditions, those of a column were not.",
        _by_cell(found, methods, _mean),
    )


def _validation_table(found: Mapping[str, Comparison], methods: Sequence[str]) -> Table:
    return Table.of(
        "The same on validation. Settings are to be chosen by this table; a choice by the test figure would "
        "make it useless as a test.",
        _by_cell(found, methods, lambda values: rounded(values.get("validation_mean"))),
    )


def _by_cell(
    found: Mapping[str, Comparison], methods: Sequence[str], shown: Callable[[Mapping[str, Any]], Cell]
) -> list[dict[str, Cell]]:
    return [
        {"": Cell(name), **{method: shown(held["methods"].get(method, {})) for method in methods}}
        for name, held in ((name, comparison.summary) for name, comparison in found.items())
    ]


def _mean(values: Mapping[str, Any]) -> Cell:
    mean, std = number(values.get("mean")), number(values.get("std"))
    note = f"{PLUS_MINUS} {decimal(std, 3)}" if math.isfinite(std) else ""
    return amount(mean, decimal(mean, 3), note)


def _together(comparisons: Sequence[Comparison]) -> Section:
    title = "Across datasets"
    try:
        across = across_datasets(comparisons)
    except UsageError as error:
        return Section(title, notices=[Notice(f"There is no ranking across datasets: {error}")])
    ranks = ", ".join(f"{name} {across.mean_ranks[name]:.1f}" for name in across.names)
    diagram = critical_difference(across)
    return Section(
        title,
        statements=_statements(across),
        notices=_cautions(across),
        tables=[_rank_table(across)],
        drawing=Drawing("Critical differences", DIAGRAM, f"Mean ranks: {ranks}", diagram),
    )


def _statements(across: AcrossDatasets) -> list[Statement]:
    count, datasets = len(across.names), len(across.datasets)
    test = (
        f"Over {counted(datasets, 'dataset')} and {counted(count, 'method')}, "
        f"{p_equals('Friedman test', across.friedman_p)}."
    )
    verdict = "The methods differ." if across.differ else "No difference can be claimed."
    distance = f"Two mean ranks differ where they lie {decimal(across.critical_difference, 1)} or more apart"
    if across.critical_difference > count - 1:
        distance += ", which is more than the ranks of so many methods on so few datasets can"
    elif not across.differ:
        distance += "; as the Friedman test finds no difference, single pairs must not be read as one"
    first = across.names[0]
    best = f"Its mean rank is {decimal(across.mean_ranks[first], 1)} of {count}."
    return [
        Statement("Do they differ?", verdict, test),
        Statement("By how much?", "Nemenyi's critical difference.", f"{distance}."),
        Statement("Lowest mean rank", f"{first}.", best),
    ]


def _cautions(across: AcrossDatasets) -> list[Notice]:
    found = []
    if across.few_datasets:
        number = counted(len(across.datasets), "dataset")
        text = (
            f"With {number} the tests have little power: that no difference "
            f"is found does not mean that there is none. At least {FEW_DATASETS} datasets are advisable."
        )
        found.append(Notice(text))
    if across.left_out:
        items = [f"{name}: {reason}" for name, reason in across.left_out.items()]
        found.append(Notice("These methods have no mean rank:", items))
    return found


def _rank_table(across: AcrossDatasets) -> Table:
    rows = [
        {
            "method": Cell(name, note="experimental" if name in across.experimental else ""),
            "mean rank": rounded(across.mean_ranks[name], 2),
            **{str(dataset): rounded(rank, 0 if rank.is_integer() else 1) for dataset, rank in own.items()},
        }
        for name, own in zip(across.names, across.ranks.to_dict("records"), strict=True)
    ]
    caption = (
        "Ranks by the mean of each dataset's main test figure (accuracy, where there are classes) among the "
        "methods of this table; equal ones share their mean rank."
    )
    return Table.of(caption, rows)


def _dataset(comparison: Comparison, place: int, title: str = "") -> Section:
    runs = runs_of(comparison)
    evidence = Evidence.of(comparison, runs)
    drawn = accuracy(evidence)
    return Section(
        title=title or str(comparison.summary["dataset"]),
        facts=facts_of(comparison, runs),
        statements=sentences.of_comparison(evidence),
        notices=notices(evidence, runs),
        tables=[tables.results(evidence)],
        # The name is an id of the page, and must be unique.
        charts=[replace(drawn, name=f"{drawn.name}-of-{place}")] if drawn else [],
    )
