"""Kill commands again and again, open damaged and hostile files, and write docs/results/reliability.md.

Usage: python benchmarks/soak [--parts PART ...] [--times F] [--seed N] [--out DIR] [--page]

Every kill leaves a row in docs/results/reliability/kills.csv as soon as it is known what came of it,
every reader one in mutations.jsonl for damaged copies and one in guided.jsonl for inputs that atheris
searched (where it is installed), and every hostile file one in hostile.jsonl.
Rows stay, and what has been done as often as wanted is not done again; hostile files are opened
anew. `--times .1` does a tenth.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from cases import comparisons, preparations, runs
from kills import Case, Soak
from log import Log, commit
from page import write
from trials import GUIDED, HOSTILE, MUTATIONS, Trials

ROWS, PAGE = Path("docs/results/reliability"), Path("docs/results/reliability.md")
COUNTS: Mapping[str, int] = {
    "compare": 25,
    "grid": 10,
    "tune": 15,
    "prepare": 10,
    "reproduce": 10,
}
"""Kills of a case; of a single run twenty."""
OF_A_RUN = 20
COPIES = 10_000
"""Damaged copies that a reader gets of each file."""
INPUTS = 2_000
"""Inputs that are searched for a reader."""
PARTS: Mapping[str, Callable[[Path], list[Case]]] = {
    "runs": lambda _: runs(),
    "comparisons": lambda _: comparisons(),
    "preparations": preparations,
}
ALL = (*PARTS, MUTATIONS, GUIDED, HOSTILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=ALL, default=list(ALL), help="by default all")
    parser.add_argument("--times", type=float, default=1.0, help="share of the kills and damaged copies")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the ways")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="folder of what is killed")
    parser.add_argument("--rows", type=Path, default=ROWS, help="folder of the rows")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    log = Log(given.rows / "kills.csv")
    trials = {part: Trials(given.rows / f"{part}.jsonl", commit()) for part in (MUTATIONS, GUIDED, HOSTILE)}
    for part in [] if given.page else given.parts:
        if part in trials:
            lines = {
                MUTATIONS: lambda log: log.mutate(round(given.times * COPIES)),
                GUIDED: lambda log: log.guide(round(given.times * INPUTS)),
                HOSTILE: Trials.harm,
            }[part](trials[part])
            for line in lines:
                print(line, flush=True)
            continue
        for case in PARTS[part](given.out.absolute()):
            held = log.count(case.name)
            wanted = round(given.times * COUNTS.get(case.name, OF_A_RUN))
            draw = random.Random(f"{given.seed} {case.name} {held}")
            for kill in Soak(case, given.out.absolute() / case.name, draw).run(max(0, wanted - held)):
                log.add(part, case.name, kill)
                print(f"{case.name}: {kill}", flush=True)
    if given.rows == ROWS:
        write(log.table, *(own.table() for own in trials.values()), path=PAGE)


if __name__ == "__main__":
    main()
