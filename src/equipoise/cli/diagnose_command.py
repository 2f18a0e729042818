"""`equipoise diagnose`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from equipoise.cli.arguments import Words
from equipoise.cli.memory import return_freed_arrays
from equipoise.types import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from equipoise.experiments.examine.examination import Examination

REPORT = "diagnosis.html"


def diagnose_command(
    run_dir: Path | None = None,
    /,
    *,
    features: Path | None = None,
    preset: str = "robust",
    set_: Annotated[Words | None, Parameter(name="--set")] = None,
    quality: bool = False,
    test: bool = False,
    out: Path | None = None,
    figures: Path | None = None,
    formats: Words | None = None,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Say how well each modality is learnt and what it contributes: in a run's model, or features in a file.

    Args:
        run_dir: folder of a finished run; its training and validation data are read again.
        features: an .npz file with train_NAME and val_NAME for each modality, train_labels and val_labels.
        preset: how the learning state is measured: robust (transferred clusters, an interval), or paper.
        set_: choices of that measurement, as OPTION=VALUE: metric=knn, bootstrap=500.
        quality: train new classifiers on each encoder, and each modality alone, to see what is lost; takes
            about as long as the run, a modality.
        test: measure contributions on the test split. Only at the very end: it then can decide nothing more.
        out: where the report goes. Default: diagnosis.html in the run folder, or NAME.diagnosis.html beside
            the file; a .json of the same name holds the numbers.
        figures: folder to write every chart to, as figures for a paper.
        formats: of those figures: png, svg, pdf. Default: all three.
        overwrite: replace a report that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.cli.tables import output_console
    from equipoise.diagnosis import DiagnosisOptions
    from equipoise.experiments.examine.examine import examine_features, examine_run
    from equipoise.report import check_formats
    from equipoise.training.option_text import parse_assignments

    options = parse_assignments(set_ or [], "set")
    if (run_dir is None) == (features is None):
        raise UsageError("expected either a run folder or --features FILE.npz.")
    if formats is not None and figures is None:
        raise UsageError("--formats says how figures are written; give --figures DIR too.")
    check_formats(formats or ())
    if features is not None and (quality or test):
        raise UsageError("--quality and --test need a run folder: a file of features holds no model.")
    report = out or (_beside(features) if features is not None else Path(str(run_dir)) / REPORT)
    if out is not None and out.exists() and not overwrite:
        raise UsageError(f"{out} exists; choose another file, or give --overwrite.")
    if features is not None:
        return_freed_arrays()
        found = examine_features(features, preset=preset, **options)
    else:
        DiagnosisOptions.preset(preset, **options)  # a mistake in the options is told first
        if _has_labels(Path(str(run_dir))):
            _show_state(str(run_dir), preset, options)
            return
        split = "test" if test else "validation"
        found = examine_run(str(run_dir), preset=preset, split=split, quality=quality, **options)
    console = output_console()
    _show(console, found)
    _write(console, found, report, overwrite, figures, formats)


def _beside(features: Path) -> Path:
    return features.with_name(f"{features.stem}.{REPORT}")


def _has_labels(run_dir: Path) -> bool:
    from equipoise.tasks import MULTILABEL
    from equipoise.training.record.record import RunRecord

    return RunRecord(run_dir).result().get("task") == MULTILABEL.name


def _show_state(run_dir: str, preset: str, options: dict[str, Any]) -> None:
    """Print what is known where a sample has several labels: the learning state alone."""
    from equipoise.cli.tables import output_console
    from equipoise.experiments.examine.diagnose_run import diagnose_run

    console = output_console()
    console.print(str(diagnose_run(run_dir, preset=preset, **options)), markup=False, soft_wrap=True)
    console.print(
        "\nSeveral labels a sample: the learning state alone; verdicts, contributions and the page are for "
        "classes and numbers.",
        markup=False,
        soft_wrap=True,
    )


def _show(console: Console, found: Examination) -> None:
    from equipoise.cli.tables import examination_tables
    from equipoise.diagnosis.verdict.rules import BALANCED

    for table in examination_tables(found):
        console.print(table)
        console.print()
    for verdict in found.verdicts.values():
        text = f"{verdict.modality}: {verdict.state}. {' '.join(verdict.reasons)}"
        console.print(text, markup=False, soft_wrap=True)
        for advice in verdict.advice if verdict.state != BALANCED else ():
            console.print(f"  try: {advice}", markup=False, soft_wrap=True)
    if found.quality is not None:
        console.print(f"\n{found.quality}", markup=False, soft_wrap=True)


def _write(
    console: Console,
    found: Examination,
    report: Path,
    overwrite: bool,
    figures: Path | None,
    formats: list[str] | None,
) -> None:
    from equipoise.report import write_examination_figures, write_examination_report

    if report.exists() and not overwrite:
        console.print(f"\nkept {report}, which exists; --overwrite replaces it", markup=False, soft_wrap=True)
    else:
        write_examination_report(found, report)
        console.print(f"\n{report}", markup=False, soft_wrap=True)
    if figures is not None:
        for path in write_examination_figures(found, figures, formats):
            console.print(str(path), markup=False, soft_wrap=True)
