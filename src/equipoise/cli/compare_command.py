"""`equipoise compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from equipoise.cli.arguments import SomeWords, Whole, Words, free_folder, with_settings
from equipoise.cli.progress import EpochBar, new_start
from equipoise.cli.tables import output_console, print_plain, progress_console

Numbers = Annotated[list[Whole], Parameter(consume_multiple=(1, None))]


@with_settings(without=("method", "method_options", "seed"))
def compare_command(
    *,
    methods: SomeWords | None = None,
    seeds: Numbers | None = None,
    first_seed: Whole = 0,
    out: Path | None = None,
    set_: Annotated[Words | None, Parameter(name="--set")] = None,
    resume: bool = False,
    overwrite: bool = False,
    rank_anyway: bool = False,
    executor: str = "local",
    workers: Whole | None = None,
    config: Path | None = None,
    chosen: Mapping[str, Any],
) -> int:
    """Compare methods on one dataset under equal conditions.

    All runs of a seed share splits, initial weights, batch order and budget. Weights are selected on
    validation, and the test split is opened once in each run, at its end.

    Args:
        methods: names (`equipoise list methods`); `unimodal` means each modality alone, `references` the
            runs that every method should be compared with, `all` every method that can train the model,
            `a+b` two methods in one run. Default: references diagnose-relearn.
        seeds: one number N for N seeds from the first one on, or several seeds. Default: 5.
        first_seed: the first seed, where one number was given.
        out: output folder. Default: a new folder under runs/.
        set_: options of methods, as METHOD.OPTION=VALUE; they apply in combinations too.
        resume: keep the finished runs in the folder and continue the others.
        overwrite: replace the comparison in the folder.
        rank_anyway: rank even if joint does not beat a linear model on its own inputs.
        executor: `local` or `ray`.
        workers: processes of the local executor. Default: one for each core.
        config: YAML file with options by name; those given here win.
        chosen: the settings that were given, which all runs share.
    """
    from equipoise.api import grid_and_reports
    from equipoise.cli.comparison_table import ComparisonTable
    from equipoise.experiments.compare.comparison import REPORT
    from equipoise.experiments.compare.floors import marked
    from equipoise.experiments.grid.cell import Cell
    from equipoise.experiments.grid.planning import DEFAULT_METHODS, seeds_of
    from equipoise.training.option_text import from_options, nested, parse_assignments

    settings = from_options(chosen)
    folder = out or free_folder(f"compare-{Path(chosen['data']).name}", reuse=resume or overwrite)
    options = nested(parse_assignments(set_ or [], "set"), "set", "METHOD.OPTION")
    seed_list = seeds_of(seeds or [5], first_seed)
    cell = Cell("", settings, methods or DEFAULT_METHODS, seed_list, options, rank_anyway)
    progress = progress_console()
    with EpochBar(progress, new_start(folder) if resume else None) as bar:
        (comparison,) = grid_and_reports(
            [cell],
            folder,
            executor=executor,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            observer=bar,
        ).values()
    console = output_console()
    summary = comparison.summary
    print_plain(console, f"{summary['dataset']}, {summary['model']}, {settings.budget.epochs} epochs\n")
    console.print(ComparisonTable(comparison))
    if summary["not_ranked_because"]:
        print_plain(console, f"\nnot ranked: {'; '.join(summary['not_ranked_because'])}")
    for method, figures in marked(summary["methods"]).items():
        print_plain(console, f"below its floor, a linear model on its inputs: {method}, {figures}")
    for method, reason in summary.get("left_out", {}).items():
        print_plain(console, f"left out {method}: {reason}")
    if missing := summary.get("missing_references"):
        print_plain(console, f"not compared with {', '.join(missing)} (--methods references ...)")
    failed = comparison.results[comparison.results["status"] != "ok"]
    for _, row in failed.iterrows():
        print_plain(progress, f"{row['method']}, seed {row['seed']}: {row['status']}")
    print_plain(console, f"\n{folder / REPORT}")
    return 1 if comparison.failed else 0
