"""`equipoise compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from equipoise.cli.arguments import DEFAULT_DATA, SomeWords, Whole, Words, free_folder, with_settings
from equipoise.cli.progress import new_start
from equipoise.cli.tables import output_console, print_plain, progress_console
from equipoise.cli.views.grid_view import GridView

Numbers = Annotated[list[Whole], Parameter(consume_multiple=(1, None))]


@with_settings(without=("data", "method", "method_options", "seed"))
def compare_command(
    *,
    data: SomeWords | None = None,
    methods: SomeWords | None = None,
    seeds: Numbers | None = None,
    first_seed: Whole = 0,
    out: Path | None = None,
    tuned: Path | None = None,
    set_: Annotated[Words | None, Parameter(name="--set")] = None,
    vary: SomeWords | None = None,
    resume: bool = False,
    overwrite: bool = False,
    rank_anyway: bool = False,
    executor: str = "local",
    workers: Whole | None = None,
    side_by_side: Whole = 1,
    report_every: Whole | None = None,
    config: Path | None = None,
    chosen: Mapping[str, Any],
) -> int:
    """Compare methods under equal conditions, on one dataset or in a grid of several datasets or settings.

    All runs of a seed share splits, initial weights, batch order and budget. Weights are selected on
    validation, and the test split is opened once in each run, at its end. A grid has a folder for each
    combination of what varies, a comparison of its own, with a table (grid.csv) and a report over all.

    Args:
        data: name of a dataset (`equipoise list datasets`), or folder of a prepared one. Several make a
            grid. Default: htad, or with `--tuned` the data of the tuning.
        methods: names (`equipoise list methods`); `unimodal` means each modality alone, `references` the
            runs that every method should be compared with, `all` every method that can train the model,
            `a+b` two methods in one run. Default: references diagnose-relearn, or with `--tuned` the methods
            that were tuned.
        seeds: one number N for N seeds from the first one on, or several seeds. Default: 5.
        first_seed: the first seed, where one number was given.
        out: output folder. Default: a new folder under runs/.
        tuned: folder of `equipoise tune`, whose winning settings the methods take, on its data and its other
            settings; the seeds must be others.
        set_: options of methods, as METHOD.OPTION=VALUE; they apply in combinations too.
        vary: settings or options of methods with their values, as NAME=VALUE,VALUE, such as `lr=0.01,0.1`
            or `diagnose-relearn.lam=1,3`.
        resume: keep the finished runs in the folder, continue the others, and repeat those that failed.
        overwrite: replace the comparison in the folder.
        rank_anyway: rank even if joint does not beat a linear model on its own inputs.
        executor: `local`, processes of this machine, or `ray`, a cluster.
        workers: runs at a time. Default: one for each core, one in all with a GPU, or as many as the
            Ray cluster has room for.
        side_by_side: seeds of a method that a worker trains in common steps, where that changes no number
            of any run: small models of vectors, and most methods.
        report_every: write the report whenever that many runs have ended, and not only at the end.
        config: YAML file with options by name; those given here win.
        chosen: the settings that were given, which all runs share.
    """
    from equipoise.api import cells_to_compare, grid_and_reports
    from equipoise.cli.views.comparison_table import print_comparison, print_grid
    from equipoise.experiments.compare.comparison import REPORT
    from equipoise.experiments.grid.planning import seeds_of
    from equipoise.training.option_text import nested, parse_assignments, parse_varied, to_keywords

    cells = cells_to_compare(
        data or ([] if tuned is not None else [DEFAULT_DATA]),
        to_keywords(chosen),
        methods,
        seeds_of(seeds or [5], first_seed),
        nested(parse_assignments(set_ or [], "set"), "set", "METHOD.OPTION"),
        parse_varied(vary or []),
        tuned=tuned,
        rank_anyway=rank_anyway,
    )
    grid = [cell.name for cell in cells] != [""]
    named = dict.fromkeys(Path(cell.settings.data).name for cell in cells)
    name = f"{'grid' if grid else 'compare'}-{'-'.join(named)}"
    folder = out or free_folder(name, reuse=resume or overwrite)
    progress = progress_console()
    with GridView(progress, new_start(folder) if resume else None) as view:
        found = grid_and_reports(
            cells,
            folder,
            executor=executor,
            workers=workers,
            side_by_side=side_by_side,
            report_every=report_every,
            resume=resume,
            overwrite=overwrite,
            observer=view,
        )
    console = output_console()
    if grid:
        print_grid(console, found)
    else:
        print_comparison(console, found[""])
    failed = sum(comparison.failed for comparison in found.values())
    for name, comparison in found.items():
        for row in comparison.results[comparison.results["status"] != "ok"].to_dict("records"):
            where = f"{name}, " if name else ""
            print_plain(progress, f"{where}{row['method']}, seed {row['seed']}: {row['status']}")
    if failed:
        print_plain(progress, f"{failed} {'runs' if failed > 1 else 'run'} failed; --resume repeats them.")
    print_plain(console, f"\n{folder / REPORT}")
    return 1 if failed else 0
