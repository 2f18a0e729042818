"""Does re-learning help pretrained encoders? Fine-tuning on new people, with and without it.

Usage: python benchmarks/pretrained.py PHONE_WATCH_DATASET OUT_DIR PAGE.md [SEEDS]

The dataset is `phone-watch`, prepared by `equipoise prepare`. The study takes about ten minutes on two
cores, and resumes where it was interrupted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import pretrained_models
from safetensors.torch import save_file

import equipoise as eq
from equipoise.decimals import bracketed
from equipoise.experiments.compare.significance import holm
from equipoise.experiments.compare.statistics import paired_difference
from equipoise.training.record.record import RunRecord

MODALITIES = ("phone_acc", "watch_acc")
PEOPLE = {"pretrain": (8, 2, 2), "finetune": (5, 3, 3)}
"""Number of people for training, validation and test; the two sets of people are disjoint."""
EPOCHS, SCHEDULE = 30, {"every": 7, "count": 3}
PLANNED = [SCHEDULE["every"] * turn for turn in range(1, SCHEDULE["count"] + 1)]
PLAIN: dict[str, Any] = {}
Arms = dict[str, tuple[str, dict[str, Any]]]
RELEARN: Arms = {
    "D&R toward pretrained": ("diagnose-relearn", {"target": "pretrained"}),
    "same, unchanged if the interval includes 0": (
        "diagnose-relearn",
        {"target": "pretrained", "leave_alone": True},
    ),
    "same, preset robust": ("diagnose-relearn", {"target": "pretrained", "preset": "robust"}),
}
WHOLE: Arms = {
    "plain fine-tuning": ("joint", PLAIN),
    **RELEARN,
    "D&R toward pretrained, layer_decay 0.5": (
        "diagnose-relearn",
        {"target": "pretrained", "layer_decay": 0.5},
    ),
    "D&R toward random weights": ("diagnose-relearn", {"target": "redraw"}),
}
STUDIES: dict[str, tuple[str, bool, Arms]] = {
    "Convolutional encoders, from random weights": (
        "cnn",
        False,
        {"plain training": ("joint", PLAIN), "D&R (paper)": ("diagnose-relearn", {"target": "init"})},
    ),
    "Convolutional encoders, pretrained": ("cnn", True, WHOLE),
    "Transformer encoders, pretrained": ("bert", True, WHOLE),
    "Transformer encoders, pretrained and frozen, with LoRA": (
        "lora",
        True,
        {
            "plain LoRA": ("joint", PLAIN),
            **{
                name.replace("toward pretrained", "of the adapters"): (
                    method,
                    {**options, "parameters": "adapters"},
                )
                for name, (method, options) in RELEARN.items()
            },
        },
    ),
}


class Cell(NamedTuple):
    """One run of the study."""

    study: str
    arm: str
    seed: int
    out: Path


def write_sets(source: str, seed: int, out: Path) -> None:
    """Draw the people for pretraining and for fine-tuning, and write both datasets."""
    dataset = eq.load_dataset(source)
    people = np.random.default_rng(seed).permutation(np.unique(dataset.group))
    first = 0
    for stage, counts in PEOPLE.items():
        own = np.repeat(("train", "val", "test"), counts)
        part_of = dict(zip(people[first : first + len(own)], own, strict=True))
        first += len(own)
        chosen = np.array([person in part_of for person in dataset.group])
        eq.write_dataset(
            out / stage,
            {m: np.asarray(dataset.array(m))[chosen] for m in MODALITIES},
            np.asarray(dataset.target)[chosen],
            split=[part_of[person] for person in dataset.group[chosen]],
            group=dataset.group[chosen],
            ids=dataset.ids[chosen],
            classes=dataset.classes,
            name=f"phone-watch-{stage}",
            overwrite=True,
        )


def pretrain(job: tuple[str, int, str, Path]) -> None:
    """Train each encoder alone on the people of the first stage, and save its weights."""
    source, seed, family, out = job
    folder = out / f"seed{seed}"
    if not (folder / "finetune" / "dataset.json").is_file():
        write_sets(source, seed, folder)
    for modality in MODALITIES:
        result = fit(
            folder / "pretrain",
            family,
            seed,
            out / "pretraining" / f"{family}-{modality}-seed{seed}",
            method=f"unimodal:{modality}",
        )
        weights = folder / family
        weights.mkdir(exist_ok=True)
        state = result.model.encoder_module(modality).state_dict()
        save_file({k: v.contiguous() for k, v in state.items()}, weights / f"{modality}.safetensors")


def finetune(cell: Cell) -> Path:
    """Train one arm on the people of the second stage, and return its run folder."""
    family, pretrained, arms = STUDIES[cell.study]
    method, options = arms[cell.arm]
    folder = cell.out / f"seed{cell.seed}"
    weights = folder / ("bert" if family == "lora" else family) if pretrained else None
    place = [list(STUDIES).index(cell.study), list(arms).index(cell.arm), cell.seed]
    record = cell.out / "finetuning" / "-".join(map(str, place))
    settings = {"method": method, "method_options": {**options, **SCHEDULE} if options else {}}
    fit(folder / "finetune", family, cell.seed, record, weights, **settings)
    return record


def fit(
    data: Path, family: str, seed: int, out: Path, weights: Path | None = None, **options: Any
) -> eq.FitResult:
    os.environ[pretrained_models.SEED] = str(seed)
    os.environ[pretrained_models.WEIGHTS] = str(weights or "")
    return eq.fit(
        data,
        seed=seed,
        epochs=EPOCHS,
        optimizer="adamw",
        model=f"pretrained_models:{family}",
        diagnose_every=0,
        threads=1,
        out=out,
        resume=out.is_dir(),
        **options,
    )


def in_turn(pool: ProcessPoolExecutor, work: Callable[[Any], Any], jobs: list[Any]) -> list[Any]:
    found = []
    for done, result in enumerate(pool.map(work, jobs), start=1):
        found.append(result)
        print(f"\r{work.__name__} {done}/{len(jobs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def main(source: str, out: str, page: str, count: str = "5") -> None:
    folder, seeds = Path(out).resolve(), range(int(count))
    source = str(Path(source).resolve())
    for seed in seeds:
        if not (folder / f"seed{seed}" / "finetune" / "dataset.json").is_file():
            write_sets(source, seed, folder / f"seed{seed}")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        in_turn(
            pool, pretrain, [(source, seed, family, folder) for seed in seeds for family in ("cnn", "bert")]
        )
        cells = [
            Cell(study, arm, seed, folder)
            for study, (_, _, arms) in STUDIES.items()
            for arm in arms
            for seed in seeds
        ]
        records = dict(zip(cells, map(RunRecord, in_turn(pool, finetune, cells)), strict=True))
    Path(page).write_text("\n".join(written(records)), encoding="utf-8")


def written(records: dict[Cell, RunRecord]) -> list[str]:
    results = {cell: record.result() for cell, record in records.items()}
    seeds = sorted({cell.seed for cell in results})
    first = next(iter(results.values()))
    machine = first["environment"]
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    people = "; ".join(
        f"{stage} {train} for training, {val} validation, {test} test"
        for stage, (train, val, test) in PEOPLE.items()
    )
    lines = [
        "# Does re-learning help pretrained encoders?",
        "",
        "Written by `benchmarks/pretrained.py` from the run records; not edited by hand.",
        "",
        f"Sensors of phone and watch (`{'`, `'.join(MODALITIES)}`; five activities, 23 people). For each "
        f"seed, people are drawn at random: {people}; the two sets are disjoint. Each encoder is pretrained "
        f"alone on the first set, then all are trained jointly on the second: {EPOCHS} epochs of AdamW with "
        f"the default learning rate, re-learning after epochs {', '.join(map(str, PLANNED))}, `lam` 3. "
        "Nothing was tuned: options are defaults or given in the names of the rows, and were fixed before "
        "the first run. Weights are selected on validation; the test split was evaluated once per run. "
        "Differences are paired by seed, which determines people, pretrained weights, head and batch order. "
        "Intervals are Student's; p-values are from the paired t-test with Holm's correction within a table. "
        "If the selected epoch is not later than the first re-learning, the weights equal those of the first "
        "row: `changed` counts the runs with a re-learning before the selected epoch. `unchanged` counts "
        "strengths of 0.",
        "",
    ]
    for study in STUDIES:
        lines += [f"## {study}", "", *table(study, results, records, seeds), ""]
    return [
        *lines,
        *pretraining_gain(results, seeds),
        "## Conditions",
        "",
        f"- Seeds {', '.join(map(str, seeds))}; commit `{head.stdout.strip()}`; "
        + ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        f"- Python {machine['python']}, {machine['platform']}, {machine['cores']} cores, {machine['device']}",
        "",
    ]


def table(
    study: str, results: dict[Cell, dict[str, Any]], records: dict[Cell, RunRecord], seeds: list[int]
) -> list[str]:
    arms = list(STUDIES[study][2])
    own = {
        arm: [c for s in seeds for c in results if (c.study, c.arm, c.seed) == (study, arm, s)]
        for arm in arms
    }
    require_alike([results[cell] for cells in own.values() for cell in cells], seeds)
    score = {arm: [float(results[c]["test"]["accuracy"]) for c in cells] for arm, cells in own.items()}
    macro = {arm: [float(results[c]["test"]["macro_f1"]) for c in cells] for arm, cells in own.items()}
    found = {arm: paired_difference(score[arm], score[arms[0]]) for arm in arms[1:]}
    corrected = holm({arm: difference.p_value for arm, difference in found.items()})
    lines = [
        "| | test accuracy | macro F1 | difference | 95 % | p | by seed | changed | mean strength "
        "| unchanged |",
        f"|{'---|' * 10}",
        f"| {arms[0]} | {mean(score[arms[0]]):.3f} | {mean(macro[arms[0]]):.3f} | | | | | | | |",
    ]
    for arm, difference in found.items():
        by_seed = ", ".join(f"{a - b:+.3f}" for a, b in zip(score[arm], score[arms[0]], strict=True))
        changed = sum(was_relearnt(records[cell], int(results[cell]["best_epoch"])) for cell in own[arm])
        states = [state for cell in own[arm] for state in relearnings(records[cell])]
        strengths = [float(state["applied"]) for state in states]
        lines.append(
            f"| {arm} | {mean(score[arm]):.3f} | {mean(macro[arm]):.3f} | {difference.mean:+.3f} "
            f"|{bracketed((difference.low, difference.high), signed=True)} | {corrected[arm]:.3f} "
            f"| {by_seed} "
            f"| {changed} of {len(seeds)} | {mean(strengths):.3f} "
            f"| {sum(strength == 0 for strength in strengths)} of {len(strengths)} |"
        )
    return lines


def require_alike(results: list[dict[str, Any]], seeds: list[int]) -> None:
    """Exit if runs did not start from the same weights on the same data."""
    for key in ("init_fingerprint", "split_fingerprint", "budget_fingerprint"):
        for seed in seeds:
            if len({result[key] for result in results if result["seed"] == seed}) != 1:
                sys.exit(f"Runs of seed {seed} differ in {key} and cannot be compared.")


def relearnings(record: RunRecord) -> list[dict[str, Any]]:
    return [state for event in events(record) for state in event["modalities"].values()]


def was_relearnt(record: RunRecord, best_epoch: int) -> bool:
    """Return whether the selected weights had been re-learnt; validation comes before re-learning."""
    return any(
        event["epoch"] < best_epoch and any(state["applied"] for state in event["modalities"].values())
        for event in events(record)
    )


def events(record: RunRecord) -> list[dict[str, Any]]:
    return [event for event in record.events("diagnosis.jsonl") if event["event"] == "relearning"]


def pretraining_gain(results: dict[Cell, dict[str, Any]], seeds: list[int]) -> list[str]:
    """Measure whether pretraining itself helps; otherwise the study would be meaningless."""
    scratch, pretrained, *_ = STUDIES
    score = [
        [float(results[c]["test"]["accuracy"]) for s in seeds for c in results if c[:3] == (study, arm, s)]
        for study, arm in ((pretrained, "plain fine-tuning"), (scratch, "plain training"))
    ]
    gain = paired_difference(*score)
    return [
        "## Effect of pretraining itself",
        "",
        "Convolutional encoders, plain fine-tuning minus plain training from random weights: "
        f"{gain.mean:+.3f}{bracketed((gain.low, gain.high), signed=True)}.",
        "",
    ]


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    main(*sys.argv[1:])
