"""`equipoise diagnose`."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from equipoise.cli.arguments import Words, check_figures, check_report
from equipoise.cli.progress import waiting
from equipoise.cli.tables import output_console, print_plain, print_prose, turned
from equipoise.decimals import MINUS
from equipoise.types import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from equipoise.experiments.examine.examination import Examination

REPORT = "diagnosis.html"
M_MMAP_THRESHOLD: Final = -3
"""Option of glibc's `mallopt`."""
THRESHOLD: Final = 4 * 2**20
"""Bytes from which freed arrays are returned to the system."""


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
    figure_width: str = "text",
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Show how well each modality is learnt and what it contributes, in a run's model or features in a file.

    Args:
        run_dir: folder of a finished run; its training and validation data are read again.
        features: an .npz file with train_NAME and val_NAME for each modality, train_labels and val_labels.
        preset: how the learning state is measured: robust (five comparisons of subsets of one size), held-out
            (samples that were not used for fitting), or paper (as published).
        set_: options of the measurement, as OPTION=VALUE: metric=knn, bootstrap=500.
        quality: train new classifiers on each encoder, and each modality alone, to see what joint training
            lost; for each modality this takes about as long as the run.
        test: measure contributions on the test split. Do so only at the very end, when nothing is decided any
            more.
        out: the report. Default: diagnosis.html in the run folder, or NAME.diagnosis.html next to the
            file; a .json of the same name holds the numbers.
        figures: folder for every chart as a figure for a paper.
        formats: of these figures: png, svg, pdf. Default: all three.
        figure_width: of these figures: text, or column for one of two columns of a page.
        overwrite: replace a report that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.diagnosis import DiagnosisOptions
    from equipoise.experiments.examine.examine import examine_features, examine_run
    from equipoise.report.write import file_of_numbers
    from equipoise.training.option_text import parse_assignments

    options = parse_assignments(set_ or [], "set")
    DiagnosisOptions.preset(preset, **options)
    if (run_dir is None) == (features is None):
        raise UsageError("expected either a run folder or --features FILE.npz.")
    check_figures(figures, formats, figure_width)
    if features is not None and (quality or test):
        raise UsageError("--quality and --test need a run folder: a file of features holds no model.")
    source = features or run_dir
    assert source is not None
    report = out or (source / REPORT if features is None else source.parent / f"{source.stem}.{REPORT}")
    if report.parent != source or source.is_dir():  # otherwise reading it says what is wrong
        check_report(report, overwrite or (out is None and not (quality or test)))
        file_of_numbers(report)
    if features is not None:
        _return_freed_arrays()
        with waiting(f"measuring {features}"):
            found = examine_features(features, preset=preset, **options)
    else:
        assert run_dir is not None
        if _has_labels(run_dir):
            refused = {"--quality": quality, "--test": test, "--out": out, "--figures": figures}
            if given := [option for option, value in (refused | {"--overwrite": overwrite}).items() if value]:
                raise UsageError(
                    f"{', '.join(given)}: each sample of this run has several labels, of which only the "
                    "learning state is defined; leave the option out."
                )
            _show_state(run_dir, preset, options)
            return
        split = "test" if test else "validation"
        with waiting(f"measuring {run_dir}"):
            found = examine_run(run_dir, preset=preset, split=split, quality=quality, **options)
    console = output_console()
    _show(console, found)
    _write(console, found, report, overwrite, figures, (formats, figure_width))


def _has_labels(run_dir: Path) -> bool:
    from equipoise.tasks import MULTILABEL
    from equipoise.training.record.record import RunRecord

    return RunRecord(run_dir).result().get("task") == MULTILABEL.name


def _show_state(run_dir: Path, preset: str, options: dict[str, Any]) -> None:
    """Print the learning state alone, which is all that is defined where a sample has several labels."""
    from equipoise.experiments.examine.diagnose_run import diagnose_run

    console = output_console()
    with waiting(f"measuring {run_dir}"):
        state = diagnose_run(run_dir, preset=preset, **options)
    print_plain(console, state)
    print_prose(
        console,
        "\nEach sample has several labels: only the learning state is defined. Verdicts, contributions and "
        "the page need classes or numbers.",
    )


def _show(console: Console, found: Examination) -> None:
    from equipoise.diagnosis.verdict.rules import BALANCED
    from equipoise.report.text import examined

    for said in examined.floor(found):
        print_prose(console, f"{said.verdict} {said.text}")
    for verdict in found.verdicts.values():
        print_prose(console, f"{verdict.modality}: {verdict.state}. {' '.join(verdict.reasons)}")
        for remark in verdict.remarks:
            print_prose(console, f"note: {remark}", indent=2)
        for advice in verdict.advice if verdict.state != BALANCED else ():
            print_prose(console, f"try: {advice}", indent=2)
    for lack in dict.fromkeys(lack for verdict in found.verdicts.values() for lack in verdict.lacks):
        print_prose(console, lack)
    contribution = examined.contribution(found)
    print_prose(console, f"Contribution: {contribution.verdict} {contribution.text}".replace(MINUS, "-"))
    for table in turned(examined.numbers(found)):
        console.print()
        console.print(table)


def _write(
    console: Console,
    found: Examination,
    report: Path,
    overwrite: bool,
    figures: Path | None,
    drawing: tuple[list[str] | None, str],
) -> None:
    from equipoise.report import write_examination_figures, write_examination_report

    if report.exists() and not overwrite:
        print_plain(console, f"\nkept {report}, which exists; --overwrite replaces it")
    else:
        with waiting(f"writing {report}"):
            write_examination_report(found, report)
        print_plain(console, f"\n{report}")
    if figures is not None:
        with waiting(f"drawing into {figures}"):
            drawn = write_examination_figures(found, figures, *drawing)
        for path in drawn:
            print_plain(console, path)


def _return_freed_arrays() -> None:
    """Return large arrays to the system when they are freed.

    By default glibc keeps more and more of them: it raises its threshold with each one that is freed, and a
    diagnosis of large features would hold half as much memory again as it needs. Nothing changes without
    glibc.
    """
    if sys.platform != "linux":
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, THRESHOLD)
