"""Measure the speed of Equipoise, line by line, and write docs/results/performance.md.

Usage: python benchmarks/speed [LINE ...] [--quick] [--anew] [--out DIR] [--page FILE]

Lines that were measured with the same code, versions and machine are not measured again, so that an
interrupted measurement continues where it stopped. Lines that are named are measured in any case.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from pathlib import Path

import torch
from lines import LINES
from page import write_page
from records import Place, Records
from turns import Size, load

from equipoise.types import EquipoiseWarning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("lines", nargs="*", metavar="LINE", help=f"of {' '.join(LINES)}; by default all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, as a trial")
    parser.add_argument("--anew", action="store_true", help="measure all lines again")
    parser.add_argument("--out", type=Path, default=Path("runs/speed"), help="folder of the records")
    parser.add_argument("--page", type=Path, default=Path("docs/results/performance.md"), help="the page")
    given = parser.parse_args()
    if unknown := set(given.lines) - set(LINES):
        parser.error(f"there is no line {', '.join(sorted(unknown))}; expected some of {' '.join(LINES)}")
    # Such as of re-learnings that come late in a short run.
    warnings.simplefilter("ignore", EquipoiseWarning)
    records = Records(given.out, Place.here())
    print(f"{records.place.heading}; records in {records.folder}", flush=True)
    failed = [letter for letter in given.lines or LINES if not measured(letter, records, given)]
    sys.exit(f"lines that failed: {' '.join(failed)}" if failed else 0)


def measured(letter: str, records: Records, given: argparse.Namespace) -> bool:
    """Measure a line, write its record and the page; return whether that worked."""
    line = LINES[letter]
    if records.has(letter) and not (given.lines or given.anew):
        print(f"({letter}) {line.TITLE}: measured before", flush=True)
        return True
    print(f"({letter}) {line.TITLE}", flush=True)
    torch.set_num_threads(1)
    busy, start = load(), time.perf_counter()
    try:
        found = line.measure(Size(given.quick)).record()
    except Exception:  # other lines are measured in any case
        traceback.print_exc()
        return False
    took = time.perf_counter() - start
    records.write(letter, {"title": line.TITLE, "load": busy, "took": took, **found})
    write_page(given.page, records)
    shown(found, took)
    return True


def shown(found: dict, seconds: float) -> None:
    """Print what a line has found."""
    for ratio in found["ratios"]:
        verdict = {None: "", True: "  holds", False: "  does NOT hold"}[ratio["holds"]]
        print(f"    {ratio['what']:64} {ratio['ratio']:7.3f} (CPU {ratio['ratio_by_cpu']:.3f}){verdict}")
    for row in found["table"]:
        print("    " + ", ".join(f"{key} {value}" for key, value in row.items() if value is not None))
    for what, why in found["missing"].items():
        print(f"    not measured: {what}, because {why}")
    print(f"    took {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
