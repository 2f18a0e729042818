"""What to cite: the BibTeX entries of the methods and datasets of comparisons and runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from equipoise import __version__
from equipoise.data.datasets import DATASETS
from equipoise.experiments.compare.comparison import Comparison
from equipoise.methods import METHODS
from equipoise.methods.core.creation import base_names
from equipoise.report.records import comparisons_of
from equipoise.types import UnknownNameError

FILE: Final = "bibliography.bib"
RANKS: Final = "demsar2006statistical"
"""Of the comparison of ranks over several datasets."""
OWN: Final = f"""\
@software{{equipoise,
  author    = {{{{The Equipoise developers}}}},
  title     = {{Equipoise}},
  version   = {{{__version__}}},
}}"""
ENTRY: Final = re.compile(r"^@\w+\{([^,\s]+),", re.MULTILINE)


@cache
def bibliography() -> Mapping[str, str]:
    """Return the entries of the bibliography by key."""
    return entries((files("equipoise.report") / FILE).read_text(encoding="utf-8"))


def entries(text: str) -> dict[str, str]:
    """Divide BibTeX, of which each entry starts a line, into its entries by key."""
    starts = [*ENTRY.finditer(text)]
    ends = [*(start.start() for start in starts[1:]), len(text)]
    return {start[1]: text[start.start() : end].strip() for start, end in zip(starts, ends, strict=True)}


def citations(folders: Sequence[Path]) -> str:
    """Return BibTeX for what the runs in these folders used: methods, datasets, the toolkit, ranks.

    What has no entry is named in a comment.

    Args:
        folders: of comparisons, of a grid, or of runs, as of `write_report`.

    Raises:
        RunFolderError, PathError, UsageError: see `comparisons_of`.
    """
    found = comparisons_of(folders)
    used = [
        *((f"the dataset {name}", _of_dataset(name)) for name in _datasets(found.values())),
        *((f"the method {name}", _of_method(name)) for name in _methods(found.values())),
    ]
    shown: dict[str, str] = dict.fromkeys([OWN], "")
    for what, held in used:
        for entry in held or ():
            said = shown.get(entry)
            shown[entry] = f"{said}, {what}" if said else what
    if len({str(one.summary["dataset"]) for one in found.values()}) > 1:
        shown[bibliography()[RANKS]] = "mean ranks over datasets and their critical difference"
    parts = [f"% {said}\n{entry}" if said else entry for entry, said in shown.items()]
    unknown = [what for what, held in used if held is None]
    parts += [f"% No entry is known for {what}." for what in unknown]
    return "\n\n".join(parts) + "\n"


def _methods(found: Iterable[Comparison]) -> list[str]:
    """Return the registered names of all methods; runs with other options have them in brackets."""
    names: dict[str, None] = {}
    for one in found:
        for name in one.summary["methods"]:
            spec = str(name).partition(" (")[0]
            try:
                names |= dict.fromkeys(base_names(spec))
            except UnknownNameError:  # of a package that is not installed here
                names[spec] = None
    return list(names)


def _datasets(found: Iterable[Comparison]) -> list[str]:
    """Return the names of all datasets; one that was made from another keeps its name at the beginning."""
    names: dict[str, None] = {}
    for one in found:
        for name in str(one.summary["dataset"]).split(" and "):
            known = re.split(r",| with ", name)[0]
            names[known if known in DATASETS else name] = None
    return list(names)


def _of_method(name: str) -> list[str] | None:
    """Return the entries of a method, none for a usual baseline; None if it is not known."""
    return _entries(METHODS[name].bibtex) if name in METHODS else None


def _of_dataset(name: str) -> list[str] | None:
    return _entries(DATASETS[name].bibtex) if name in DATASETS and DATASETS[name].bibtex else None


def _entries(held: Sequence[str]) -> list[str] | None:
    """Return entries of the bibliography by key, and whole ones as they are; None if one is unknown."""
    known = [text.strip() if text.lstrip().startswith("@") else bibliography().get(text) for text in held]
    found = [entry for entry in known if entry is not None]
    return found if len(found) == len(known) else None
