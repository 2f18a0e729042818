"""`equipoise report`."""

from __future__ import annotations

from pathlib import Path

from equipoise.cli.arguments import Words, check_figures, check_report
from equipoise.cli.progress import waiting
from equipoise.cli.tables import output_console, print_plain
from equipoise.types import UsageError

REPORT = "report.html"


def report_command(
    folders: list[Path],
    /,
    *,
    out: Path | None = None,
    figures: Path | None = None,
    formats: Words | None = None,
    figure_width: str = "text",
    table: str | None = None,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Write one self-contained HTML file about a comparison, several comparisons, a run, or several runs.

    Comparisons of several datasets are shown one by one and together, with the mean rank of each method. With
    `--table` it prints their results as a table for a paper instead.

    Args:
        folders: folders of comparisons, one a dataset, or of one or more runs; or that of a grid.
        out: the file. Default: report.html in the (first) folder; for several comparisons
            across-datasets.html in their parent folder; a table is printed.
        figures: folder for every chart as a figure for a paper.
        formats: of these figures: png, svg, pdf. Default: all three.
        figure_width: of these figures: text, or column for one of two columns of a page.
        table: latex (package booktabs), markdown, or csv, which holds the numbers alone.
        overwrite: replace a file that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.report import default_path, write_report, write_report_figures

    check_figures(figures, formats, figure_width)
    if table is not None:
        _write_table(folders, table, out, figures, overwrite)
        return
    shared = default_path(folders)
    path = out or (shared if shared.name != REPORT else folders[0] / REPORT)
    if path.parent != folders[0] or folders[0].is_dir():  # otherwise reading it says what is wrong
        check_report(path, overwrite)
    with waiting(f"writing {path}"):
        written = [write_report(folders, path)]
        if figures is not None:
            written += write_report_figures(folders, figures, formats, figure_width)
    for file in written:
        print_plain(output_console(), file)


def _write_table(
    folders: list[Path], kind: str, out: Path | None, figures: Path | None, overwrite: bool
) -> None:
    """Print a table, or write it into a file."""
    from equipoise.files.whole import write_atomically
    from equipoise.report.table import paper_table

    if figures is not None:
        raise UsageError("--table prints a table alone; give --figures DIR without it.")
    if out is not None:
        check_report(out, overwrite)
    text = paper_table(folders, kind)
    if out is None:
        print_plain(output_console(), text.removesuffix("\n"))
        return
    write_atomically(out, text)
    print_plain(output_console(), out)
