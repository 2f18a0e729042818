"""`equipoise predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.cli.arguments import SomeWords, Whole, check_report
from equipoise.cli.progress import waiting
from equipoise.cli.tables import make_table, number, output_console, print_plain, progress_console
from equipoise.types import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


def predict_command(
    run_dir: Path,
    /,
    *,
    out: Path,
    data: str | None = None,
    source: Path | None = None,
    split: str | None = None,
    without: SomeWords | None = None,
    batch_size: Whole | None = None,
    device: str = "auto",
    workers: Whole = 1,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Predict samples by the model of a finished run, with what each modality contributed to each of them.

    Args:
        run_dir: folder of a finished run, or of a model that `save_pretrained` has written; the data that it
            was trained on are not needed.
        out: the table, FILE.csv or FILE.parquet.
        data: name or folder of prepared data.
        source: raw files instead, in the layout of those that the training data were prepared from. A table
            needs no labels.
        split: `train`, `val` or `test` of the data. Default: all samples.
        without: modalities that are left out; the mean feature of the training split stands in for them.
        batch_size: samples at a time. Default: that of the training.
        device: `auto`, `cpu`, `cuda` or `mps`.
        workers: processes that decode raw files.
        overwrite: replace a file that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.cli.prepare_command import ClipBar
    from equipoise.training.prediction.predict import predict_of_run
    from equipoise.training.prediction.table_file import check_table_file, write_table
    from equipoise.training.pretrained import read_trained

    check_table_file(out)
    check_report(out, overwrite)
    if (data is None) == (source is None):
        raise UsageError("expected either --data NAME (prepared data) or --source RAW (raw files).")
    with waiting(f"reading {run_dir}"):
        run = read_trained(run_dir).used()
    with ClipBar() as bar:
        table = predict_of_run(
            run,
            data,
            source=source,
            split=split,
            without=without or (),
            batch_size=batch_size,
            device=device,
            workers=workers,
            observer=bar,
        )
    write_table(out, table)
    if without:
        print_plain(
            progress_console(),
            f"note: {', '.join(without)} left out; the mean feature of the training split stands in.",
        )
    console = output_console()
    _show(console, table, f"{run.summary['method']} on {run.summary['dataset']}")
    print_plain(console, f"\n{out}")


def _show(console: Console, table: pd.DataFrame, model: str) -> None:
    """Print how many samples were predicted, how, and what the modalities contributed to that."""
    from equipoise.training.prediction.predict import CONTRIBUTION, NONE

    print_plain(console, f"{len(table)} samples predicted by {model}")
    explained = "confidence" if "confidence" in table else "predicted"
    if explained == "confidence":
        print_plain(console, f"mean confidence {table['confidence'].mean():.3f}")
        if "target" in table:
            right = table["predicted"] == table["target"]
            splits = right.groupby(table["split"], sort=False) if "split" in table else [("", right)]
            shares = [
                f"{split} {own.mean():.3f} ({own.sum()} of {len(own)})".strip() for split, own in splits
            ]
            print_plain(console, f"accuracy: {', '.join(shares)}")
    names = [name for name in table if str(name).startswith(CONTRIBUTION)]
    if names:
        rows = [
            [
                str(name).removeprefix(CONTRIBUTION),
                number(float(table[name].mean()), "+.3f"),
                number(float(table[name].abs().mean())),
            ]
            for name in names
        ]
        rows.append(["(none)", number(float(table[f"{explained}{NONE}"].mean()), "+.3f"), "-"])
        console.print()
        console.print(make_table(["modality", f"adds to {explained}", "size"], rows))
