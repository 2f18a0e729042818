"""`equipoise tune`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from equipoise.cli.arguments import SomeWords, Whole, Words, free_folder, with_settings
from equipoise.cli.progress import new_start
from equipoise.cli.tables import output_console, print_plain, progress_console
from equipoise.cli.views.tune_view import TuneView

Numbers = Annotated[list[Whole], Parameter(consume_multiple=(1, None))]


@with_settings(
    without=("method", "method_options", "seed", "trace", "diagnose_every", "checkpoint_every", "logger")
)
def tune_command(
    *,
    methods: SomeWords | None = None,
    trials: Whole = 20,
    seed: Numbers | None = None,
    out: Path | None = None,
    set_: Annotated[Words | None, Parameter(name="--set")] = None,
    storage: str | None = None,
    workers: Whole | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: Path | None = None,
    chosen: Mapping[str, Any],
) -> int:
    """Tune methods on the validation split, each with the same number of trials and epochs.

    A trial trains a method with other settings: learning rate, weight decay, and the options in its search
    space. The first one has the defaults. No trial opens the test split. `equipoise compare --tuned DIR`
    compares the winners with other seeds. `pip install 'equipoise[tune]'` installs what this needs.

    Args:
        methods: as in `equipoise compare`; methods on whose runs others build are tuned, too. Default:
            references diagnose-relearn.
        trials: number of trials of each method, the defaults and those that are stopped early included.
        seed: seed of the runs, or several, over which a trial takes the mean; no comparison may use them.
            Default: 1000.
        out: output folder. Default: a new folder under runs/.
        set_: options of methods, as METHOD.OPTION=VALUE, which are then not searched.
        storage: URL of a database of Optuna for the trials, for several machines that work on the same ones.
            Default: the file `trials.db` in the output folder.
        workers: trials at a time, at most one of each method. Default: one for each core, one in all
            with a GPU.
        resume: keep the trials in the folder, and compute the others.
        overwrite: replace the tuning in the folder.
        config: YAML file with options by name; those given here win.
        chosen: the settings that were given, which all trials share; around `lr` and `weight_decay` others
            are searched.
    """
    from equipoise.cli.views.tuning_table import print_tuning
    from equipoise.experiments.grid.planning import DEFAULT_METHODS
    from equipoise.experiments.tune.tune import SEED, tune_methods
    from equipoise.training.option_text import from_options, nested, parse_assignments

    settings = from_options(chosen)
    folder = out or free_folder(f"tune-{Path(settings.data).name}", reuse=resume or overwrite)
    progress = progress_console()
    with TuneView(progress, new_start(folder) if resume else None) as view:
        found = tune_methods(
            settings,
            methods or DEFAULT_METHODS,
            folder,
            trials=trials,
            seeds=seed or [SEED],
            method_options=nested(parse_assignments(set_ or [], "set"), "set", "METHOD.OPTION"),
            storage=storage,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            observer=view,
        )
    console = output_console()
    print_tuning(console, found.tuned)
    for method, reason in found.left_out.items():
        print_plain(console, f"left out {method}: {reason}")
    for reason in found.missing.values():
        print_plain(progress, reason)
    print_plain(console, f"\nequipoise compare --tuned {folder}")
    return 1 if found.missing else 0
