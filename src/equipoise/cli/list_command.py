"""`equipoise list`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Kind = Literal["methods", "datasets", "models", "metrics"]


def list_command(what: Kind, /, *, config: Path | None = None) -> None:
    """List methods, datasets, models or metrics.

    Args:
        what: methods, datasets, models or metrics.
        config: YAML file with options by name.
    """
    from equipoise import catalogue
    from equipoise.cli.tables import make_table, output_console

    lists = {
        "methods": catalogue.list_methods,
        "datasets": catalogue.list_datasets,
        "models": catalogue.list_models,
        "metrics": catalogue.list_metrics,
    }
    rows = [_row(name, facts) for name, facts in lists[what]().items()]
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    heads = [column.replace("_", " ") for column in columns]
    output_console().print(make_table(heads, [[row[column] for column in columns] for row in rows]))


def _row(name: str, facts: Mapping[str, Any]) -> dict[str, str]:
    shown = {"name": f"{name} (experimental)" if facts.get("experimental") else name}
    for key, value in facts.items():
        if key != "experimental":
            shown[key] = str(value) if not isinstance(value, bool) else "yes" if value else "no"
    return shown
