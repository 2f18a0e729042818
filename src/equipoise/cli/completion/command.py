"""`equipoise --install-completion` and `equipoise --show-completion`."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote
from typing import Final, Literal

from equipoise.cli.completion.script import INSTALL, PROGRAM, SHELLS, SHOW, script
from equipoise.cli.tables import output_console, print_plain
from equipoise.files.whole import write_atomically
from equipoise.types import PathError, UsageError

Shell = Literal["bash", "zsh", "fish"]
MARK: Final = f"# completion of {PROGRAM}"
"""Ends the line in the start-up file of a shell, which is found by it again."""


def install_completion(shell: Shell | None = None, /) -> None:
    """Install completion of commands, options and names for a shell.

    A second time replaces the script, for instance after an update or when a package with methods was added.

    Args:
        shell: bash, zsh or fish. Default: that of SHELL.
    """
    chosen = shell or _own_shell(INSTALL)
    file, start_up = script_file(chosen), start_up_file(chosen)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, script(chosen))
        added = start_up is not None and _add_line(start_up, line(chosen, file))
    except OSError as error:
        where = error.filename or file
        raise PathError(f"cannot write {where} ({error.strerror}); see {PROGRAM} {SHOW} {chosen}.") from None
    console = output_console()
    print_plain(console, f"wrote {file}")
    if start_up is not None:
        print_plain(console, f"{'added a line to' if added else 'its line is already in'} {start_up}")
    print_plain(console, f"It works in new terminals, and in this one after: exec {chosen}")
    undo = f"To undo it, delete {file}"
    print_plain(
        console, f"{undo}, and in {start_up} the line that ends with '{MARK}'." if start_up else f"{undo}."
    )


def show_completion(shell: Shell | None = None, /) -> None:
    """Print the completion script of a shell, to install it by hand.

    Args:
        shell: bash, zsh or fish. Default: that of SHELL.
    """
    print_plain(output_console(), script(shell or _own_shell(SHOW)).removesuffix("\n"))


def script_file(shell: str) -> Path:
    """Return where a shell looks for the scripts of a user."""
    if shell == "fish":
        return _folder("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / f"{PROGRAM}.fish"
    data = _folder("XDG_DATA_HOME", ".local/share")
    if shell == "zsh":
        return data / "zsh" / "site-functions" / f"_{PROGRAM}"
    return data / "bash-completion" / "completions" / PROGRAM


def start_up_file(shell: str) -> Path | None:
    """Return the file that needs a line so that the script is read; fish finds it by itself."""
    if shell == "fish":
        return None
    return Path.home() / ".bashrc" if shell == "bash" else _folder("ZDOTDIR", ".") / ".zshrc"


def line(shell: str, file: Path) -> str:
    """Return that line: it reads the script if it is still there."""
    name = quote(str(file))
    if shell == "bash":
        return f"[ -r {name} ] && . {name}  {MARK}"
    # zsh reads the script when it is first needed. Its completion has to be turned on, unless it is already.
    start = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"
    own = f"fpath+={quote(str(file.parent))}; autoload -Uz {file.name} && compdef {file.name} {PROGRAM}"
    return f"[ -r {name} ] && {{ {start}; {own}; }}  {MARK}"


def _add_line(start_up: Path, wanted: str) -> bool:
    """Add a line at the end of a file; return whether it was not there yet."""
    held = start_up.read_text(encoding="utf-8", errors="surrogateescape") if start_up.exists() else ""
    if wanted in held.splitlines():
        return False
    with start_up.open("a", encoding="utf-8") as stream:  # what the file holds is never written anew
        stream.write(f"{'' if held.endswith(chr(10)) or not held else chr(10)}{wanted}\n")
    return True


def _folder(variable: str, usual: str) -> Path:
    chosen = os.environ.get(variable)
    return Path(chosen) if chosen else Path.home() / usual


def _own_shell(option: str) -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        found = f"SHELL is {name!r}" if name else "SHELL is not set"
        raise UsageError(f"{found}; expected {PROGRAM} {option} {', '.join(SHELLS[:-1])} or {SHELLS[-1]}.")
    return name
