"""No control character of a name reaches a terminal."""

from __future__ import annotations

import pytest

from equipoise.files.printable import printable, say

HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202eb\u2066\r\x08\x00c\ud800"


def test_control_characters_are_written_as_escapes() -> None:
    shown = printable(HOSTILE)
    assert shown.isprintable()
    assert shown.startswith(r"a\x1b[2J\x1b]0;owned\x07\x9b31m\u202eb")
    assert shown.encode("ascii").decode("unicode_escape") == HOSTILE  # nothing is lost
    for name in ("Zoë", "日本語", "\u0645\u06cc\u200c\u062e", "👩\u200d🔬", "two words\tand\nlines"):
        assert printable(name) == name


def test_a_message_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"cannot read {HOSTILE}\n\tat all")
    shown = capsys.readouterr().err
    assert shown.endswith("at all\n")
    assert shown[:-1].isprintable()
