"""What `import equipoise as eq` offers beyond the pieces themselves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from equipoise.experiments.compare.comparison import REPORT, Comparison
from equipoise.experiments.compare.tuned import read_tuned
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.grid.current import CurrentReports
from equipoise.experiments.grid.grid import run_grid
from equipoise.experiments.grid.planning import DEFAULT_METHODS, GROUPS, checked_seeds, seeds_of
from equipoise.experiments.grid.tuned_cell import refuse_grid, tuned_cell
from equipoise.experiments.grid.vary import cells_of, grid_table, write_grid
from equipoise.keywords import CompareKeywords
from equipoise.methods import base_names
from equipoise.methods.core.creation import option_names
from equipoise.report import write_comparison_report, write_grid_report
from equipoise.training.settings import SETTING_NAMES, Settings, data_name
from equipoise.typed_options import check_keywords, plain


def compare(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    methods: str | Sequence[str] | None = None,
    *,
    seeds: int | Iterable[int] = 5,
    out: str | os.PathLike[str] | None = None,
    tuned: str | os.PathLike[str] | None = None,
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    executor: str = "local",
    workers: int | None = None,
    side_by_side: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    rank_anyway: bool = False,
    report_every: int | None = None,
    **options: Unpack[CompareKeywords],
) -> pd.DataFrame:
    """Compare methods on a dataset under equal conditions, or in a grid of several datasets or settings.

    Writes `results.csv`, `summary.json`, `report.html` and a folder for each run. A grid is one such
    comparison for each combination of values, in a folder of its own, with `grid.csv` and `report.html` over
    all of them.

    Args:
        data: name of a dataset, or folder of a prepared one; or several. With `tuned` it may be left out.
        methods: names; `unimodal` means each modality alone, `references` the runs that every method
            should be compared with (joint, unimodal, ensemble, multi-loss, pretrained), `all` every method
            that can train the model, `a+b` two methods in one run. By default the references and
            diagnose-relearn; with `tuned` the methods that were tuned.
        seeds: the seeds, or their number (0, 1, ...).
        out: output folder; by default a new temporary one.
        tuned: folder of `equipoise.tune`, whose winning settings the methods take, on its data and its other
            settings; the seeds must be others.
        method_options: options by method: `{"diagnose-relearn": {"lam": 5.0}}`.
        vary: settings that vary, and options of methods as `method.option`, each with its values:
            `{"lr": [0.01, 0.1], "diagnose-relearn.lam": [1, 3]}`.
        executor: `local`, processes of this machine, or `ray`, a cluster.
        workers: runs at a time; by default one for each core, or as many as the Ray cluster has room for.
        side_by_side: seeds of a method that a worker trains in common steps, where that changes no number
            of any run: small models of vectors, and most methods (`docs/grids.md`).
        resume: keep the finished runs in `out` and continue interrupted ones.
        overwrite: replace the comparison in `out`.
        rank_anyway: rank even if joint does not beat a linear model on its own inputs (`docs/fairness.md`).
        report_every: write `report.html` whenever that many runs have ended, and not only at the end.
        **options: fields of `Settings` and `Budget`: `epochs=30`, `lr=0.01`, `fusion="sum"`.

    Returns:
        One row per method: `mean`, `std`, `n`, the paired `difference` to joint with `low` and `high` of its
        95 % interval and `p_value`, `rank` (where ranking is fair), `train_seconds`, `forward_samples`,
        `floor` (validation score of a linear model on the same inputs) and `below_floor`. The folder is in
        `.attrs["out"]`, the reasons against a ranking in `.attrs["not_ranked_because"]`. Of a grid it has one
        row per cell and method, with the columns of what varies, and these reasons by cell.

    Raises:
        EquipoiseError: its type says whether the call, the data or the folder is wrong.
    """
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="equipoise-")) / "comparison"
    methods = [methods] if isinstance(methods, str) else methods
    own = {
        name: f"method_options={{{base!r}: {{{name!r}: ...}}}}"
        for method in methods or ()
        if method not in GROUPS
        for base in base_names(method)
        for name in option_names(base)
    }
    check_keywords(compare, options, SETTING_NAMES - {"data", "method", "seed"}, own)
    datasets: Sequence[Any] = data if isinstance(data, Sequence) and not isinstance(data, str) else [data]
    if data is None and tuned is not None:
        datasets = []
    cells = cells_to_compare(
        [data_name(one) for one in datasets],
        options,
        methods,
        seeds if isinstance(seeds, Iterable) else seeds_of(checked_seeds([seeds])),
        method_options,
        vary,
        tuned=None if tuned is None else Path(tuned),
        rank_anyway=rank_anyway,
    )
    found = grid_and_reports(
        cells,
        folder,
        executor=executor,
        workers=workers,
        side_by_side=side_by_side,
        resume=resume,
        overwrite=overwrite,
        report_every=report_every,
    )
    why = {name: comparison.summary["not_ranked_because"] for name, comparison in found.items()}
    grid = list(found) != [""]
    table = grid_table(cells, found).set_index(["cell", "method"]) if grid else found[""].table()
    table.attrs |= {"out": str(folder), "not_ranked_because": why if grid else why[""]}
    return table


def cells_to_compare(
    data: Sequence[str],
    options: Mapping[str, Any],
    methods: Sequence[str] | None,
    seeds: Iterable[int],
    method_options: Mapping[str, Mapping[str, Any]] | None,
    vary: Mapping[str, Sequence[Any]] | None,
    *,
    tuned: Path | None,
    rank_anyway: bool,
) -> list[Cell]:
    """Return the comparisons that are asked for; see `compare`, and `cells_of` for the arguments."""
    if tuned is None:
        chosen = DEFAULT_METHODS if methods is None else methods
        return cells_of(data, options, chosen, seeds, method_options, vary, rank_anyway=rank_anyway)
    refuse_grid(data, vary)
    given = {**options, "data": data[0]} if data else options
    found = read_tuned(tuned)
    return [tuned_cell(found, given, methods or (), seeds, method_options, rank_anyway=rank_anyway)]


def tune(
    data: str | os.PathLike[str],
    methods: str | Sequence[str] = DEFAULT_METHODS,
    *,
    trials: int = 20,
    seed: int | Iterable[int] = 1000,
    out: str | os.PathLike[str] | None = None,
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    storage: str | None = None,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **options: Unpack[CompareKeywords],
) -> pd.DataFrame:
    """Tune methods on the validation split, each with the same number of trials and epochs.

    A trial trains a method with other settings: learning rate, weight decay, and the options in its search
    space. The first one has the defaults. No trial opens the test split. `equipoise.compare(tuned=out)`
    compares the winners with other seeds.

    Args:
        data: name of a dataset, or folder of a prepared one.
        methods: as in `compare`; methods on whose runs others build are tuned, too.
        trials: number of trials of each method, the defaults and those that are stopped early included.
        seed: seed of the runs, or several, over which a trial takes the mean. No comparison may use them.
        out: output folder; by default a new temporary one.
        method_options: options by method, which are then not searched.
        storage: URL of a database of Optuna for the trials, for several machines that work on the same ones;
            by default the file `trials.db` in `out`.
        workers: trials at a time, at most one of each method; by default one for each core.
        resume: keep the trials in `out`, and compute the others.
        overwrite: replace the tuning in `out`.
        **options: fields of `Settings` and `Budget`. Around `lr` and `weight_decay` others are searched.

    Returns:
        One row per method: trials `finished`, `pruned` and `failed`; the validation figure of the `default`
        settings and of the `best` ones; the winner's `lr`, `weight_decay` and `options`. The folder is in
        `.attrs["out"]`, methods without a result in `.attrs["missing"]`.

    Raises:
        MissingExtraError: Optuna is not installed.
        EquipoiseError: its type says whether the call, the data or the folder is wrong.
    """
    from equipoise.experiments.tune.tune import tune_methods  # needs the extra

    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="equipoise-")) / "tuning"
    check_keywords(tune, options, SETTING_NAMES - {"data", "method", "seed", "logger"})
    found = tune_methods(
        Settings.from_options(data_name(data), **options),
        [methods] if isinstance(methods, str) else methods,
        folder,
        trials=trials,
        seeds=seed if isinstance(seed, Iterable) else [seed],
        method_options=plain(method_options or {}),
        storage=storage,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
    )
    table = found.tuned.table()
    table.attrs |= {"out": str(folder), "missing": dict(found.missing)}
    return table


def grid_and_reports(
    cells: Sequence[Cell], out: Path, *, report_every: int | None = None, **options: Any
) -> dict[str, Comparison]:
    """Compute a grid, and write the report of each cell and the table and report over all; see `run_grid`."""

    def write_one(comparison: Comparison) -> None:
        write_comparison_report(comparison, comparison.folder / REPORT)

    reports = None if report_every is None else CurrentReports(report_every, write_one)
    found = run_grid(cells, out, reports=reports, **options)
    for comparison in found.values():
        write_one(comparison)
    if list(found) != [""]:
        write_grid(grid_table(cells, found), out)
        write_grid_report(found, out / REPORT)
    return found
