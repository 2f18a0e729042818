"""Build wheel and source archive, and use the wheel as a user does who has never seen the repository.

Usage: python benchmarks/distribution.py [--out dist] [--pythons 3.11 3.12 3.13]

The wheel is built from the source archive, so that this holds what a build needs. For each Python that this
machine has, the wheel is installed into a new environment in a temporary folder, a comparison runs there,
and then the quick tests from the source archive, without its `src`. A Python that is missing, or for which a
dependency has no build, is named at the end.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parents[1]
PYTHONS: Final = ("3.11", "3.12", "3.13")
METADATA: Final = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
KINDS: Final = {".py", ".pyi", ".typed", ".bib", ".j2", ".css", ".js", ".yaml"}
"""Endings of the files in the package: code, its types, the bibliography, templates of pages, and recipes."""
NEEDED: Final = {"py.typed", "__init__.pyi", "report/bibliography.bib", "report/templates/page.html.j2"}
ONLY_IN_GIT: Final = (".ci/", ".pre-commit-config.yaml")
TOOLS: Final = ("pytest>=8.3", "hypothesis>=6.100", "packaging")
QUICK: Final = (
    "test_api.py",
    "test_catalogue.py",
    "test_registry.py",
    "test_tasks.py",
    "test_typed_options.py",
    "cli/test_commands.py",
    "cli/test_completion.py",
    "cli/test_mistakes.py",
    "data/datasets/test_htad.py",
    "diagnosis/test_diagnose.py",
    "files",
    "relearning/test_relearning_strength.py",
    "relearning/test_soft_reinitialize.py",
    "report/test_citations.py",
    "report/test_report_pages.py",
    "training/test_fit.py",
)
"""Tests of every floor, about two minutes of computing, that need no browser and no extras of developers."""
SAYS_HOW = "pip install 'equipoise[demo]'"


def wheel_faults(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """Return what a wheel of these files lacks, and what it should not hold.

    Args:
        names: the files of the wheel.
        tracked: the files of the repository.
    """
    found = set(names)
    package = {name.removeprefix("src/") for name in tracked if name.startswith("src/equipoise/")}
    info = {name for name in found if ".dist-info/" in name}
    faults = [f"{name} is missing" for name in sorted(package - found)]
    faults += [f"{name} does not belong there" for name in sorted(found - package - info)]
    faults += [f"{name} is of no known kind" for name in sorted(package) if Path(name).suffix not in KINDS]
    faults += [f"equipoise/{name} is needed" for name in sorted(NEEDED) if f"equipoise/{name}" not in package]
    held = {name.partition(".dist-info/")[2] for name in info}
    return faults + [f"the metadata differ by {name}" for name in sorted(held ^ METADATA)]


def archive_faults(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """Return what a source archive lacks, and what it should not hold; its names begin after its folder."""
    found, expected = (
        set(names) - {"PKG-INFO"},
        {name for name in tracked if not name.startswith(ONLY_IN_GIT)},
    )
    missing = [f"{name} is missing" for name in sorted(expected - found)]
    return missing + [f"{name} does not belong there" for name in sorted(found - expected)]


def build(out: Path) -> tuple[Path, Path]:
    """Build both files, check them, and return the wheel and the source archive."""
    shutil.rmtree(out, ignore_errors=True)
    run([sys.executable, "-m", "build", "--outdir", out, ROOT])
    (wheel,), (archive,) = out.glob("*.whl"), out.glob("*.tar.gz")
    run([sys.executable, "-m", "twine", "check", "--strict", wheel, archive])
    tracked = run(["git", "ls-files"], ROOT).stdout.splitlines()
    with zipfile.ZipFile(wheel) as held:
        faults = [f"{wheel.name}: {fault}" for fault in wheel_faults(held.namelist(), tracked)]
    with tarfile.open(archive) as packed:
        names = [name.partition("/")[2] for name in packed.getnames() if packed.getmember(name).isfile()]
    faults += [f"{archive.name}: {fault}" for fault in archive_faults(names, tracked)]
    if faults:
        stop("\n".join(faults))
    for file in (wheel, archive):
        say(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB, contents and metadata are right")
    return wheel, archive


def interpreter(version: str) -> str | None:
    """Return an interpreter of a version: on the path, or among those of pyenv."""
    candidates = [shutil.which(f"python{version}")]
    if shutil.which("pyenv"):
        versions = Path(run(["pyenv", "root"]).stdout.strip()) / "versions"
        candidates += [str(place / "bin" / "python") for place in sorted(versions.glob(f"{version}.*"))]
    asked = "import ensurepip, sys; print('.'.join(map(str, sys.version_info[:2])))"
    for candidate in filter(None, candidates):
        ended = subprocess.run([candidate, "-c", asked], capture_output=True, text=True, check=False)
        if ended.stdout.strip() == version:
            return candidate
    return None


def try_out(version: str, wheel: Path, archive: Path) -> str:
    """Use the wheel with one Python; return a line about it."""
    found = interpreter(version)
    if found is None:
        return f"Python {version}: not on this machine"
    say(f"Python {version}: {found}")
    with tempfile.TemporaryDirectory(prefix=f"equipoise-{version}-") as name:
        folder = Path(name)
        run([found, "-m", "venv", folder / "env"])
        python = folder / "env" / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
        installed = attempt([*pip, wheel], folder)
        if installed.returncode:
            lines = [line for line in installed.stderr.splitlines() if line.startswith("ERROR: ")]
            if any("No matching distribution" in line for line in lines):
                return f"Python {version}: {lines[-1].removeprefix('ERROR: ')}"
            stop(installed.stderr)
        say("  installed the wheel")
        compare(folder, pip)
        tests(folder, archive, pip)
    return f"Python {version}: installed, compared and tested"


def compare(folder: Path, pip: Sequence[str | Path]) -> None:
    """Run a comparison as a user does: the first time it says which extra is missing, and how to add it."""
    command = [
        folder / "env" / "bin" / "equipoise",
        "compare",
        "--data",
        "htad",
        "--seeds",
        "2",
        "--epochs",
        "5",
    ]
    refused = attempt(command, folder)
    if refused.returncode != 2 or SAYS_HOW not in refused.stderr:
        stop(f"expected the advice {SAYS_HOW!r}, found:\n{refused.stderr}")
    run([*pip, *shlex.split(SAYS_HOW)[2:]], folder)
    ended = run(command, folder)
    for line in ended.stdout.splitlines()[-1:]:
        say(f"  {shlex.join(map(str, ['equipoise', *command[1:]]))}: {line.strip()}")
    if not (folder / "runs" / "compare-htad" / "report.html").is_file():
        stop("the comparison wrote no report.html")


def tests(folder: Path, archive: Path, pip: Sequence[str | Path]) -> None:
    """Run the quick tests from the source archive against the installed package."""
    run([*pip, *TOOLS], folder)
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    shutil.rmtree(source / "src")
    python = folder / "env" / "bin" / "python"
    where = run([python, "-c", "import equipoise; print(equipoise.__file__)"], source).stdout.strip()
    if "site-packages" not in where:
        stop(f"the tests would run against {where}, not against the installed package")
    asked = [python, "-m", "pytest", "-q", "-m", "not matrix and not browser", "-p", "no:cacheprovider"]
    say("  running the quick tests")
    ended = attempt([*asked, *(f"tests/{name}" for name in QUICK)], source)
    if ended.returncode:
        stop(ended.stdout + ended.stderr)
    say(f"  quick tests: {ended.stdout.splitlines()[-1].strip('= ')}")


def attempt(words: Sequence[str | Path], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command without this environment's packages, in a folder."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    environment["EQUIPOISE_CACHE"] = str((folder or Path(tempfile.gettempdir())) / "cache")
    return subprocess.run(
        list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def run(words: Sequence[str | Path], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that has to succeed."""
    ended = attempt(words, folder)
    if ended.returncode:
        stop(f"{shlex.join(map(str, words))} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended


def say(text: str) -> None:
    print(text, flush=True)


def stop(text: str) -> NoReturn:
    raise SystemExit(f"make dist: {text}")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, default=ROOT / "dist")
    options.add_argument("--pythons", nargs="+", default=PYTHONS)
    given = options.parse_args()
    wheel, archive = build(given.out.resolve())
    lines = [try_out(version, wheel, archive) for version in given.pythons]
    say("\n".join(["", *lines]))
    if not any(line.endswith("tested") for line in lines):
        stop("no Python could try the wheel")


if __name__ == "__main__":
    main()
