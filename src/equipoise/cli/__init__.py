"""The command line: one file a command, imported when the command runs."""

from __future__ import annotations

import codecs
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Yaml
from cyclopts.exceptions import UnusedCliTokensError

from equipoise import __version__
from equipoise.types import EquipoiseError, EquipoiseWarning, UsageError
from equipoise.whole_files import no_space

COMMANDS = {
    "compare": "Compare methods under equal conditions, on one dataset or in a grid.",
    "tune": "Tune methods on validation, each with the same number of trials.",
    "train": "Train one model by one method.",
    "prepare": "Turn a downloaded dataset into the prepared format.",
    "diagnose": "Show the learning state of every modality of a run, or of features in a file.",
    "reproduce": "Reproduce a table or figure of the paper, or run an ablation.",
    "report": "Write the HTML report of runs or of a comparison.",
    "list": "List methods, datasets, models or metrics.",
}


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
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with code 0 (success), 1 (the work failed) or 2 (wrong use)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    warnings.simplefilter("ignore")  # warnings of libraries to their developers
    warnings.simplefilter("always", EquipoiseWarning)
    warnings.showwarning = _show_warning
    _print_any_name()
    try:
        app = build_app()
        config = _config_file(words)
        if config is not None:
            app.config = (Yaml(config, must_exist=True, use_commands_as_keys=False),)
        code = app(words, result_action="return_value", print_error=False, exit_on_error=False)
    except CycloptsError as error:
        print(f"equipoise: {_refused(error)}", file=sys.stderr)  # noqa: T201
        _exit(2)
    except EquipoiseError as error:
        print(f"equipoise: {_one_line(str(error))}", file=sys.stderr)  # noqa: T201
        _exit(error.exit_code)
    except Exception as error:
        if (full := no_space(error, Path(tempfile.gettempdir()) / "temporary files")) is not None:
            print(f"equipoise: {_one_line(str(full))}", file=sys.stderr)  # noqa: T201
            _exit(full.exit_code)
        if os.environ.get("EQUIPOISE_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {_one_line(str(error))}"
        print(f"equipoise: unexpected {what} (EQUIPOISE_TRACEBACK=1 shows where)", file=sys.stderr)  # noqa: T201
        _exit(1)
    except KeyboardInterrupt:
        resumable = words[:1] in ([name] for name in ("train", "compare", "tune", "reproduce"))
        advice = "; continue with --resume" if resumable else ""
        print(f"equipoise: interrupted{advice}.", file=sys.stderr)  # noqa: T201
        _exit(130)
    _exit(code if isinstance(code, int) else 0)


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


def _refused(error: CycloptsError) -> str:
    """Return what the parser found wrong, in the form of our own messages, with the command's help."""
    if isinstance(error, UnusedCliTokensError):
        text = f"unexpected {' '.join(map(repr, error.unused_tokens or ()))}."
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
    import yaml

    if not path:
        raise UsageError("--config needs a file; expected --config FILE.yaml.")
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            content = yaml.safe_load(file)
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"the configuration {path} is not valid YAML: {_one_line(str(error))}") from None
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"the configuration {path} has no options; expected lines such as 'epochs: 30'.")
    return path


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {_one_line(str(message))}", file=sys.stderr)  # noqa: T201
