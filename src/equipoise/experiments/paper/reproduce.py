"""Reproduce a table or figure of the paper: prepare its sets, run its comparisons, measure what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.grid.grid import Observer, run_grid
from equipoise.experiments.paper.item import Item
from equipoise.experiments.paper.measured import Cloud, Quality, clouds_of, quality_of
from equipoise.experiments.paper.plan import Choices, PlannedCase, plan
from equipoise.experiments.paper.sets import Sources
from equipoise.types import TrainingError

SETS: Final = "sets"
"""Folder of the sets that a reproduction prepares, within its output."""


@dataclass(frozen=True)
class Reproduction:
    """What was run for a table or figure.

    Attributes:
        item: what was declared.
        choices: how it was reproduced.
        stand_in: whether other sets stand in for those of the paper.
        cases: in order.
        comparisons: name of a cell to its comparison.
        quality: name of a cell to the quality of its encoders, for a figure of it.
        clouds: name of a cell to its features in the plane, for a figure of them.
    """

    item: Item
    choices: Choices
    stand_in: bool
    cases: Sequence[PlannedCase] = ()
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    quality: Mapping[str, Quality] = field(default_factory=dict)
    clouds: Mapping[str, Sequence[Cloud]] = field(default_factory=dict)

    @property
    def sets(self) -> list[str]:
        """Titles of the sets that were used."""
        return list(dict.fromkeys(planned.data for planned in self.cases))

    @property
    def failed(self) -> int:
        """Number of runs that did not finish."""
        return sum(comparison.failed for comparison in self.comparisons.values())


def reproduce(
    item: Item,
    choices: Choices,
    sources: Sources | None,
    out: Path,
    *,
    executor: str = "local",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Reproduction:
    """Run what an item shows; its runs are kept in `OUT/NAME`, a folder for each comparison.

    `sources` is None for an item without runs. For the other arguments see `equipoise.compare`.

    Raises:
        UsageError, DataError, RunFolderError: before the first run, if data, options or folder are wrong.
    """
    if sources is None:
        return Reproduction(item, choices, stand_in=False)
    cases = plan(item, choices, sources)
    cells: list[Cell] = [cell for case in cases for cell in (case.cell, case.augmented) if cell is not None]
    comparisons = run_grid(
        cells,
        out / (item.runs_of or item.name),
        executor=executor,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
        observer=observer,
    )
    return Reproduction(item, choices, sources.stand_in, cases, comparisons)


def measured(found: Reproduction) -> Reproduction:
    """Add what the form of an item shows beyond the records of the runs; see `quality_of`, `clouds_of`.

    Raises:
        TrainingError: no run of a case finished.
    """
    kept = {case.cell.name: found.comparisons[case.cell.name] for case in found.cases}
    for name, one in kept.items():
        if one.failed == len(one.results) and found.item.form != "ablation":  # whose others are shown
            raise TrainingError(f"no run of {name} finished; the first one {one.results['status'].iloc[0]}")
    quality = {name: quality_of(one) for name, one in kept.items()} if found.item.form == "quality" else {}
    clouds = {name: clouds_of(one) for name, one in kept.items()} if found.item.form == "features" else {}
    return replace(found, quality=quality, clouds=clouds)
