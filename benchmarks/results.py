"""Write the results page and the figure of a comparison from its run records.

Usage: python benchmarks/results.py COMPARISON_FOLDER PAGE.md [PICTURE.png]
       python benchmarks/results.py --across PAGE.md PICTURE.svg COMPARISON_FOLDER COMPARISON_FOLDER ...
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from equipoise.decimals import bracketed, fixed
from equipoise.experiments.compare.across import AcrossDatasets, across_datasets
from equipoise.experiments.compare.comparison import BASELINE, Comparison, read_comparison, shown_name
from equipoise.experiments.compare.significance import smallest_wilcoxon_p
from equipoise.experiments.paper.sets import STAND_INS
from equipoise.report import write_critical_difference
from equipoise.training.record.record import RunRecord

EASY = 0.1
"""A validation score this much higher than the test score is pointed out on the page."""

TITLES = {name: one.title for name, one in STAND_INS.items()} | {"cmu-mosi": "CMU-MOSI"}


def main(folder: str, page: str, picture: str | None = None, *more: str) -> None:
    if folder == "--across":
        assert picture is not None
        Path(page).write_text(across_page(Path(page), Path(picture), [Path(one) for one in more]))
        return
    comparison = read_comparison(Path(folder))
    Path(page).parent.mkdir(parents=True, exist_ok=True)
    Path(page).write_text(results_page(comparison), encoding="utf-8")
    if picture is not None:
        screenshot(Path(folder) / "report.html", Path(picture))


def results_page(comparison: Comparison) -> str:
    found = [RunRecord(path) for path in sorted((comparison.folder / "runs").iterdir())]
    runs = [run for run in found if run.has_result]  # the others are listed as failed in the table
    results = [run.result() for run in runs]
    first, summary = results[0], comparison.summary
    machine = first["environment"]
    options = (comparison.folder / "config.yaml").read_text(encoding="utf-8")
    # The location of the data is specific to this machine.
    options = re.sub(r"(?m)^data: .*/", "data: ", options)
    if len({result["split_fingerprint"] for result in results}) == 1:
        origin, covered = (
            first["split_origin"],
            "initial weights and batch order, but not the draw of the splits",
        )
    else:
        origin, covered = (
            "drawn again for each seed",
            "the draw of the splits, initial weights and batch order",
        )
    sizes = ", ".join(f"{count} {split}" for split, count in first["split_sizes"].items())
    lines = [
        f"# {title(summary['dataset'], summary['model'])}",
        "",
        *answer(comparison.table(), len(summary["seeds"])),
        "",
        *accuracy_table(comparison),
        "",
        *notes(comparison),
        *relearning(runs, summary["seeds"]),
        "## Conditions",
        "",
        f"- Seeds {', '.join(map(str, summary['seeds']))}; {first['epochs']} epochs; {sizes} samples "
        f"({origin}). Weights are selected on validation, and the test split is evaluated once per "
        f"run. Confidence intervals are for the difference to joint training, paired by seed; they cover "
        f"{covered}. See [how the defaults were chosen](defaults.md).",
        "- Written by `benchmarks/results.py` from the run records; not edited by hand.",
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


def title(dataset: str, model: str) -> str:
    """Return the name of a dataset as it is written, and the model."""
    return f"{TITLES.get(dataset, dataset)}: {model}"


def answer(table: pd.DataFrame, seeds: int) -> list[str]:
    """Say which methods differ from joint training, from a row for each."""
    joint, others = table.loc[BASELINE], table.drop(index=BASELINE).dropna(subset=["low", "high"])
    better = others[others["low"] > 0].sort_values("difference", ascending=False)
    worse = others[others["high"] < 0].sort_values("difference")
    rest = len(others) - len(better) - len(worse)
    return [
        f"Asked: which of {len(others)} methods differ from joint training, with equal splits, initial "
        f"weights, batches and epochs, over {seeds} seeds?",
        "",
        f"Found: joint training has a test accuracy of {joint['mean']:.3f} ± {joint['std']:.3f}. Student's "
        "95 % interval of the difference, in points, excludes zero",
        "",
        f"- above joint training for {named(better)};",
        f"- below it for {named(worse)};",
        f"- for the other {rest} it includes zero: no difference was observed.",
        "",
        f"Each interval is that of one method by itself: by chance about {0.05 * len(others):.1f} of "
        f"{len(others)} exclude zero where there is no difference.",
    ]


def named(rows: pd.DataFrame) -> str:
    """Return methods with their differences in points."""
    return (
        ", ".join(
            f"{str(m).removesuffix(' (experimental)')} ({fixed(100 * row['difference'], 1, signed=True)})"
            for m, row in rows.iterrows()
        )
        or "none"
    )


def notes(comparison: Comparison) -> list[str]:
    summary = comparison.summary
    lines = [f"Not ranked: {reason}." for reason in summary["not_ranked_because"]]
    lines += [
        f"Excluded: {method}, because {reason}" for method, reason in summary.get("left_out", {}).items()
    ]
    failed = comparison.results[comparison.results["status"] != "ok"]
    lines += [
        f"Failed: {row['method']}, seed {row['seed']}: {row['status'].removeprefix('failed: ')}"
        for _, row in failed.iterrows()
    ]
    base = summary["methods"].get("joint", {})
    if base and base["validation_mean"] - base["mean"] > EASY:
        lines.append(
            f"Joint training scores {base['validation_mean']:.3f} on validation and {base['mean']:.3f} on "
            "test. The two splits differ systematically (for instance, because the features were learnt "
            "on the validation split). Model selection and gaps on validation are therefore unreliable here."
        )
    n = len(summary["seeds"])
    if not comparison.enough_seeds:
        lines.append(
            f"With {n} seeds, the p-value of Wilcoxon's test is left out, as it cannot be below "
            f"{smallest_wilcoxon_p(n):.3g}, and bootstrap intervals are too narrow: "
            "rely on Student's intervals."
        )
    return [line for text in lines for line in (text, "")]


def accuracy_table(comparison: Comparison) -> list[str]:
    columns = ["method", "test accuracy", "std", "seeds", "vs joint", "Student 95 %", "bootstrap 95 %"]
    columns += ["p Wilcoxon, Holm"] if comparison.enough_seeds else []
    columns += ["rank", "forward", "backward", "seconds", "peak MB"]
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    table = comparison.table().sort_values("mean", ascending=False)
    for method, row in table.iterrows():
        cells = [
            shown_name(str(method), row),
            known(row["mean"], ".3f"),
            known(row["std"], ".3f"),
            int(row["n"]),
        ]
        cells += [known(row["difference"], "+.3f"), interval(row["low"], row["high"])]
        cells += [interval(row["bootstrap_low"], row["bootstrap_high"])]
        cells += [known(row["wilcoxon_p_holm"], ".3f")] if comparison.enough_seeds else []
        cells += ["not ranked" if pd.isna(row["rank"]) else row["rank"]]
        cells += [known(row[key], ".2f") for key in ("relative_forward", "relative_backward")]
        cells += [known(row["train_seconds"], ".1f"), known(row["peak_memory_bytes"] / 2**20, ".0f")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        "`forward` and `backward` count samples passed through the encoders, relative to joint training.",
    ]
    return lines


def known(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else bracketed((low, high), signed=True).strip()


def relearning(runs: list[RunRecord], seeds: list[int]) -> list[str]:
    table = relearning_table([run for run in runs if run.result()["seed"] == seeds[0]])
    if len(table) == 2:
        return []
    return [f"## Diagnoses and strengths of re-learning, seed {seeds[0]}", "", *table, ""]


def across_page(page: Path, picture: Path, folders: list[Path]) -> str:
    across = across_datasets([read_comparison(folder) for folder in folders])
    picture.parent.mkdir(parents=True, exist_ok=True)
    write_critical_difference(across, picture)
    count = len(across.datasets)
    lines = [
        "# Across datasets",
        "",
        f"Asked: is any of {len(across.names)} methods better than others on {count} datasets?",
        "",
        f"Found: {clear(across)}",
        "",
        f"Mean rank of test accuracy over {count} datasets (1 is best) among the {len(across.names)} "
        f"methods ranked on all of them. Friedman's test: p = {across.friedman_p:.3g}. By Nemenyi's test "
        f"at the 5 % level, two methods differ if their ranks differ by {across.critical_difference:.1f}."
        + (f" With only {count} datasets, these tests have little power." if across.few_datasets else ""),
        "",
        f"![critical differences]({os.path.relpath(picture, page.parent)})",
        "",
        f"| method | mean rank | {' | '.join(across.datasets)} |",
        f"|{'---|' * (count + 2)}",
    ]
    for name in across.names:
        mark = " (experimental)" if name in across.experimental else ""
        ranks = " | ".join(f"{across.ranks.loc[name, dataset]:g}" for dataset in across.datasets)
        lines.append(f"| {name}{mark} | {across.mean_ranks[name]:.1f} | {ranks} |")
    lines += [""] + [f"- Excluded: {name}, {reason}" for name, reason in across.left_out.items()]
    made = f"Written by `make studies` from the run records, commit `{commit()}`; not edited by hand."
    return "\n".join([*lines, "", made, ""])


def clear(across: AcrossDatasets) -> str:
    """Say whether the ranks of the best and the worst methods differ."""
    first, *others = across.mean_ranks
    best = across.mean_ranks[first]
    apart = sum(across.mean_ranks[name] - best > across.critical_difference for name in others)
    leading = ", ".join(f"{name} ({across.mean_ranks[name]:.1f})" for name in (first, *others[:2]))
    return (
        f"the first by mean rank are {leading}; "
        f"{apart or 'no'} method{'s are' if apart > 1 else ' is'} significantly behind the first."
    )


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
        sys.exit("Chromium not found: run 'make browser'.")
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page(
            viewport={"width": 1180, "height": 1400}
        )
        page.goto(report.resolve().as_uri())
        page.wait_for_selector(".plot svg")
        page.wait_for_timeout(500)
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
