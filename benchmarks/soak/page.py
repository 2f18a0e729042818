"""docs/results/reliability.md, from the rows of a soak."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from kills import SECONDS, WAYS

MEANT = {
    "command": "SIGKILL to the command alone, whose workers have to notice",
    "worker": "SIGKILL to one worker",
    "all": "SIGKILL to all processes",
    "SIGTERM": "SIGTERM to the command",
    "SIGINT": "Ctrl-C: SIGINT to all processes",
}


HEAD = (
    "| what | kills | while running | unequal | hung | processes left after 10 s | until the last ended |",
    "|---|---:|---:|---:|---:|---:|---:|",
)


def write(table: pd.DataFrame, path: Path) -> None:
    """Write the page."""
    path.write_text(text(table), encoding="utf-8")


def text(table: pd.DataFrame) -> str:
    """Return the page."""
    lines = [
        "# Reliability",
        "",
        "Written by `make soak` from the rows in `docs/results/reliability`; not edited by hand.",
        "",
        *answer(table),
        "",
        "Each command runs in a fresh interpreter, is ended at a random moment, and is given again with "
        "`--resume` until it ends by itself. Then its folder is compared with that of an unbroken run: "
        "weights, predictions and snapshots byte for byte; events, results and tables but for times and "
        "paths; nothing may be left behind. Moments count from the start of the command, or from a change in "
        "what it writes.",
        "",
        "## By command",
        "",
        *HEAD,
        *by(table, "case"),
        "",
        "## By way",
        "",
        *HEAD,
        *by(table, "way"),
        "",
        *(f"- `{way}`: {MEANT[way]}." for way in WAYS),
        "",
    ]
    if (failures := failed(table)).any():
        lines += ["## What failed", ""]
        lines += [
            f"- {row['case']}, {row['way']}, after {row['after']} s, at `{row['commit']}`: "
            f"{row['difference'] or 'see its row'}"
            for row in table[failures].fillna("").to_dict("records")
        ]
        lines.append("")
    commits = ", ".join(f"`{name}`" for name in dict.fromkeys(table["commit"]))
    pythons = ", ".join(dict.fromkeys(table["python"].astype(str)))
    lines += [
        "## Conditions",
        "",
        f"- Commits {commits}; Python {pythons}; {table['cores'].max()} cores.",
        "",
    ]
    return "\n".join(lines)


def failed(table: pd.DataFrame) -> pd.Series:
    """Return which kills went wrong."""
    return ~table["equal"].astype(bool) | table["hung"].astype(bool) | (table["left"] > SECONDS)


def answer(table: pd.DataFrame) -> list[str]:
    bad = int(failed(table).sum())
    what = (
        "No result differed, no command hung, and no process was left after 10 s."
        if not bad
        else f"{bad} of them went wrong; they are listed below."
    )
    return [f"{len(table)} kills of {table['case'].nunique()} commands. {what}"]


def by(table: pd.DataFrame, column: str) -> list[str]:
    return [
        f"| {name} | {len(rows)} | {int(rows['running'].sum())} | {int((~rows['equal'].astype(bool)).sum())} "
        f"| {int(rows['hung'].sum())} | {int((rows['left'] > SECONDS).sum())} | {rows['left'].max():.1f} s |"
        for name, rows in table.groupby(column, sort=False)
    ]
