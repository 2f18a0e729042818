"""Write the tables of the page on tasks from what the code says of itself.

Usage: python benchmarks/task_tables.py docs/tasks.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from equipoise.diagnosis.diagnose import USUAL_MEASURES
from equipoise.diagnosis.measures.catalogue import MEASURES
from equipoise.methods import METHODS
from equipoise.tasks import TASKS

TARGETS = {"classification": "classes", "multilabel": "labels", "regression": "continuous"}
"""Task to the kind of target that its measures take."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, *map(list, rows)]
    texts = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(names), *texts[1:], ""])


def tasks() -> str:
    """Return a row a task: loss and figures, the main one first."""
    rows = []
    for task in TASKS.values():
        names = [
            f"{'**' if key == task.main else ''}`{key}`{'**' if key == task.main else ''} {name}"
            for key, name in task.figures.items()
        ]
        rows.append([f"`{task.name}`", task.summary, ", ".join(names)])
    return table(["task", "a target, and the loss", "figures beside `loss`; the main one in bold"], rows)


def measures() -> str:
    """Return a row a measure of separability, by task; the one that is taken by itself in bold."""
    rows = []
    for task, kind in TARGETS.items():
        usual = USUAL_MEASURES.get(kind, "purity")
        for name, measure in MEASURES.items():
            if measure.target == kind:
                mark = "**" if name == usual else ""
                rows.append([f"`{task}`", f"{mark}`{name}`{mark}", measure.summary])
    return table(["task", "measure", "what it is"], rows)


def methods() -> str:
    """Return a row a method that is defined for more than classes."""
    others = [task for task in TASKS if task != "classification"]
    rows = [
        [f"[{name}](methods/{name}.md)", *("yes" if task in kind.requires.tasks else "" for task in others)]
        for name, kind in METHODS.items()
        if set(others) & kind.requires.tasks
    ]
    return table(["method", *(f"`{task}`" for task in others)], rows)


TABLES: dict[str, Callable[[], str]] = {"tasks": tasks, "measures": measures, "methods": methods}


def written(text: str) -> str:
    """Return the page with its tables as the code has them now."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: made by make task-tables -->\n", f"<!-- end of {name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text, count = re.subn(pattern, lambda _, b=begin, m=make, e=end: f"{b}\n{m()}\n{e}", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"the page has {count} places for the table {name}; expected one.")
    return text


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
