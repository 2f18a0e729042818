"""`equipoise cite`."""

from __future__ import annotations

from pathlib import Path

from equipoise.cli.arguments import check_report
from equipoise.cli.tables import output_console, print_plain


def cite_command(
    folders: list[Path],
    /,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    config: Path | None = None,
) -> None:
    """Print BibTeX for what runs used: their methods and datasets, and Equipoise.

    Args:
        folders: folders of comparisons, or of one or more runs; or that of a grid.
        out: a file to write instead, such as references.bib.
        overwrite: replace a file that exists.
        config: YAML file with options by name; those given here win.
    """
    from equipoise.files.whole import write_atomically
    from equipoise.report.citations import citations

    if out is not None:
        check_report(out, overwrite)
    text = citations(folders)
    if out is None:
        print_plain(output_console(), text.removesuffix("\n"))
        return
    write_atomically(out, text)
    print_plain(output_console(), out)
