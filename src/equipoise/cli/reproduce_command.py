"""`equipoise reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.cli.arguments import Whole
from equipoise.cli.progress import waiting
from equipoise.cli.tables import make_table, output_console, print_plain, progress_console
from equipoise.cli.views.grid_view import GridView
from equipoise.types import UsageError

if TYPE_CHECKING:
    from equipoise.experiments.paper.item import Item


def reproduce_command(
    name: str | None = None,
    /,
    *,
    data_root: Path | None = None,
    stand_in: Path | None = None,
    out: Path = Path("reproduced"),
    quick: bool = False,
    protocol: str = "honest",
    seeds: Whole | None = None,
    epochs: Whole | None = None,
    resume: bool = False,
    overwrite: bool = False,
    rank_anyway: bool = False,
    executor: str = "local",
    workers: Whole | None = None,
    config: Path | None = None,
) -> int:
    """Reproduce a table or figure of the paper (Wei et al., ECCV 2024), or run an ablation.

    Without a name all are listed. The sets are those of the paper, prepared (`equipoise prepare`), or others
    that stand in for them, which this command prepares. Runs are kept beside the result;
    an interrupted reproduction continues with `--resume`.

    Ablations are of diagnose-relearn-plus. Without a folder they run on HTAD, with `--stand-in DIR` on other
    sets too. They share runs: give `--resume` from the second one on.

    Args:
        name: `table1` to `table4`, `figure1` to `figure5`, `ablation-ruler` and so on.
        data_root: folder of prepared sets: `DIR/cremad`, `DIR/kinetics-sounds`, `DIR/ucf101`, `DIR/cmu-mosi`.
        stand_in: folder with the archives of stand-ins, such as `avletters.npz`.
        out: output folder; it may hold several tables and figures.
        quick: fewer methods, cases and epochs, within minutes; the title says so.
        protocol: `honest`, or `original`, which adds columns to a table: what selecting epochs on the test
            split, and the published difference in augmentation, would change.
        seeds: number of seeds. Default: 3, of an ablation 6.
        epochs: of every run. Default: 90 as in the paper, on stand-ins those of the set.
        resume: keep the finished runs and continue the others.
        overwrite: replace the runs of this table, figure or ablation.
        rank_anyway: rank even if joint does not beat a linear model on its own inputs.
        executor: `local` or `ray`.
        workers: runs at a time. Default: one for each core, one in all with a GPU, or as many as the
            Ray cluster has room for.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.experiments.paper.items import ITEMS, item_named
    from equipoise.experiments.paper.plan import Choices
    from equipoise.experiments.paper.reproduce import SETS, measured, reproduce
    from equipoise.experiments.paper.sets import Sources
    from equipoise.report.paper.words import title
    from equipoise.report.paper.write import write_reproduction
    from equipoise.report.text.wording import counted

    console = output_console()
    if name is None:
        console.print(make_table(["name", "shows"], [[item.name, item.title] for item in ITEMS.values()]))
        return 0
    item = item_named(name)
    choices = Choices(quick=quick, protocol=protocol, seeds=seeds, epochs=epochs, rank_anyway=rank_anyway)
    sources = None
    if item.form != "scheme":
        root = _root(item, data_root, stand_in)
        sources = Sources(root, data_root is None, out / SETS, workers, waiting)
    with GridView(progress_console()) as view:
        found = reproduce(
            item,
            choices,
            sources,
            out,
            executor=executor,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            observer=view,
        )
    with waiting(f"drawing {item.name}"):
        found = measured(found)
    files = write_reproduction(found, out)
    print_plain(console, f"{title(found)}\n")
    for path in files:
        print_plain(console, path)
    if found.failed:
        print_plain(
            progress_console(),
            f"{counted(found.failed, 'run')} failed; the notes of {out / name}.md say why.",
        )
    return 1 if found.failed else 0


def _root(item: Item, data_root: Path | None, stand_in: Path | None) -> Path | None:
    """Return the folder of the data; None for an ablation without one."""
    if item.form == "ablation":
        if data_root is not None:
            raise UsageError(
                f"{item.name} runs on sets at hand; expected --stand-in DIR, or no folder, in place of "
                "--data-root."
            )
    elif (data_root is None) == (stand_in is None):
        raise UsageError(
            f"{item.name} needs data; expected either --data-root DIR (prepared sets of the paper) or "
            "--stand-in DIR (archives of other sets)."
        )
    root = data_root or stand_in
    return None if root is None else root.expanduser()
