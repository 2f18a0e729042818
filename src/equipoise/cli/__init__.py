"""The command line: one file a command, imported when the command runs."""

from __future__ import annotations

import codecs
import os
import re
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import ENAMETOOLONG
from io import TextIOWrapper
from pathlib import Path
from typing import Final, NoReturn

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Yaml
from cyclopts.exceptions import MissingArgumentError, UnusedCliTokensError

from equipoise import __version__
from equipoise.files.limits import check_machine, machine_limit
from equipoise.files.printable import say
from equipoise.files.untrusted import parse_yaml, parsing, read_text
from equipoise.files.whole import no_space
from equipoise.types import EquipoiseError, EquipoiseWarning, UsageError

COMMANDS = {
    "compare": "Compare methods under equal conditions, on one dataset or in a grid.",
    "tune": "Tune methods on validation, each with the same number of trials.",
    "train": "Train one model by one method.",
    "prepare": "Turn a downloaded dataset into the prepared format.",
    "predict": "Predict samples by a finished run, with what each modality contributed.",
    "export": "Write the model of a finished run as safetensors, ONNX or a program of torch.",
    "diagnose": "Show the learning state of every modality of a run, or of features in a file.",
    "reproduce": "Reproduce a table or figure of the paper, or run an ablation.",
    "report": "Write the HTML report of runs or of a comparison, or a table for a paper.",
    "cite": "Print BibTeX for the methods and datasets of runs or of a comparison.",
    "list": "List methods, datasets, models or metrics.",
}
COMPLETION = {
    "install_completion": "Install completion for bash, zsh or fish.",
    "show_completion": "Print the completion script of bash, zsh or fish.",
}

SPARE: Final = 2**22
"""Bytes that are given back when there is no memory left, to say so."""


def build_app() -> App:
    """Return the application; the commands are imported when they are used."""
    app = App(
        name="equipoise",
        help="Find out how well each modality of a multimodal model has been learnt, and train it so that "
        "none is neglected and none is over-trained.",
        version=__version__,
        default_parameter=Parameter(negative=()),
        help_format="markdown",
        suppress_keyboard_interrupt=False,
    )
    for name, summary in COMMANDS.items():
        app.command(f"equipoise.cli.{name}_command:{name}_command", name=name, help=summary)
    for name, summary in COMPLETION.items():
        app.command(
            f"equipoise.cli.completion.command:{name}", name=f"--{name.replace('_', '-')}", help=summary
        )
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with code 0 (success), 1 (the work failed) or 2 (wrong use)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    warnings.simplefilter("ignore")  # warnings of libraries to their developers
    warnings.simplefilter("always", EquipoiseWarning)
    warnings.showwarning = _show_warning
    _print_any_name()
    spare = bytearray(SPARE)
    try:
        app = build_app()
        config = _config_file(words)
        if config is not None:
            app.config = (Yaml(config, must_exist=True, use_commands_as_keys=False),)
        with _interrupted_by_signals():
            code = app(words, result_action="return_value", print_error=False, exit_on_error=False)
    except CycloptsError as error:
        say(f"equipoise: {_refused(error)}")
        _exit(2)
    except EquipoiseError as error:
        say(f"equipoise: {error}")
        _exit(error.exit_code)
    except Exception as error:
        spare.clear()
        if (full := no_space(error, Path(tempfile.gettempdir()) / "temporary files")) is not None:
            say(f"equipoise: {full}")
            _exit(full.exit_code)
        if os.environ.get("EQUIPOISE_TRACEBACK"):
            raise
        say(f"equipoise: {_unexpected(error)}")
        _exit(1)
    except KeyboardInterrupt as interrupt:
        resumable = words[:1] in ([name] for name in ("train", "compare", "tune", "reproduce"))
        advice = "; continue with --resume" if resumable else ""
        if words[:1] == ["prepare"]:
            advice = "; run the same command again to continue"
        say(f"equipoise: interrupted{advice}.")
        _exit(143 if isinstance(interrupt, Ended) else 130)
    _exit(code if isinstance(code, int) else 0)


class Ended(KeyboardInterrupt):
    """The process was told to end by another one: a scheduler, or a terminal that was closed."""


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Take signals as an interrupt in a block, so that processes are ended and folders freed."""

    def interrupt(*_: object) -> NoReturn:
        raise Ended

    taken = []
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]  # Windows has no SIGHUP
        # Under nohup it is ignored, and stays so.
        taken = [number for number in numbers if number and signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _exit(code: int) -> NoReturn:
    """End the process; one that has worked with others ends at once.

    At a regular exit threads of `torch.distributed` may still run, and torch sometimes aborts the process.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _print_any_name() -> None:
    """Make the output take every name: one that it cannot encode must not end a command after its work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # In the locale C, Python assumes ASCII; terminals and files hold UTF-8.
            if codecs.lookup(stream.encoding).name == "ascii":
                stream.reconfigure(encoding="utf-8", errors="surrogateescape")
            elif stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")


def _unexpected(error: Exception) -> str:
    """Return the words for an error that no room expects: a limit of the machine, or a fault of ours."""
    if (limit := machine_limit(error)) is not None:
        return str(limit)
    if isinstance(error, OSError) and error.filename:
        remedy = "choose a shorter name" if error.errno == ENAMETOOLONG else "check its permissions and disk"
        return f"cannot use {os.fsdecode(error.filename)} ({error.strerror}); {remedy}."
    text = f"{type(error).__name__}: {error}"
    if "DataLoader worker process" in text:  # torch puts the traceback of another process into the message
        text = text.strip().rpartition("\n")[2]
    return f"unexpected {text} (EQUIPOISE_TRACEBACK=1 shows where)"


def _refused(error: CycloptsError) -> str:
    """Return what the parser found wrong, in the form of our own messages, with the command's help."""
    if isinstance(error, UnusedCliTokensError):
        text = f"unexpected {' '.join(map(repr, error.unused_tokens or ()))}."
    elif type(error) is MissingArgumentError and error.argument is not None:
        choices = ", ".join(error.argument.get_choices() or ())
        lack = f"{error.keyword} needs a value" if error.keyword else f"{error.argument.name} is missing"
        text = f"{lack}{f': choose from {choices}' if choices else ''}."
    else:
        text = _one_line(str(error)).replace('"', "'")
        text = re.sub(r"'\[([^]]+)\]' from ", r"'\1' in ", text)  # a key of a configuration
        text = text if text.endswith((".", "?")) else f"{text}."
        text = text[:1].lower() + text[1:]
    command = " ".join(("equipoise", *(error.command_chain or ())))
    return f"{text} See '{command} --help'."


def _config_file(words: Sequence[str]) -> str | None:
    for place, word in enumerate(words):
        if word == "--config":
            return _readable(words[place + 1] if place + 1 < len(words) else "")
        if word.startswith("--config="):
            return _readable(word.removeprefix("--config="))
    return None


def _readable(path: str) -> str:
    if not path:
        raise UsageError("--config needs a file; expected --config FILE.yaml.")
    try:
        text = read_text(Path(path))
    except OSError as error:
        check_machine(error)
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"cannot read the configuration {path}: {error}.") from None
    with parsing(lambda found: UsageError(f"the configuration {path} is not valid YAML: {found}.")):
        content = parse_yaml(text)
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"the configuration {path} has no options; expected lines such as 'epochs: 30'.")
    return path


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    say(f"warning: {message}")
