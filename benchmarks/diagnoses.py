"""Examine finished runs, and features by themselves, and write what was found, with pictures.

Usage: python benchmarks/diagnoses.py PAGE.md IMAGES_DIR RUN_DIR ...

Of the runs, the page shows the examination of each; of their datasets of vectors, that of the given features
too, as `equipoise diagnose --features` makes it. Pictures are those of the first run.
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
from equipoise.report.examination import examination_page
from equipoise.report.export import write_figures
from equipoise.training.assembly import prepare_data
from equipoise.training.option_text import from_options
from equipoise.training.record.record import RunRecord

EASY = 0.1
"""How far validation may lie above test before the page speaks of it."""
PICTURES = {"projections": "features", "trace": "over-epochs", "contributions": "contributions"}
"""Charts to the names of the pictures in the documentation."""


def main(page: str, images: str, *folders: str) -> None:
    lines = [
        "# Diagnoses of real data",
        "",
        "Written by `make diagnoses` (benchmarks/diagnoses.py) from run records; not edited by hand.",
        "",
        "One seed a run: these pages show what the tool says, and no claim about methods rests on them. All "
        "figures are of training and validation samples. Gaps and drops stand with their 95 % intervals over "
        "samples; what the columns mean, and how verdicts are made, says [the guide](../diagnosis.md).",
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
    head = ["modality", "verdict", f"{metric}, training", f"{metric}, validation", "gap", "new head alone"]
    head += ["alone", "drop without", "Shapley value"]
    rows = [head, ["---"] * len(head)]
    for name, state in found.learning.items():
        verdict, item = found.verdicts[name], own[name]
        gap = with_interval(state.train_score - state.val_score, state.interval)
        drop = with_interval(item.drop_averaged, item.intervals.get("drop_averaged"))
        shapley = with_interval(item.shapley, item.intervals.get("shapley"))
        scores = [f"{value:.3f}" for value in (state.train_score, state.val_score)]
        alone = [f"{value:.3f}" for value in ((own.refitted or {})[name], item.alone)]
        close = "" if verdict.certain else " (close to the border)"
        rows.append([name, f"**{verdict.state}**{close}", *scores, gap, *alone, drop, shapley])
    words = [f"- {v.modality}: {' '.join((*v.reasons, *v.remarks))}" for v in found.verdicts.values()]
    title = found.facts[0] if found.result else f"{Path(found.source).stem}: the features themselves"
    facts = "; ".join(found.facts[1:] if found.result else found.facts)
    score = f"With all modalities: {own.metric} {own.score:.3f} on {own.split}, chance {own.chance:.3f}"
    table = ["| " + " | ".join(row) + " |" for row in rows]
    return [f"## {title}", "", f"`{command}`: {facts}. {score}.{easy(found)}", "", *table, "", *words, ""]


def easy(found: eq.Examination) -> str:
    """Warn of validation samples that are much easier than those of test."""
    if not found.result:
        return ""
    validation, test = (found.result[split]["accuracy"] for split in ("validation", "test"))
    if validation - test < EASY:
        return ""
    return (
        f" **Validation lies {validation - test:.2f} above test ({test:.3f}), as where features were made "
        "with the validation samples in view: gaps and contributions on it say little.**"
    )


def with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def of_features(folder: Path) -> list[str]:
    """Examine the inputs of a run as features in a file, where they are vectors."""
    _, data = prepare_data(from_options(RunRecord(folder).options()))
    splits = {"train": data.train_eval, "val": data.val}
    arrays: dict[str, np.ndarray] = {"classes": np.array(data.classes)}
    for split, batches in splits.items():
        held = list(batches)
        arrays[f"{split}_labels"] = np.concatenate([batch.target.numpy() for batch in held])
        for name in held[0].inputs:
            arrays[f"{split}_{name}"] = np.concatenate([batch.inputs[name].numpy() for batch in held])
    features = [array for key, array in arrays.items() if key.startswith("train_") and "labels" not in key]
    if any(array.ndim != 2 for array in features):
        return []
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
