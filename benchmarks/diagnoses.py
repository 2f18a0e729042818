"""Diagnose finished runs and plain features, and write a page with figures.

Usage: python benchmarks/diagnoses.py PAGE.md IMAGES_DIR RUN_DIR ...

The page shows the diagnosis of each run. For datasets of vectors it also shows the diagnosis of the input
features themselves, as with `equipoise diagnose --features`. The figures are those of the first run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import equipoise as eq
from equipoise.decimals import bracketed, fixed
from equipoise.report.pages.examination import examination_page
from equipoise.report.render import write_figures
from equipoise.training.assembly import prepare_data
from equipoise.training.option_text import from_options
from equipoise.training.record.record import RunRecord

EASY = 0.1
"""A validation score this much higher than the test score is pointed out on the page."""
PICTURES = {"projections": "features", "trace": "over-epochs", "contributions": "contributions"}
"""Maps charts to the names of the figures in the documentation."""


def main(page: str, images: str, *folders: str) -> None:
    lines = [
        "# Diagnoses of real data",
        "",
        "Written by `make diagnoses` (benchmarks/diagnoses.py) from run records; not edited by hand.",
        "",
        "Each run has a single seed: this page shows the output of the diagnosis and supports no claims "
        "about methods. All numbers are for training and validation samples. Gaps and drops have 95 % "
        "confidence intervals over samples. The [diagnosis guide](../diagnosis.md) explains the columns "
        "and verdicts.",
        "",
    ]
    for place, folder in enumerate(folders):
        found = eq.examine_run(folder)
        print(found, file=sys.stderr)
        lines += section(found, f"equipoise diagnose {Path(folder).name}")
        if place == 0:
            pictures(found, Path(images))
    for folder in {RunRecord(Path(folder)).result()["dataset"]: Path(folder) for folder in folders}.values():
        lines += of_features(folder)
    lines += conditions(Path(folders[0]))
    Path(page).write_text("\n".join(lines) + "\n", encoding="utf-8")


def section(found: eq.Examination, command: str) -> list[str]:
    own, metric = found.contributions, found.learning.options.metric
    head = ["modality", "verdict", f"{metric}, training", f"{metric}, validation", "gap", "new head"]
    head += ["with it only", "drop", "Shapley value"]
    rows = [head, ["---"] * len(head)]
    for name, state in found.learning.items():
        verdict, item = found.verdicts[name], own[name]
        gap = with_interval(state.train_score - state.val_score, state.interval)
        drop = with_interval(item.drop_averaged, item.intervals.get("drop_averaged"))
        shapley = with_interval(item.shapley, item.intervals.get("shapley"))
        scores = [f"{value:.3f}" for value in (state.train_score, state.val_score)]
        others = [f"{value:.3f}" for value in ((own.refitted or {})[name], item.alone)]
        close = "" if verdict.certain else " (close to a threshold)"
        rows.append([name, f"**{verdict.state}**{close}", *scores, gap, *others, drop, shapley])
    words = [f"- {v.modality}: {' '.join((*v.reasons, *v.remarks))}" for v in found.verdicts.values()]
    title = found.facts[0] if found.result else f"{Path(found.source).stem}: the features themselves"
    facts = "; ".join(found.facts[1:] if found.result else found.facts)
    score = f"With all modalities: {own.metric} {own.score:.3f} on {own.split}, chance {own.chance:.3f}"
    table = ["| " + " | ".join(row) + " |" for row in rows]
    return [f"## {title}", "", f"`{command}`: {facts}. {score}.{easy(found)}", "", *table, "", *words, ""]


def easy(found: eq.Examination) -> str:
    """Warn if validation samples are much easier than test samples."""
    if not found.result:
        return ""
    validation, test = (found.result[split]["accuracy"] for split in ("validation", "test"))
    if validation - test < EASY:
        return ""
    return (
        f" **The validation score is {validation - test:.2f} higher than the test score ({test:.3f}), as if "
        "the features had been learnt on the validation samples: gaps and contributions are unreliable.**"
    )


def with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return fixed(value) + bracketed(interval)


def of_features(folder: Path) -> list[str]:
    """Diagnose the inputs of a run like features in a file, if they are vectors."""
    dataset, data = prepare_data(from_options(RunRecord(folder).options()))
    if any(spec.kind != "vector" for spec in dataset.modalities.values()):  # numbers of tokens, for example
        return []
    splits = {"train": data.train_eval, "val": data.val}
    arrays: dict[str, np.ndarray] = {"classes": np.array(data.classes)}
    for split, batches in splits.items():
        held = list(batches)
        arrays[f"{split}_labels"] = np.concatenate([batch.target.numpy() for batch in held])
        for name in held[0].inputs:
            arrays[f"{split}_{name}"] = np.concatenate([batch.inputs[name].numpy() for batch in held])
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / f"{data.name}.npz"
        np.savez(file, **arrays)
        found = eq.examine_features(file, pictures=False)
    return section(found, f"equipoise diagnose --features {data.name}.npz")


def pictures(found: eq.Examination, images: Path) -> None:
    found = replace(found, projections=[p for p in found.projections if p.kind == "t-sne"])
    charts = [chart for chart in examination_page(found).all_charts if chart.name in PICTURES]
    with tempfile.TemporaryDirectory() as scratch:
        for path in write_figures(charts, Path(scratch), ["png"]):
            shutil.copyfile(path, images / f"{PICTURES[path.stem]}.png")


def conditions(folder: Path) -> list[str]:
    machine = RunRecord(folder).result()["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    return [
        "## Conditions",
        "",
        f"- Commit `{commit}`; {versions}",
        f"- Python {machine['python']}, {machine['platform']}, {machine['cores']} cores, {machine['device']}",
    ]


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
