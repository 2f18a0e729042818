"""Kill commands again and again, and write docs/results/reliability.md.

Usage: python benchmarks/soak [--parts PART ...] [--times F] [--seed N] [--out DIR] [--page]

Every kill leaves a row in docs/results/reliability/kills.csv as soon as it is known what came of it;
rows stay, and what has been killed as often as wanted is not killed again. `--times .1` does a tenth.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from cases import comparisons, preparations, runs
from kills import Case, Soak
from log import Log
from page import write

ROWS, PAGE = Path("docs/results/reliability/kills.csv"), Path("docs/results/reliability.md")
COUNTS: Mapping[str, int] = {
    "compare": 25,
    "grid": 10,
    "tune": 15,
    "prepare": 10,
    "reproduce": 10,
}
"""Kills of a case; of a single run twenty."""
OF_A_RUN = 20
PARTS: Mapping[str, Callable[[Path], list[Case]]] = {
    "runs": lambda _: runs(),
    "comparisons": lambda _: comparisons(),
    "preparations": preparations,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="by default all")
    parser.add_argument("--times", type=float, default=1.0, help="share of the kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the ways")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="folder of what is killed")
    parser.add_argument("--rows", type=Path, default=ROWS, help="file of the rows")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args()
    log = Log(given.rows)
    for part in [] if given.page else given.parts:
        for case in PARTS[part](given.out.absolute()):
            held = log.count(case.name)
            wanted = round(given.times * COUNTS.get(case.name, OF_A_RUN))
            draw = random.Random(f"{given.seed} {case.name} {held}")
            for kill in Soak(case, given.out.absolute() / case.name, draw).run(max(0, wanted - held)):
                log.add(part, case.name, kill)
                print(f"{case.name}: {kill}", flush=True)
    if given.rows == ROWS and len(log.table):
        write(log.table, PAGE)


if __name__ == "__main__":
    main()
