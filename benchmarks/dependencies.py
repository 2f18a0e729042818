"""Write the list of all packages that Equipoise brings with it, with their licences.

Usage: python benchmarks/dependencies.py docs/dependencies.md

A licence that is not known to be compatible with Apache-2.0, or a package that is not installed, ends it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CALLED = {
    "Apache-2.0": ("Apache 2.0", "Apache 2.0 License", "Apache Software License", "Apache-2.0"),
    "BSD": ("BSD License",),
    "BSD-2-Clause": ("BSD-2-Clause",),
    "BSD-3-Clause": ("BSD-3-Clause", "3-Clause BSD License"),
    "ISC": ("ISC", "ISC License (ISCL)"),
    "MIT": ("MIT", "MIT License"),
    "MIT-0": ("MIT-0",),
    "MIT-CMU": ("MIT-CMU",),
    "MPL-2.0": ("MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)"),
    "PSF-2.0": ("PSF-2.0", "Python Software Foundation License"),
    "Apache-2.0 AND CNRI-Python": ("Apache-2.0 AND CNRI-Python",),
    "Apache-2.0 AND MIT": ("Apache-2.0 AND MIT",),
    "Apache-2.0 OR BSD-2-Clause": ("Apache-2.0 OR BSD-2-Clause",),
    "MIT AND PSF-2.0": ("MIT AND PSF-2.0",),
    "MPL-2.0 AND MIT": ("MPL-2.0 AND MIT",),
    "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0": (
        "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
    ),
    "Apache-2.0 AND BSD-2-Clause AND BSD-3-Clause AND BSL-1.0 AND MIT": (
        "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause AND BSD-3-Clause AND BSL-1.0 AND MIT",
    ),
}
"""Licences under which a program under Apache-2.0 may use a package, and what packages call them.

Whole texts are compared, so that a package that adds a licence is looked at.
"""
COMPATIBLE = {text: licence for licence, texts in CALLED.items() for text in texts}

USERS = {
    "": "always",
    "demo": "the data of `--data htad`",
    "lightning": "the callback of Lightning",
    "transformers": "the callback of transformers",
    "media": "reading pictures, sound and video",
    "table": "tables as Parquet",
    "tune": "`equipoise tune`",
    "onnx": "`equipoise export --format onnx`",
    "hub": "folders with a model card, and the Hugging Face Hub",
    "tensorboard": "`--logger tensorboard`",
}
"""Maps extras to what they are for. `ray`, `bench`, `wandb` and `mlflow` are not installed by `make test`."""
INTRODUCTION = """\
# Dependencies and their licences

Equipoise is under Apache-2.0. Every package below may be used by a program under that licence:
`make dependencies` writes this page, and refuses a package whose licence is not known to be compatible. The
versions that the tests ran with are in `constraints.txt`.

Equipoise contains no code of these packages and does not carry them along: `pip` fetches them from where
their makers publish them. If you pass on an environment as a whole, in a container for example, their
conditions are yours to keep. Three are worth knowing:

- **PyAV** (`media`) is under BSD-3-Clause, but its binary packages contain FFmpeg (LGPL) and the encoders
  x264 and x265 (GPL-2.0 or later, or a commercial licence). Equipoise only decodes. A PyAV built against
  another FFmpeg works as well.
- **soundfile** and **opencv-python-headless** (`media`) contain libsndfile and FFmpeg, both under LGPL.
- Packages under **MPL-2.0** may be used and passed on freely; changes to their own files have to be
  published.

`make audit` compares `constraints.txt` with the published lists of known holes. It needs a connection to
pypi.org, and fails without one.
"""

DEVELOPERS = {"dev": "tests and checks", "docs": "this site"}


def named(extra: str) -> list[str]:
    """Return the names of the packages that an extra names; those that are always installed for ``""``."""
    found = []
    for text in requires("equipoise") or ():
        requirement = Requirement(text)
        mine = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if mine and (extra == "" or not requirement.marker or not requirement.marker.evaluate({"extra": ""})):
            found.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    always = {requirement for requirement in found if extra and requirement[0] in named("")}
    return sorted(name for name, _ in set(found) - always)


def brought(names: list[str]) -> set[str]:
    """Return these packages and all that they need in turn."""
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in names]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        name = canonicalize_name(name)
        if (name, extras) in seen:
            continue
        try:
            needed = requires(name) or ()
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed; run make check first.") from None
        seen.add((name, extras))
        for text in needed:
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return {name for name, _ in seen}


def licences(names: set[str]) -> dict[str, str]:
    """Return the licence of each package. One that is not known to be compatible ends the program."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--with-system", "--packages", *names]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found = {canonicalize_name(row["Name"]): row["License"] for row in rows}
    unknown = {name: found.get(name) for name in sorted(names) if found.get(name) not in COMPATIBLE}
    if unknown:
        raise SystemExit(
            f"Licences not known to be compatible with Apache-2.0: {unknown}. Read them, and add them to "
            f"{Path(__file__).name} or drop the package."
        )
    return {name: COMPATIBLE[text] for name, text in found.items()}


def page() -> str:
    users = {extra: named(extra) for extra in USERS}
    developers = {extra: named(extra) for extra in DEVELOPERS}
    direct = {canonicalize_name(name) for names in (*users.values(), *developers.values()) for name in names}
    for_users = brought([name for names in users.values() for name in names])
    everything = for_users | brought([name for names in developers.values() for name in names])
    found = licences(everything)

    def rows(extras: dict[str, list[str]]) -> list[str]:
        return [
            f"| {name} | {(USERS | DEVELOPERS)[extra]}{f' (`{extra}`)' if extra else ''} | "
            f"{found[canonicalize_name(name)]} |"
            for extra, names in extras.items()
            for name in names
        ]

    def indirect(names: set[str]) -> list[str]:
        return [f"| {name} | {found[name]} |" for name in sorted(names - direct)]

    return "\n".join(
        [
            INTRODUCTION,
            "## Named by Equipoise",
            "",
            "| package | for (extra) | licence |",
            "|---|---|---|",
            *rows(users),
            "",
            "## Needed by those",
            "",
            "| package | licence |",
            "|---|---|",
            *indirect(for_users),
            "",
            "## For developers only",
            "",
            "| package | for (extra) | licence |",
            "|---|---|---|",
            *rows(developers),
            "",
            "| needed by those | licence |",
            "|---|---|",
            *indirect(everything - for_users),
            "",
        ]
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
