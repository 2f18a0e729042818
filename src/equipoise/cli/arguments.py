"""The arguments of commands: their types, and those that are read from `Settings` and `Budget`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import wraps
from inspect import Parameter as Argument
from inspect import cleandoc, signature
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import Parameter, Token

from equipoise.training.option_text import IN_TEXT
from equipoise.training.recipe import recipes
from equipoise.training.settings import Budget, Settings
from equipoise.typed_options import WORDS
from equipoise.types import PathError, UsageError

DEFAULT_DATA = "htad"
LONGEST = 60
"""Characters of the name of a folder that is chosen by default."""


def _reader(kind: type, what: str) -> Callable[[object, Sequence[Token]], Any]:
    """Return a converter of an argument that says in words what it expected; 1.5 is no whole number."""

    def read(_: object, tokens: Sequence[Token]) -> Any:
        text = tokens[0].value
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"expected {what}, found {text!r}") from None

    return read


Words = Annotated[list[str], Parameter(consume_multiple=True)]
SomeWords = Annotated[list[str], Parameter(consume_multiple=(1, None))]
Whole = Annotated[int, Parameter(converter=_reader(int, WORDS[int]))]
Number = Annotated[float, Parameter(converter=_reader(float, WORDS[float]))]


def check_figures(figures: Path | None, formats: Sequence[str] | None, width: str = "text") -> None:
    """Check the options of figures before any work."""
    from equipoise.report.render import check_formats

    if figures is None:
        for option, given in (("--formats", formats is not None), ("--figure-width", width != "text")):
            if given:
                raise UsageError(f"{option} is an option of figures; give --figures DIR too.")
    check_formats(formats or (), width)
    if figures is not None:
        _check_writable(figures, "--figures DIR")


def check_report(path: Path, overwrite: bool) -> None:
    """Check before any work that a report can be written."""
    if path.exists() and not overwrite:
        raise PathError(f"{path} exists; give --overwrite to replace it, or --out FILE.")
    if path.is_dir():
        raise PathError(f"{path} is a folder; expected the name of a file: --out FILE.")
    _check_writable(path.parent, "--out FILE")


def _check_writable(folder: Path, option: str) -> None:
    """Raise PathError if files cannot be written in a folder, which is created if it does not exist."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        found = "cannot be written" if there.is_dir() else "is a file, not a folder"
        raise PathError(f"{there} {found}; choose another place: {option}.")


def free_folder(name: str, *, reuse: bool) -> Path:
    """Return `runs/name`, or `runs/name-2` and so on if that exists and must not be reused.

    A name that grew long with what it names is cut.

    Raises:
        UsageError: a folder is to be reused, and there are several of them.
    """
    first = Path("runs") / name[:LONGEST]
    if not reuse:
        others = (first.with_name(f"{first.name}-{number}") for number in count(2))
        return next(path for path in chain([first], others) if not path.exists())
    numbered = re.compile(rf"{re.escape(first.name)}(-[0-9]+)?")
    there = [path for path in first.parent.glob("*") if numbered.fullmatch(path.name)]
    there.sort(key=lambda path: (len(path.name), path.name))
    if len(there) > 1:
        raise UsageError(f"{', '.join(map(str, there))} exist; say which is meant: --out {there[-1]}.")
    return there[0] if there else first


def with_settings(
    *, without: Sequence[str] = ()
) -> Callable[[Callable[..., int | None]], Callable[..., Any]]:
    """Return a decorator that gives a command one option for each field of `Settings` and `Budget`.

    The command receives the options that were given as the mapping `chosen`, from which `from_options` reads
    the settings; `data` is always among them, unless it is left out.

    Args:
        without: fields that are no options of this command.
    """
    own = {argument.name: argument for argument in settings_arguments(without)}

    def decorate(command: Callable[..., int | None]) -> Callable[..., Any]:
        @wraps(command)
        def called(**given: Any) -> int | None:
            chosen = {"data": DEFAULT_DATA} if "data" in own else {}
            chosen |= {name: given.pop(name) for name in own if name in given}
            return command(**given, chosen=chosen)

        hints = get_type_hints(command, include_extras=True)
        kept = [
            argument.replace(annotation=hints[name])
            for name, argument in signature(command).parameters.items()
            if name != "chosen"
        ]
        called.__signature__ = signature(command).replace(  # type: ignore[attr-defined]
            parameters=[*kept, *own.values()], return_annotation=hints["return"]
        )
        called.__annotations__ = {argument.name: argument.annotation for argument in (*kept, *own.values())}
        return called

    return decorate


def settings_arguments(without: Sequence[str] = ()) -> Iterator[Argument]:
    """Yield the arguments for the fields of `Settings` and `Budget`: name, type, default and help text."""
    for kind in (Settings, Budget):
        helps, hints = help_texts(kind), get_type_hints(kind)
        for field in fields(kind):
            if field.name in ("budget", *without):
                continue
            name = IN_TEXT.get(field.name, field.name)
            annotation: Any = Annotated[
                _type_of(field, hints[field.name]),
                Parameter(name=f"--{name.replace('_', '-')}", help=helps[field.name]),
            ]
            yield Argument(name, Argument.KEYWORD_ONLY, default=_default_of(field), annotation=annotation)


def help_texts(kind: type) -> Mapping[str, str]:
    """Return field to text, from the section `Attributes` of a dataclass's docstring."""
    section = cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _type_of(field: Field[Any], hint: Any) -> Any:
    """Return the type on the command line: mappings are lists of NAME=VALUE, and 1.5 is no whole number."""
    if field.name in IN_TEXT or field.name == "encoder":
        return Words | None
    if field.name in ("modalities", "logger"):
        return SomeWords | None
    return {int: Whole, int | None: Whole | None, float: Number, float | None: Number | None}.get(hint, hint)


def _default_of(field: Field[Any]) -> Any:
    if field.name == "data":
        return DEFAULT_DATA
    # Mappings have no default to show, nor has what depends on the data: the encoder, and what recipes give.
    if field.default is MISSING or field.name in ("encoder", *recipes()["paper"].budget):
        return None
    return field.default
