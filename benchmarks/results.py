"""Write the results page and the picture of a comparison from its records.

Usage: python benchmarks/results.py COMPARISON_FOLDER PAGE.md [PICTURE.png]
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from equipoise.experiments import Comparison, read_comparison
from equipoise.training import RunRecord


def main(folder: str, page: str, picture: str | None = None) -> None:
    comparison = read_comparison(Path(folder))
    Path(page).parent.mkdir(parents=True, exist_ok=True)
    Path(page).write_text(results_page(comparison), encoding="utf-8")
    if picture is not None:
        screenshot(Path(folder) / "report.html", Path(picture))


def results_page(comparison: Comparison) -> str:
    runs = [RunRecord(path) for path in sorted((comparison.folder / "runs").iterdir())]
    results = [run.result() for run in runs]
    first, summary = results[0], comparison.summary
    machine = first["environment"]
    options = (comparison.folder / "config.yaml").read_text(encoding="utf-8")
    if len({result["split_fingerprint"] for result in results}) == 1:
        origin, covered = first["split_origin"], "initial weights and batch order, not the draw of the splits"
    else:
        origin, covered = "drawn anew for each seed", "draw of the splits, initial weights and batch order"
    sizes = ", ".join(f"{count} {split}" for split, count in first["split_sizes"].items())
    lines = [
        f"# {summary['dataset'].upper()}: {summary['model']}",
        "",
        "Written by `make figures` from the run records; not edited by hand.",
        "",
        f"Seeds {', '.join(map(str, summary['seeds']))}; {first['epochs']} epochs; {sizes} samples "
        f"({origin}). Weights are selected on validation, and the test split is opened once a "
        f"run. The interval is Student's, of the paired difference over seeds; it covers {covered}. How the "
        "defaults were chosen: [defaults](defaults.md).",
        "",
        *accuracy_table(comparison),
        "",
        "## What re-learning saw and did",
        "",
        *relearning_table(runs),
        "",
        "## Conditions",
        "",
        f"- Commit `{commit()}`; " + ", ".join(f"{k} {v}" for k, v in machine["versions"].items()),
        f"- Python {machine['python']}, {machine['platform']}, {machine['cores']} cores, {machine['device']}",
        f"- Fingerprints: data `{first['data_fingerprint'][:16]}`, splits "
        f"`{first['split_fingerprint'][:16]}`, budget `{first['budget_fingerprint']}`",
        "",
        "```yaml",
        options.rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def accuracy_table(comparison: Comparison) -> list[str]:
    columns = ["method", "test accuracy", "std", "seeds", "vs joint", "95 % interval", "p", "rank"]
    columns += ["seconds", "samples forward"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for method, row in comparison.table().iterrows():
        interval = "" if math.isnan(row["low"]) else f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        difference = "" if math.isnan(row["difference"]) else f"{row['difference']:+.3f}"
        p_value = "" if math.isnan(row["p_value"]) else f"{row['p_value']:.3f}"
        cells = [method, f"{row['mean']:.3f}", f"{row['std']:.3f}", int(row["n"]), difference, interval]
        place = "" if pd.isna(row["rank"]) else row["rank"]
        cells += [p_value, place, f"{row['train_seconds']:.1f}", int(row["forward_samples"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def relearning_table(runs: list[RunRecord]) -> list[str]:
    lines = [
        "| seed | after epoch | modality | purity train | purity val | gap | strength |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        for event in run.events("diagnosis.jsonl"):
            if event["event"] != "relearning":
                continue
            for name, state in event["modalities"].items():
                lines.append(
                    f"| {run.result()['seed']} | {event['epoch']} | {name} | {state['train_score']:.3f} "
                    f"| {state['val_score']:.3f} | {state['gap']:.3f} | {state['applied']:.3f} |"
                )
    return lines


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def screenshot(report: Path, picture: Path) -> None:
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("the picture needs Chromium: make browser")
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page(
            viewport={"width": 1180, "height": 1400}
        )
        page.goto(report.resolve().as_uri())
        page.wait_for_selector(".main-svg")
        page.wait_for_timeout(500)
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
