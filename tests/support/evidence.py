"""Evidence for docs/results/reliability.md: with `EQUIPOISE_EVIDENCE=FILE.jsonl` each trial adds a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def evidence(part: str, **row: Any) -> None:
    """Add a line about one trial, where the variable is set; `part` names the kind of trials."""
    if place := os.environ.get("EQUIPOISE_EVIDENCE"):
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": part, **row}) + "\n")
