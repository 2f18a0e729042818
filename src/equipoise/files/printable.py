"""Texts from files and names, made safe to print."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import Final

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Write control characters as their escapes; line feeds and tabs stay.

    A terminal would obey a control character in a name: clear the screen, or change its title. Marks that
    turn the direction of writing, which can disguise a name, and lone surrogates count as such too.
    """
    with suppress(UnicodeError):  # in the locale C the bytes of a name, each by itself
        text = text.encode("utf-8", "surrogateescape").decode("utf-8")
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def say(text: str) -> None:
    """Print a message in one line, which names of users cannot leave; the only way to the error stream."""
    print(printable(" ".join(text.split())), file=sys.stderr, flush=True)  # noqa: T201
