"""`equipoise report`."""

from __future__ import annotations

from pathlib import Path

from equipoise.types import UsageError


def report_command(
    folders: list[Path],
    /,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Write one self-contained HTML file about a comparison, a run, or several runs.

    Args:
        folders: folder of a comparison, or of one or more runs.
        out: the file. Default: report.html in the (first) folder.
        overwrite: replace a file that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.cli.tables import output_console
    from equipoise.report import write_report

    path = out or folders[0] / "report.html"
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; give --overwrite to replace it, or --out FILE.")
    written = write_report(folders, path)
    output_console().print(str(written), markup=False, soft_wrap=True)
