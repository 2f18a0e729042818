"""Write the tables of the tasks page from the code.

Usage: python benchmarks/task_tables.py docs/tasks.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from equipoise.diagnosis.estimate import USUAL_MEASURES
from equipoise.diagnosis.measures.catalogue import MEASURES
from equipoise.methods import METHODS
from equipoise.tasks import TASKS

TARGETS = {"classification": "classes", "multilabel": "labels", "regression": "continuous"}
"""Task to the kind of target that its measures support."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, *map(list, rows)]
    texts = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(names), *texts[1:], ""])


def tasks() -> str:
    """Return one row per task: loss and metrics."""
    rows = []
    for task in TASKS.values():
        names = [
            f"{'**' if key == task.main else ''}`{key}`{'**' if key == task.main else ''} {name}"
            for key, name in task.figures.items()
        ]
        rows.append([f"`{task.name}`", task.summary, ", ".join(names)])
    return table(["task", "target; loss", "metrics besides `loss` (main metric in bold)"], rows)


def measures() -> str:
    """Return one row per measure of separability, by task; the default is in bold."""
    rows = []
    for task, kind in TARGETS.items():
        usual = USUAL_MEASURES.get(kind, "purity")
        for name, measure in MEASURES.items():
            if measure.target == kind:
                mark = "**" if name == usual else ""
                rows.append([f"`{task}`", f"{mark}`{name}`{mark}", measure.summary])
    return table(["task", "measure", "definition"], rows)


def methods() -> str:
    """Return one row per method that supports more than classification."""
    others = [task for task in TASKS if task != "classification"]
    rows = [
        [f"[{name}](methods/{name}.md)", *("yes" if task in kind.requires.tasks else "" for task in others)]
        for name, kind in METHODS.items()
        if set(others) & kind.requires.tasks
    ]
    return table(["method", *(f"`{task}`" for task in others)], rows)


TABLES: dict[str, Callable[[], str]] = {"tasks": tasks, "measures": measures, "methods": methods}


def written(text: str) -> str:
    """Return the page with its tables generated from the current code."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: made by make task-tables -->\n", f"<!-- end of {name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text, count = re.subn(pattern, lambda _, b=begin, m=make, e=end: f"{b}\n{m()}\n{e}", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"The page has {count} places for the table {name}; expected one.")
    return text


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
