"""Size and opening time of the report of a comparison with 30 methods and 10 seeds.

Usage: python benchmarks/report_size.py [--methods 30] [--seeds 10] [--opens 5]

The comparison is created by a fixture of the tests: nothing is trained. The time runs from navigation to the
moment when the page signals that its last chart is drawn, in the system's Chromium without a window.
"""

import argparse
import importlib.util
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from equipoise.report import write_comparison_report

MAKER = Path(__file__).parents[1] / "tests" / "report" / "conftest.py"


def comparison(folder: Path, methods: int, seeds: int):
    """Write a comparison with synthetic numbers."""
    spec = importlib.util.spec_from_file_location("report_fixtures", MAKER)
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    names = ["joint", "diagnose-relearn", *(f"method-{k}" for k in range(methods - 2))]
    accuracies = {n: [0.7 + 0.003 * k + 0.001 * s for s in range(seeds)] for k, n in enumerate(names)}
    return fixtures.Maker(folder, accuracies, epochs=60).write()


def opening_seconds(page_file: Path, opens: int) -> list[float]:
    """Open the page several times, each in a new context."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(opens):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            start = time.perf_counter()
            page.goto(page_file.as_uri())
            page.wait_for_selector("html[data-charts=drawn]", state="attached")
            seconds.append(time.perf_counter() - start)
            context.close()
        browser.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--opens", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = comparison(Path(folder) / "comparison", args.methods, args.seeds)
        start = time.perf_counter()
        written = write_comparison_report(made, Path(folder) / "report.html")
        print(f"written in {time.perf_counter() - start:.2f} s, {written.stat().st_size / 1e6:.2f} MB")
        seconds = opening_seconds(written, args.opens)
    listed = ", ".join(f"{value:.2f}" for value in seconds)
    print(f"opened in {statistics.median(seconds):.2f} s (median of {listed})")


if __name__ == "__main__":
    main()
