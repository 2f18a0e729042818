"""`equipoise report`."""

from __future__ import annotations

from pathlib import Path

from equipoise.cli.arguments import Words, check_figures, check_report
from equipoise.cli.progress import waiting
from equipoise.cli.tables import output_console, print_plain

REPORT = "report.html"


def report_command(
    folders: list[Path],
    /,
    *,
    out: Path | None = None,
    figures: Path | None = None,
    formats: Words | None = None,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Write one self-contained HTML file about a comparison, several comparisons, a run, or several runs.

    Comparisons of several datasets are shown one by one and together, with the mean rank of each method.

    Args:
        folders: folders of comparisons, one a dataset, or of one or more runs; or that of a grid.
        out: the file. Default: report.html in the (first) folder; for several comparisons
            across-datasets.html in their parent folder.
        figures: folder for every chart as a figure for a paper.
        formats: of these figures: png, svg, pdf. Default: all three.
        overwrite: replace a file that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.report import default_path, write_report, write_report_figures

    check_figures(figures, formats)
    shared = default_path(folders)
    path = out or (shared if shared.name != REPORT else folders[0] / REPORT)
    if path.parent != folders[0] or folders[0].is_dir():  # otherwise reading it says what is wrong
        check_report(path, overwrite)
    with waiting(f"writing {path}"):
        written = [write_report(folders, path)]
        if figures is not None:
            written += write_report_figures(folders, figures, formats)
    for file in written:
        print_plain(output_console(), file)
