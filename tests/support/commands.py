"""Commands in this process, as a user gives them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from equipoise.cli import main


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line in which it says why it failed."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("equipoise: ")]
        return line


def command(capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    """Run a command in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = ended.value.code
    return Said(code if isinstance(code, int) else 0, *capsys.readouterr())
