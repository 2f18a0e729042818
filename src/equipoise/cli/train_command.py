"""`equipoise train`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from equipoise.cli.arguments import Whole, free_folder, with_settings
from equipoise.cli.progress import EpochBar, new_start
from equipoise.cli.tables import make_table, number, output_console, print_plain, progress_console


@with_settings()
def train_command(
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    config: Path | None = None,
    devices: Whole | None = None,
    nodes: Whole | None = None,
    shard: bool = False,
    chosen: Mapping[str, Any],
) -> None:
    """Train one model by one method.

    Args:
        out: run folder. Default: a new folder under runs/.
        resume: continue the interrupted run in the folder.
        overwrite: replace the run in the folder.
        config: YAML file with options by name, such as the `config.yaml` of a run; those given here win.
        devices: processes that share the run on this machine, each with its device (`torchrun` and SLURM may
            start them, too).
        nodes: machines of the run. Each starts the command, with MASTER_ADDR, MASTER_PORT and NODE_RANK set.
        shard: divide the weights of each encoder over the processes, for encoders that are too large for one.
        chosen: the settings that were given.
    """
    from equipoise.tasks import task_named
    from equipoise.training.fit import run
    from equipoise.training.measuring.floor import SENTENCE, figures_below
    from equipoise.training.option_text import from_options
    from equipoise.training.processes.group import speaks
    from equipoise.training.record.names import run_name

    settings = from_options(chosen)
    method = settings.method
    folder = out or free_folder(
        f"{Path(chosen['data']).name}-{run_name(method, settings.seed)}", reuse=resume or overwrite
    )
    how: dict[str, Any] = {
        "resume": resume,
        "overwrite": overwrite,
        "devices": devices,
        "nodes": nodes,
        "shard": shard,
    }
    train = partial(run, settings, folder, **how)
    if not speaks(nodes):
        train()
        return
    note = new_start(folder) if resume else None
    with EpochBar(progress_console(), folder, settings.budget.epochs, note):
        result = train()
    task = task_named(str(result.summary.get("task", "classification")))
    names = {**task.figures, "loss": "loss"}
    rows = [
        [split, *(number(scores[key]) for key in names)]
        for split, scores in (("validation", result.validation), ("test", result.test))
    ]
    console = output_console()
    print_plain(
        console,
        f"{method} on {result.summary['dataset']}, recipe {settings.recipe}, epoch {result.best_epoch} kept "
        f"(of 0 to {settings.budget.epochs - 1})\n",
    )
    console.print(make_table(["split", *names.values()], rows))
    if figures := figures_below(result.summary):
        print_plain(console, f"\nThe run {SENTENCE}. {figures}")
    print_plain(console, f"\n{folder}")
