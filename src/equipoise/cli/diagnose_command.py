"""`equipoise diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from equipoise.cli.run_options import Words
from equipoise.types import UsageError


def diagnose_command(
    run_dir: Path | None = None,
    /,
    *,
    features: Path | None = None,
    preset: str = "paper",
    set_: Annotated[Words | None, Parameter(name="--set")] = None,
    out: Path | None = None,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Show the learning state of every modality: of a run's model, or of features in a file.

    Args:
        run_dir: folder of a finished run; its training and validation data are read again.
        features: an .npz file with train_NAME and val_NAME for each modality, train_labels and val_labels.
        preset: `paper`, or `robust` (subsets of one size, repeats, an interval).
        set_: choices of the diagnosis, as OPTION=VALUE: metric=knn, bootstrap=200.
        out: where the report goes. Default: diagnosis.html in the run folder; none for a file.
        overwrite: replace a report that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.cli.tables import diagnosis_table, output_console
    from equipoise.experiments import diagnose_arrays, diagnose_run
    from equipoise.report import write_diagnosis_report
    from equipoise.training.option_text import parse_assignments

    options = parse_assignments(set_ or [], "set")
    if (run_dir is None) == (features is None):
        raise UsageError("expected either a run folder or --features FILE.npz.")
    report = out
    if run_dir is not None:
        report = out or run_dir / "diagnosis.html"
    if out is not None and out.exists() and not overwrite:
        raise UsageError(f"{out} exists; choose another file, or give --overwrite.")
    if run_dir is not None:
        diagnosis, source = diagnose_run(run_dir, preset=preset, **options), str(run_dir)
    else:
        assert features is not None  # one of the two was given
        diagnosis, source = diagnose_arrays(features, preset=preset, **options), str(features)
    console = output_console()
    console.print(diagnosis_table(diagnosis))
    if report is None:
        return
    if report.exists() and not overwrite:
        console.print(f"\nkept {report}, which exists; --overwrite replaces it", markup=False, soft_wrap=True)
        return
    write_diagnosis_report(diagnosis, report, source)
    console.print(f"\n{report}", markup=False, soft_wrap=True)
