"""In what two folders of finished work differ, one of which was killed and continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

LEFT = (".part", ".lock", "checkpoint.pt", "error.txt")
"""Ends of the names of files that finished work does not hold."""
UNEQUAL = ("summary.json", "report.html", "grid.csv")
"""Files with times, dates or paths, of which the figures are elsewhere."""
OF_A_RUN = ("seconds", "environment", "peak_memory_bytes", "parts", "seals", "owner")
"""Ends of the names of what differs from run to run."""


def difference(one: Path, other: Path) -> str:
    """Return in what two folders of finished work differ, except for times; nothing where they are equal."""
    names = [
        {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and p.parent.name != "floors"}
        for out in (one, other)
    ]
    if names[0] != names[1]:
        return f"files of one only: {', '.join(sorted(names[0] ^ names[1])[:5])}"
    if left := [name for name in sorted(names[0]) if name.endswith(LEFT)]:
        return f"left behind: {', '.join(left[:5])}"
    for name in sorted(names[0]):
        if Path(name).name in UNEQUAL:
            continue
        if name.endswith("results.csv"):
            tables = [pd.read_csv(out / name) for out in (one, other)]
            lasts = [table[[c for c in table if not str(c).endswith(OF_A_RUN)]] for table in tables]
            same = lasts[0].equals(lasts[1])
        elif name.endswith((".json", ".jsonl")):
            texts = [(out / name).read_text(encoding="utf-8") for out in (one, other)]
            same = lasting(texts[0]) == lasting(texts[1])
        elif name.endswith("tuned.yaml"):
            contents = [yaml.safe_load((out / name).read_text(encoding="utf-8")) for out in (one, other)]
            same = bare(contents[0]) == bare(contents[1])
        elif name.endswith(".db"):
            same = trials_of(one / name) == trials_of(other / name)
        else:
            same = (one / name).read_bytes() == (other / name).read_bytes()
        if not same:
            return f"{name} differs"
    return ""


def trials_of(database: Path) -> dict[str, list[Any]]:
    """Return the ended trials of each study: settings, state and figures."""
    import optuna

    found, url = {}, f"sqlite:///{database}"
    for name in optuna.get_all_study_names(url):
        trials = optuna.load_study(study_name=name, storage=url).trials
        ended = [t for t in trials if t.state.name in ("COMPLETE", "PRUNED")]
        found[name] = sorted(repr((t.params, t.state.name, t.values, t.intermediate_values)) for t in ended)
    return found


def lasting(text: str) -> list[Any]:
    """Return the content of JSON, or of lines of it, without what differs from run to run."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(text.rstrip()):
        value, place = decoder.raw_decode(text, place)
        found.append(bare(value))
        place += len(text[place:]) - len(text[place:].lstrip())
    return found


def bare(value: Any) -> Any:
    """Return a value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: bare(own) for key, own in value.items() if not str(key).endswith(OF_A_RUN)}
    return [bare(own) for own in value] if isinstance(value, list) else value
