"""The colours of static figures: those of the page's style sheet in its light scheme."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

VARIABLE: Final = re.compile(r"(--[a-z0-9]+)(?:/(0|1|0?\.\d+))?")
Rgba = tuple[str, float]


@cache
def variables() -> dict[str, str]:
    """Return the colours of the style sheet's light scheme by the name of their variable.

    Two variables of one colour are told apart by one step of blue, which no eye sees, so that a colour of a
    drawing leads back to its variable.
    """
    sheet = (files("equipoise.report") / "templates" / "page.css").read_text(encoding="utf-8")
    light = sheet[sheet.index(":root {") : sheet.index("}")]
    found: dict[str, str] = {}
    for name, value in re.findall(r"(--[a-z0-9]+):\s*(#[0-9a-f]{6})\b", light):
        color = value
        while color in found.values():
            color = f"#{int(color[1:], 16) ^ 1:06x}" if color == value else f"#{int(color[1:], 16) - 2:06x}"
        found[name] = color
    return found


def rgba(color: str, *, paper: str | None = None) -> Rgba:
    """Return the colour and the opacity that a chart's colour (`--c1`, `--c1/0.2`) names.

    Args:
        color: name of a variable of the style sheet, with an opacity or without.
        paper: colour that stands for `--paper`; None keeps the page's own.

    Raises:
        ValueError: it is no such name.
    """
    match = VARIABLE.fullmatch(color)
    if match is None or match[1] not in variables():
        raise ValueError(f"{color!r} is no colour of a chart; expected one of {', '.join(variables())}.")
    plain = paper if paper is not None and match[1] == "--paper" else variables()[match[1]]
    return plain, float(match[2] or 1)


def themed(style: str) -> str:
    """Return a style of an SVG element whose colours are variables of the page's style sheet."""
    for name, color in variables().items():
        style = style.replace(color, f"var({name})")
    return re.sub(r"'DejaVu Sans'(, sans-serif)?", "system-ui, sans-serif", style)
