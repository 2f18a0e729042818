"""`equipoise report`."""

from __future__ import annotations

from pathlib import Path

from equipoise.types import UsageError

REPORT = "report.html"


def report_command(
    folders: list[Path],
    /,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Write one self-contained HTML file about a comparison, several comparisons, a run, or several runs.

    Comparisons of several datasets are shown one by one and together, with the mean rank of each method.

    Args:
        folders: folders of comparisons, one a dataset, or of one or more runs.
        out: the file. Default: report.html in the (first) folder; for several comparisons
            across-datasets.html in the folder that they lie in.
        overwrite: replace a file that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.cli.tables import output_console
    from equipoise.report import default_path, write_report

    shared = default_path(folders)
    path = out or (shared if shared.name != REPORT else folders[0] / REPORT)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; give --overwrite to replace it, or --out FILE.")
    written = write_report(folders, path)
    output_console().print(str(written), markup=False, soft_wrap=True)
