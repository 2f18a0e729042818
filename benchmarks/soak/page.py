"""docs/results/reliability.md, from the rows of a soak.

A part without rows has no section.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

import pandas as pd
from kills import SECONDS, WAYS

SAID, READ = 160, "read as plain content"
"""Most letters of a message on the page, and what it says of files that are read."""
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


def write(
    kills: pd.DataFrame, mutations: pd.DataFrame, guided: pd.DataFrame, hostile: pd.DataFrame, path: Path
) -> None:
    """Write the page."""
    path.write_text(text(kills, mutations, guided, hostile), encoding="utf-8")


def text(kills: pd.DataFrame, mutations: pd.DataFrame, guided: pd.DataFrame, hostile: pd.DataFrame) -> str:
    """Return the page."""
    parts = [
        (kills, answer_of_kills, of_kills),
        (mutations, answer_of_mutations, of_mutations),
        (guided, answer_of_guided, of_guided),
        (hostile, answer_of_hostile, of_hostile),
    ]
    held = [(table, answer, of) for table, answer, of in parts if len(table)]
    lines = [
        "# Reliability",
        "",
        "Asked: does a command that is killed lose or change anything, and does a file that is damaged, or "
        "made to do harm, do more than be refused?",
        "",
        *(f"- {answer(table)}" for table, answer, _ in held),
        "",
        *(line for table, _, of in held for line in of(table)),
        *conditions(pd.concat([table for table, *_ in held])),
    ]
    return "\n".join(lines)


def of_kills(table: pd.DataFrame) -> list[str]:
    """Return the section about commands that were killed."""
    lines = [
        "## Killed commands",
        "",
        "Each command runs in a fresh interpreter, is ended at a random moment, and is given again with "
        "`--resume` until it ends by itself. Then its folder is compared with that of an unbroken run: "
        "weights, predictions and snapshots byte for byte; events, results and tables but for times and "
        "paths; nothing may be left behind. Moments count from the start of the command, or from a change in "
        "what it writes.",
        "",
        "### By command",
        "",
        *HEAD,
        *by(table, "case"),
        "",
        "### By way",
        "",
        *HEAD,
        *by(table, "way"),
        "",
        *(f"- `{way}`: {MEANT[way]}." for way in WAYS),
        "",
    ]
    if (failures := failed(table)).any():
        lines += ["### Kills that went wrong", ""]
        lines += [
            f"- {row['case']}, {row['way']}, after {row['after']} s, at `{row['commit']}`: "
            f"{row['difference'] or 'see its row'}"
            for row in table[failures].fillna("").to_dict("records")
        ]
        lines.append("")
    return lines


def conditions(table: pd.DataFrame) -> list[str]:
    """Return the section about the machine and the sources."""
    commits = ", ".join(f"`{name}`" for name in dict.fromkeys(table["commit"]))
    pythons = ", ".join(dict.fromkeys(table["python"].astype(str)))
    return [
        "## Conditions",
        "",
        f"- Commits {commits}; Python {pythons}; {table['cores'].max()} cores.",
        "- Written by `make soak` from the rows in `docs/results/reliability`; not edited by hand.",
        "",
    ]


def of_mutations(table: pd.DataFrame) -> list[str]:
    """Return the section about damaged copies of files."""
    good = table[table["failed"] == ""]
    rows = [
        f"| {row['reader']} | `{row['file']}` | {row['count']:,.0f} | {row['refused']:,.0f} "
        f"| {row['read']:,.0f} | {row['slowest']:.2f} s | {row['most'] / 2**20:.1f} MiB |"
        for row in good.sort_values(["reader", "file"], kind="stable").to_dict("records")
    ]
    return [
        "## Damaged files",
        "",
        "Each copy has one to four faults: bits flipped, bytes set, cut out, repeated or spliced in, the end "
        "cut off, an extreme number. Where a row says `other content`, the copies parse, but one to three of "
        "their entries are left out, added, or of another kind. None may cost 5 s of the processor, or more "
        "memory than twice what the whole file needs and 64 MiB.",
        "",
        "| reader | file | copies | refused | read | slowest | most memory beyond the whole file's |",
        "|---|---|---:|---:|---:|---:|---:|",
        *rows,
        "",
        *failures(table, "Readers that failed"),
    ]


def of_guided(table: pd.DataFrame) -> list[str]:
    """Return the section about inputs that were searched."""
    good = table[table["failed"] == ""]
    rows = [
        f"| {row['reader']} | `{row['file']}` | {row['count']:,.0f} | {row['reached']:,.0f} "
        f"| {row['refused']:,.0f} | {row['slowest']:.2f} s | {row['most'] / 2**20:.1f} MiB |"
        for row in good.sort_values(["reader", "file"], kind="stable").to_dict("records")
    ]
    return [
        "## Searched inputs",
        "",
        "Atheris changes a whole file again and again, and goes on from what reaches code of Equipoise that "
        "nothing before it has reached. The bounds are those of damaged files.",
        "",
        "| reader | file | inputs | reached something new | refused | slowest | most memory beyond the whole "
        "file's |",
        "|---|---|---:|---:|---:|---:|---:|",
        *rows,
        "",
        *failures(table, "Readers that failed on searched inputs"),
    ]


def of_hostile(table: pd.DataFrame) -> list[str]:
    """Return the section about files that are made to do harm."""
    good = table[table["failed"] == ""]
    said = [shorten(text or READ, SAID, placeholder=" ...") for text in good["said"]]
    rows = [
        f"| {kind} | {cell(tries)} | {cell(what)} |"
        for kind, tries, what in zip(good["kind"], good["tries"], said, strict=True)
    ]
    return [
        "## Hostile files",
        "",
        "Each is opened as a user would open it, by its command or reader, while everything is watched that "
        "starts a program, connects to a network, or writes, moves or removes a file.",
        "",
        "| kind | what it tries | what is said |",
        "|---|---|---|",
        *rows,
        "",
        *failures(table, "Files that did harm"),
    ]


def failures(table: pd.DataFrame, title: str) -> list[str]:
    """Return a section about the tests that failed, if any did."""
    bad = table[table["failed"] != ""].to_dict("records")
    lines = [f"- `{row['test']}`, at `{row['commit']}`: {cell(row['failed'])}" for row in bad]
    return [f"### {title}", "", *lines, ""] if bad else []


def cell(text: str) -> str:
    """Return a text for a cell of a table: names in it are no Markdown and no HTML."""
    plain = " ".join(str(text).split())
    return f"`` {plain.replace('|', chr(92) + '|')} ``" if set(plain) & set("`<>&[]*_\\|") else plain


def failed(table: pd.DataFrame) -> pd.Series:
    """Return which kills went wrong."""
    return ~table["equal"].astype(bool) | table["hung"].astype(bool) | (table["left"] > SECONDS)


def answer_of_kills(table: pd.DataFrame) -> str:
    bad = int(failed(table).sum())
    what = (
        "No result differed, no command hung, and no process was left after 10 s."
        if not bad
        else f"{bad} of them went wrong; they are listed below."
    )
    return f"**{len(table)} kills of {table['case'].nunique()} commands.** {what}"


def answer_of_mutations(table: pd.DataFrame) -> str:
    return f"**{_tried(table):,.0f} damaged copies of {_good(table)} files.** {_read_or_refused(table)}"


def answer_of_guided(table: pd.DataFrame) -> str:
    return f"**{_tried(table):,.0f} searched inputs for {_good(table)} files.** {_read_or_refused(table)}"


def answer_of_hostile(table: pd.DataFrame) -> str:
    bad = len(table) - _good(table)
    what = (
        "None executed anything, changed a file outside its folder, or took more than 5 s of the processor."
        if not bad
        else f"{bad} of them did harm; they are listed below."
    )
    return f"**{len(table)} hostile files.** {what}"


def _good(table: pd.DataFrame) -> int:
    return int((table["failed"] == "").sum())


def _tried(table: pd.DataFrame) -> float:
    return float(table.loc[table["failed"] == "", "count"].sum())


def _read_or_refused(table: pd.DataFrame) -> str:
    if bad := len(table) - _good(table):
        return f"{bad} readers failed; they are listed below."
    return "Every one was read, or refused in one line by an error of Equipoise."


def by(table: pd.DataFrame, column: str) -> list[str]:
    return [
        f"| {name} | {len(rows)} | {int(rows['running'].sum())} | {int((~rows['equal'].astype(bool)).sum())} "
        f"| {int(rows['hung'].sum())} | {int((rows['left'] > SECONDS).sum())} | {rows['left'].max():.1f} s |"
        for name, rows in table.groupby(column, sort=False)
    ]
