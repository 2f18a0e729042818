"""`equipoise list`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

SHORT = ("family", "experimental", "summary")
"""The facts of a method that the list shows by default, a line for each method."""

Kind = Literal["methods", "datasets", "models", "recipes", "metrics"]


def list_command(what: Kind, /, *, long: bool = False, config: Path | None = None) -> None:
    """List methods, datasets, models, recipes or metrics.

    Args:
        what: methods, datasets, models, recipes or metrics.
        long: every known fact; by default of a method its family and what it does.
        config: YAML file with options by name.
    """
    from equipoise import catalogue
    from equipoise.cli.tables import listed, output_console

    lists: dict[str, Callable[[], Mapping[str, Mapping[str, Any]]]] = {
        "methods": catalogue.list_methods,
        "datasets": catalogue.list_datasets,
        "models": catalogue.list_models,
        "recipes": catalogue.list_recipes,
        "metrics": catalogue.list_metrics,
    }
    found = lists[what]()
    if what == "methods" and not long:
        found = {name: {key: facts[key] for key in SHORT} for name, facts in found.items()}
    rows = [_row(name, facts) for name, facts in found.items()]
    named = dict.fromkeys(column for row in rows for column in row)
    columns = [column for column in named if any(row.get(column) for row in rows)]
    heads = [column.replace("_", " ") for column in columns]
    cells = [[row.get(column, "") for column in columns] for row in rows]
    console = output_console()
    console.print(listed(heads, cells, console))


def _row(name: str, facts: Mapping[str, Any]) -> dict[str, str]:
    shown = {"name": f"{name} (experimental)" if facts.get("experimental") else name}
    for key, value in facts.items():
        if key != "experimental":
            shown[key] = str(value) if not isinstance(value, bool) else "yes" if value else "no"
    return shown
