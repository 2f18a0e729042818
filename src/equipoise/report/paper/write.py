"""Write a reproduced table or figure: Markdown, CSV and LaTeX, or SVG and PDF with their numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from equipoise.experiments.paper.item import Form
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.files.csv_cells import as_cell, csv_text
from equipoise.files.printable import printable
from equipoise.files.whole import write_atomically
from equipoise.report.paper import ablation, comparison, words
from equipoise.report.render import write_figures
from equipoise.report.text.tables import Table

if TYPE_CHECKING:
    from equipoise.report.charts.chart import Chart

FORMATS: Final = ("svg", "pdf")
TABLES: Final = {"comparison": comparison, "ablation": ablation}


def write_reproduction(found: Reproduction, out: Path) -> list[Path]:
    """Write `OUT/NAME.*` and return the files.

    Raises:
        RunFolderError: a file cannot be written.
    """
    return _table(found, out) if found.item.form in TABLES else _figure(found, out)


def _table(found: Reproduction, out: Path) -> list[Path]:
    made, name, said = TABLES[found.item.form], found.item.name, _said(found)
    grid = made.grid(found)
    texts = {
        "md": _page(words.title(found), [grid.markdown()], said),
        "csv": csv_text(made.frame(found)),
        "tex": grid.latex(words.title(found), [line for lines in said.values() for line in lines]),
    }
    return _written(out, name, texts)


def _figure(found: Reproduction, out: Path) -> list[Path]:
    chart = replace(_drawn(found), name=found.item.name, title=words.title(found))
    pictures = write_figures([chart], out, FORMATS)
    parts = [f"![{chart.title}]({chart.name}.svg)\n", f"{chart.caption}\n"]
    texts = {}
    if chart.numbers is not None:
        parts.append(_markdown(chart.numbers))
        texts["csv"] = _csv(chart.numbers)
    texts["md"] = _page(chart.title, parts, _said(found))
    return [*pictures, *_written(out, chart.name, texts)]


def _drawn(found: Reproduction) -> Chart:
    from equipoise.report.paper.features import features
    from equipoise.report.paper.quality import quality
    from equipoise.report.paper.scheme import scheme
    from equipoise.report.paper.sensitivity import sensitivity
    from equipoise.report.paper.training import training

    forms: Mapping[Form, Callable[[Reproduction], Chart]] = {
        "features": features,
        "quality": quality,
        "scheme": scheme,
        "sensitivity": sensitivity,
        "training": training,
    }
    return forms[found.item.form](found)


def _said(found: Reproduction) -> dict[str, Sequence[str]]:
    own = {"Variants": ablation.variants(found)} if found.item.form == "ablation" else {}
    return {
        **own,
        "How to read it": words.selection(found),
        "Notes": words.notes(found),
        "Conditions": [*words.conditions(found), f"After {words.PAPER}."],
    }


def _page(title: str, parts: Sequence[str], said: Mapping[str, Sequence[str]]) -> str:
    lines = [f"# {title}\n", *parts]
    for heading, texts in said.items():
        if texts:
            lines += [f"## {heading}\n", *(f"- {text}" for text in texts), ""]
    return "\n".join(lines)


def _written(out: Path, name: str, texts: Mapping[str, str]) -> list[Path]:
    paths = [out / f"{name}.{kind}" for kind in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomically(path, text)
    return paths


def _markdown(table: Table) -> str:
    lines = [f"| {' | '.join(table.columns)} |", f"|{'---|' * len(table.columns)}"]
    lines += [f"| {' | '.join(cell.text for cell in row)} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(as_cell(printable(name)) for name in table.columns)
    for row in table.rows:
        texts = (printable(cell.text) if cell.value is None else repr(cell.value) for cell in row)
        writer.writerow(map(as_cell, texts))
    return text.getvalue()
