"""Plant small mistakes one at a time, run the tests on each, and report how many the suite detects.

    python benchmarks/planted_mistakes.py                # all mistakes, on the current revision
    python benchmarks/planted_mistakes.py --revision 2fb6d6e --results before.json
    python benchmarks/planted_mistakes.py --marker 'not matrix'     # only the tests of `make test`
    python benchmarks/planted_mistakes.py --only ogm-slows-the-weaker pmr-old-for-new
    python benchmarks/planted_mistakes.py --check        # show the place of each mistake, and run nothing

The tests that name the changed module run first, then those of its room, then the rest of the suite, until
one fails. Results are saved to a JSON file after each mistake, and mistakes in that file are not run again.
A failure counts if the test fails again, and passes without the mistake.

The tests run in a scratch worktree of the revision, in the environment of the Python that runs this file.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_suffix(".toml")
REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/equipoise")
PASSED, FAILED, NO_TESTS = 0, 1, 5
"""Exit codes of pytest; any other one is an error."""
MOVED = {"loops": ("loops", "integrations")}
"""Rooms whose tests were in another folder in earlier revisions."""


@dataclass(frozen=True)
class Mistake:
    """One edit: in the first of `files` that contains an old text exactly once, the new text replaces it.

    Attributes:
        name: of the mistake.
        why: the effect of the mistake.
        files: current and earlier paths of the file below `src/equipoise`.
        texts: old and new text; several pairs if the code differs between revisions.
    """

    name: str
    why: str
    files: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Mistake:
        """Read an entry of the list."""
        pairs = [entry, *entry.get("also", [])]
        texts = tuple((pair["old"], pair["new"]) for pair in pairs)
        return cls(entry["name"], entry["why"], tuple(entry["files"]), texts)

    def place(self, tree: Path) -> tuple[Path, str] | str:
        """Return the file to change and its new content, or the reason why there is none."""
        listed = [tree / PACKAGE / path for path in self.files if (tree / PACKAGE / path).is_file()]
        # A file that was moved since is found by its content.
        for candidates in (listed, sorted((tree / PACKAGE).rglob("*.py"))):
            contents = {path: path.read_text(encoding="utf-8") for path in candidates}
            for old, new in self.texts:
                found = {path: text.count(old) for path, text in contents.items() if old in text}
                if list(found.values()) == [1]:
                    path = next(iter(found))
                    return path, contents[path].replace(old, new)
                if found:
                    where = ", ".join(f"{path.relative_to(tree)} ({count})" for path, count in found.items())
                    return f"the old text occurs more than once: {where}"
        return "the old text occurs nowhere"


@contextmanager
def planted(path: Path, content: str) -> Iterator[None]:
    """Replace the content of a file temporarily."""
    before = path.read_text(encoding="utf-8")
    path.write_text(content, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """The result of a run of tests.

    Attributes:
        verdict: `passed`, `noticed`, `timed out`, or `error` if pytest could not run.
        code: pytest's exit code, None after a time-out.
        first: the first test that failed.
        seconds: duration.
    """

    verdict: str
    code: int | None
    first: str | None
    seconds: float


def read_mistakes(path: Path = LIST) -> list[Mistake]:
    """Read the list; names are unique."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mistake"]
    mistakes = [Mistake.of(entry) for entry in entries]
    names = [mistake.name for mistake in mistakes]
    assert len(set(names)) == len(names), "two mistakes have one name"
    return mistakes


@contextmanager
def scratch_tree(revision: str) -> Iterator[Path]:
    """Check a revision out into a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="planted-"))
    tree = folder / "tree"
    git("worktree", "add", "--detach", str(tree), revision)
    try:
        yield tree
    finally:
        git("worktree", "remove", "--force", str(tree))
        shutil.rmtree(folder, ignore_errors=True)


def git(*arguments: str) -> str:
    """Run git in the repository; return its output."""
    command = ["git", "-C", str(REPOSITORY), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def tests_of(tree: Path, path: Path) -> list[str]:
    """Return the folders of tests that mirror the room of a file of the package."""
    room = path.relative_to(tree / PACKAGE).parts[0]
    return [f"tests/{name}" for name in MOVED.get(room, (room,)) if (tree / "tests" / name).is_dir()]


def naming(tree: Path, path: Path, folders: list[str]) -> list[str]:
    """Return the test files of some folders that name the module of a file of the package."""
    module = ".".join(path.relative_to(tree / "src").with_suffix("").parts)
    package, _, name = module.rpartition(".")
    names = re.compile(rf"\b{re.escape(module)}\b|from {re.escape(package)} import .*\b{name}\b")
    files = [file for folder in folders for file in sorted((tree / folder).rglob("test_*.py"))]
    return [
        str(file.relative_to(tree))
        for file in files
        if file.stem.removeprefix("test_") == name or names.search(file.read_text(encoding="utf-8"))
    ]


def notices(
    tree: Path, mistake: tuple[Path, str], tests: list[str], arguments: argparse.Namespace
) -> Outcome:
    """Run tests on a mistake until one fails that fails again, and passes without the mistake."""
    unsteady: list[str] = []
    while True:
        skipped = [f"--deselect={name}" for name in unsteady]
        with planted(*mistake):
            outcome = run_tests(tree, [*tests, *skipped], arguments)
            if outcome.verdict != "noticed" or outcome.first is None:
                return outcome
            again = run_tests(tree, [outcome.first], arguments)
        if again.verdict == "noticed" and run_tests(tree, [outcome.first], arguments).verdict == "passed":
            return outcome
        print(f"{outcome.first} does not depend on the mistake", file=sys.stderr)
        unsteady.append(outcome.first)


def run_tests(tree: Path, tests: list[str], arguments: argparse.Namespace) -> Outcome:
    """Run tests until the first failure; no caches, which could change the next run."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line"]
    command += ["-m", arguments.marker]
    if arguments.workers > 1:
        command += ["-n", str(arguments.workers), "--dist", "worksteal"]
    # The package of the scratch tree instead of the installed one.
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    # A compiled file counts as current if its recorded size and modification second are those of the source.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    start = time.monotonic()
    # In a separate session, so that a time-out also ends the processes started by tests.
    process = subprocess.Popen(
        [*command, *tests],
        cwd=tree,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=arguments.limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return Outcome("timed out", None, None, round(time.monotonic() - start, 1))
    seconds = round(time.monotonic() - start, 1)
    first = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    verdicts = {PASSED: "passed", NO_TESTS: "passed", FAILED: "noticed"}
    verdict = verdicts.get(process.returncode, "noticed" if first else "error")
    if verdict == "error":
        print(output[-2000:], file=sys.stderr)
    return Outcome(verdict, process.returncode, first.group(1) if first else None, seconds)


def judge(mistake: Mistake, tree: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Plant a mistake and run the stages of tests in order; return which one detected it."""
    place = mistake.place(tree)
    if isinstance(place, str):
        return {"verdict": "not planted", "reason": place}
    path, content = place
    room = tests_of(tree, path)
    found: dict[str, Any] = {"file": str(path.relative_to(tree)), "why": mistake.why}
    stages = {"naming": naming(tree, path, room), "room": room}
    if not arguments.room_only:
        stages["rest"] = ["tests", *(f"--ignore={folder}" for folder in room)]
    for stage, tests in stages.items():
        if not tests:
            continue
        outcome = notices(tree, (path, content), tests, arguments)
        found[stage] = asdict(outcome)
        found["verdict"] = outcome.verdict
        # An endless loop counts as detected: the tests do not end.
        if outcome.verdict != "passed":
            break
    return found


def report(mistakes: list[Mistake], results: dict[str, Any]) -> str:
    """Return a table of the results, and their total."""
    lines = ["| mistake | file | noticed by | seconds |", "|---|---|---|---|"]
    counts: dict[str, int] = {}
    for mistake in mistakes:
        found = results.get(mistake.name)
        if found is None:
            continue
        counts[found["verdict"]] = counts.get(found["verdict"], 0) + 1
        stages = [found[stage] for stage in ("naming", "room", "rest") if stage in found]
        seconds = sum(stage["seconds"] for stage in stages)
        by = (stages[-1]["first"] if stages else None) or found.get("reason") or found["verdict"]
        lines.append(f"| {mistake.name} | {found.get('file', '')} | {by} | {seconds:.0f} |")
    total = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return "\n".join([*lines, "", f"{sum(counts.values())} mistakes: {total}"])


def arguments_of(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--revision", default="HEAD", help="what is tested (default: %(default)s)")
    parser.add_argument("--results", type=Path, help="JSON file (default: runs/planted-REVISION.json)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mistakes alone")
    parser.add_argument("--workers", type=int, default=2, help="processes of pytest (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=3600, help="seconds of a run (default: %(default)s)")
    parser.add_argument("--marker", default="", help="marker expression of the tests to run")
    parser.add_argument("--room-only", action="store_true", help="leave the rest of the suite out")
    parser.add_argument("--trust", action="store_true", help="take the suite without a mistake for passing")
    parser.add_argument("--check", action="store_true", help="say where each mistake goes, and run nothing")
    return parser.parse_args(given)


def main() -> int:
    """Run all mistakes that are not in the results yet."""
    arguments = arguments_of()
    mistakes = read_mistakes()
    if arguments.only:
        unknown = set(arguments.only) - {mistake.name for mistake in mistakes}
        if unknown:
            print(f"there is no mistake {', '.join(sorted(unknown))}", file=sys.stderr)
            return 2
        mistakes = [mistake for mistake in mistakes if mistake.name in arguments.only]
    revision = git("rev-parse", "--short", arguments.revision)
    path = arguments.results or REPOSITORY / "runs" / f"planted-{revision}.json"
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"revision": revision}
    if held["revision"] != revision:
        print(f"{path} holds the results of {held['revision']}, not of {revision}", file=sys.stderr)
        return 2
    results = held.setdefault("mistakes", {})

    def keep() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(held, indent=1), encoding="utf-8")

    with scratch_tree(revision) as tree:
        if arguments.check:
            places = {mistake.name: mistake.place(tree) for mistake in mistakes}
            for name, place in places.items():
                print(f"{name}: {place if isinstance(place, str) else place[0].relative_to(tree)}")
            return int(any(isinstance(place, str) for place in places.values()))
        if not arguments.trust and "unchanged" not in held:
            unchanged = run_tests(tree, ["tests"], arguments)
            if unchanged.verdict != "passed":
                print(f"without a mistake: {unchanged.verdict}, {unchanged.first}", file=sys.stderr)
                return 1
            held["unchanged"] = asdict(unchanged)
            keep()
        for mistake in mistakes:
            if mistake.name not in results:
                results[mistake.name] = judge(mistake, tree, arguments)
                print(f"{mistake.name}: {results[mistake.name]['verdict']}", flush=True)
                keep()
    print(report(mistakes, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
