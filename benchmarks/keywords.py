"""Write the types of keyword options from the dataclasses that hold them, and the list of all methods.

Usage: python benchmarks/keywords.py src/equipoise
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from inspect import signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import equipoise as eq
from equipoise.relearning.options import RelearnOptions
from equipoise.training.settings import Budget, Settings

HEAD = '''\
"""The keyword options of functions by name and type, for editors and type checkers.

Not edited by hand: `make keywords` writes this file from `Settings`, `Budget`, `DiagnosisOptions` and
`RelearnOptions`. Their docstrings say what each option means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
'''
STUB = '''\
"""The classes of all methods, whose fields are their options. Written by `make keywords`."""
'''
Options = Mapping[str, Any]
"""Name to type."""


def options_of(kinds: Iterable[type], taken: Iterable[str] = ()) -> Options:
    """Return the fields of dataclasses, but those whose names are taken, with their types."""
    held = set(taken)
    return {
        field.name: get_type_hints(kind)[field.name]
        for kind in kinds
        for field in fields(kind)
        if field.name not in held
    }


def parameters(called: Callable[..., Any]) -> set[str]:
    """Return the parameters that a function names itself."""
    return {one.name for one in signature(called).parameters.values() if one.kind is not one.VAR_KEYWORD}


def keywords() -> dict[str, tuple[str, str, Options]]:
    """Return the class for each group of options: its base, what it is for, its own options."""
    of_fit = options_of((Settings, Budget), {"budget", *parameters(eq.fit)})
    of_compare = options_of((Settings, Budget), {"budget", "data", "method", "seed", *parameters(eq.compare)})
    measuring = options_of((eq.DiagnosisOptions,))
    return {
        "FitKeywords": (
            "TypedDict",
            "Fields of `Settings` and `Budget` that `fit` does not list itself.",
            of_fit,
        ),
        "CompareKeywords": (
            "FitKeywords",
            "Fields of `Settings` and `Budget` that all runs of a comparison or tuning share.",
            {name: kind for name, kind in of_compare.items() if name not in of_fit},
        ),
        "DiagnosisKeywords": ("TypedDict", "Fields of `DiagnosisOptions`.", measuring),
        "RelearnKeywords": (
            "DiagnosisKeywords",
            "Fields of `RelearnOptions` and `DiagnosisOptions`.",
            options_of((RelearnOptions,)),
        ),
    }


def in_code(kind: Any) -> str:
    """Return a type as it is written in code."""
    if kind in (None, NoneType):
        return "None"
    if kind is Any or kind is Ellipsis:
        return {Any: "Any", Ellipsis: "..."}[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is None:
        return str(kind.__name__)
    if origin in (Union, UnionType):
        return " | ".join(map(in_code, inner))
    if origin is Literal:
        return f"Literal[{', '.join(map(_quoted, inner))}]"
    if isinstance(inner[0], list):  # the arguments of a Callable
        return f"{origin.__name__}[[{', '.join(map(in_code, inner[0]))}], {in_code(inner[1])}]"
    return f"{origin.__name__}[{', '.join(map(in_code, inner))}]"


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def module() -> str:
    """Return the source of the module."""
    parts = [HEAD]
    for name, (base, purpose, options) in keywords().items():
        rows = [f"    {option}: {in_code(kind)}" for option, kind in options.items()]
        parts.append(
            "\n".join([f"\nclass {name}({base}, total=False):", f'    """{purpose}"""', "", *rows, ""])
        )
    return "\n".join(parts)


def classes() -> str:
    """Return the stub of `equipoise.methods`: what its module imports, and the class of every method."""
    held = ast.parse(Path(eq.methods.__file__).read_text(encoding="utf-8")).body
    imported = [ast.unparse(line) for line in held if isinstance(line, ast.ImportFrom) and line.level == 0]
    own = [kind for kind in eq.methods.METHODS.values() if kind.__module__.startswith("equipoise.methods.")]
    imported += [f"from {kind.__module__} import {kind.__name__} as {kind.__name__}" for kind in own]
    return "\n".join([STUB, *sorted(line for line in imported if "equipoise" in line), ""])


FILES: dict[str, Callable[[], str]] = {"keywords.py": module, "methods/__init__.pyi": classes}


if __name__ == "__main__":
    for name, write in FILES.items():
        (Path(sys.argv[1]) / name).write_text(write(), encoding="utf-8")
