"""The page of measurements: a section for each machine and version, and in it a part for each line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from records import Records

INTRODUCTION = """# Speed

Written by `make bench` from its records; not edited by hand. Each machine and set of versions has a section.
A new measurement replaces its own lines there, and nothing else.

Every ratio is of two things measured in turn, round by round. The table has the median, the lowest and the
highest of the rounds by the clock, and the median by processor time, which other processes on the machine
hardly change. The seconds are medians, of the first thing and of the second. The MLP is that of HTAD; the
video CNN is the default for AVLetters, on made-up data of the same shapes (24 x 26 cepstra, 12 frames of 15 x
20 pixels; 390, 130 and 260 samples). All is on one thread where nothing else is said. Some lines are measured
by `make bench LINES="a d"`.
"""


def write_page(path: Path, records: Records) -> None:
    """Write the lines of the records into their section; other sections, and other lines of it, are kept."""
    sections = _parts(path.read_text(encoding="utf-8"), "## ") if path.is_file() else {}
    own = f"{records.place.heading}\n"
    lines = _parts(sections.pop(own, ""), "### ")
    lines |= {f"({one}) {line['title']}\n": _line(line) for one, line in records.lines().items()}
    body = "".join(f"### {title}{lines[title]}" for title in sorted(lines))
    sections = {own: f"\n{_summary(lines)}{body}", **sections}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = INTRODUCTION + "".join(f"\n## {title}{section}" for title, section in sections.items())
    path.write_text(text.rstrip() + "\n", encoding="utf-8")


def _parts(text: str, mark: str) -> dict[str, str]:
    """Return the text below each heading of one level; what is above the first is left out."""
    found = [part.partition("\n") for part in re.split(rf"^{mark}", text, flags=re.MULTILINE)[1:]]
    return {f"{title}\n": f"{body.rstrip()}\n\n" for title, _, body in found}


def _summary(lines: Mapping[str, str]) -> str:
    """Say how many limits hold, and which do not."""
    rows = [(title[:3], row) for title, text in lines.items() for row in text.splitlines()]
    held = [row for _, row in rows if "| yes |" in row]
    failed = [f"{letter} {row.split(' | ')[0].strip('| ')}" for letter, row in rows if "| no |" in row]
    if not held and not failed:
        return ""
    text = f"{len(held)} of {len(held) + len(failed)} limits hold."
    return text + (f" Not these: {'; '.join(failed)}." if failed else "") + "\n\n"


def _line(line: Mapping[str, Any]) -> str:
    """Return the text below the heading of a line."""
    busy = f"{line['load']:.1f} busy processes before it"
    text = ["", f"{line['date']}, commit {line['commit']}, {busy}, {line['took']:.0f} s.", ""]
    if line["ratios"]:
        text += [
            "| what | ratio | lowest | highest | by CPU | asked | holds | seconds | seconds |",
            "|---|---:|---:|---:|---:|---:|---|---:|---:|",
            *(_ratio(ratio) for ratio in line["ratios"]),
            "",
        ]
    if line["table"]:
        columns = list(line["table"][0])
        text += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        text += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in line["table"]]
        text += [""]
    for what, why in line["missing"].items():
        text += [f"Not measured: {what}, because {why}.", ""]
    for note in line["notes"]:
        text += [note, ""]
    return "\n".join(text) + "\n"


def _ratio(ratio: Mapping[str, Any]) -> str:
    asked = "" if ratio["asked"] is None else f"{'≥' if ratio['at_least'] else '≤'} {ratio['asked']:g}"
    holds = {None: "", True: "yes", False: "no"}[ratio["holds"]]
    numbers = [f"{ratio[key]:.2f}" for key in ("ratio", "lowest", "highest", "ratio_by_cpu")]
    seconds = [_cell(value) + ratio["unit"] for value in ratio["seconds"]]
    return f"| {' | '.join([ratio['what'], *numbers, asked, holds, *seconds])} |"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)
