"""`equipoise list`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["methods", "datasets", "models", "metrics"]


def list_command(what: Kind, /, *, config: Path | None = None) -> None:
    """List methods, datasets, models or metrics.

    Args:
        what: methods, datasets, models or metrics.
        config: YAML file with options by name.
    """
    from equipoise import api
    from equipoise.cli.tables import make_table, output_console

    frame = (
        {
            "methods": api.list_methods,
            "datasets": api.list_datasets,
            "models": api.list_models,
            "metrics": api.list_metrics,
        }[what]()
        .to_frame()
        .reset_index()
    )
    if "ready" in frame:
        frame["ready"] = ["yes" if ready else "no" for ready in frame["ready"]]
    if "experimental" in frame:
        marked = frame.pop("experimental")
        frame["name"] = [
            f"{n} (experimental)" if is_so else n for n, is_so in zip(frame["name"], marked, strict=True)
        ]
    frame = frame.loc[:, [column for column in frame if (frame[column] != "").any()]]
    columns = [str(column).replace("_", " ") for column in frame]
    output_console().print(make_table(columns, frame.astype(str).to_numpy().tolist()))
