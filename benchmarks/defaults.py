"""The scan by which the recipes were chosen: candidates by family of encoders, on validation, over all sets.

Usage: python benchmarks/defaults.py SOURCE_DIR OUT_DIR PAGE.md

SOURCE_DIR holds the archives that `equipoise prepare` reads (`SETS`). Finished runs in OUT_DIR are kept, so
that the scan can be interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from equipoise.data.datasets import DATASETS
from equipoise.data.prepare.engine import prepare
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.grid.grid import run_grid
from equipoise.training.recipe import recipes
from equipoise.training.record.machine import environment
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings

SETS = {
    "htad": "",
    "cmu-mosi": "mosi_utt.npz",
    "phone-watch": "sp_sw_har_1s_windows.npz",
    "egogestar": "egogestar_video_25x60x80.npz",
    "avletters": "avletters.npz",
    "fsdd-mnist": "fsdd.npz",
}
"""Dataset to its archive; none is needed for the first."""
COMMON: Mapping[str, Any] = {"diagnose_every": 0, "split_seed": "run"}
ADAMW: Mapping[str, Any] = {
    "momentum": 0.9,
    "warmup_epochs": 0,
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "schedule": "cosine",
}
SGD: Mapping[str, Any] = {
    "momentum": 0.9,
    "warmup_epochs": 0,
    "epochs": 60,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.05,
    "weight_decay": 1e-4,
    "schedule": "constant",
    "augment": "none",
}
MARGIN = 0.003
"""A smaller gain in validation accuracy is not worth a change."""
WARM: Mapping[str, Any] = {"warmup_epochs": 4, "weight_decay": 0.05}


@dataclass(frozen=True)
class Family:
    """The candidates for one recipe.

    Attributes:
        recipe: its name.
        seeds: how many; each draws its own validation samples too.
        sets: dataset to the options that are not left to their defaults.
        candidates: label to options. What they leave out is that of the recipe.
    """

    recipe: str
    seeds: int
    sets: Mapping[str, Mapping[str, Any]]
    candidates: Mapping[str, Mapping[str, Any]]


BEFORE = {"sgd 0.05 constant": SGD}
FAMILIES = (
    Family(
        "vectors",
        24,
        {"htad": {}},
        BEFORE
        | {
            "sgd 0.02 cosine": SGD | {"lr": 0.02, "schedule": "cosine"},
            "sgd 0.1 constant": SGD | {"lr": 0.1},
            "sgd 0.05 constant, decay 0.001": SGD | {"weight_decay": 1e-3},
            "sgd 0.1 constant, decay 0.001": SGD | {"lr": 0.1, "weight_decay": 1e-3},
            "sgd 0.1 cosine, decay 0.001": SGD | {"lr": 0.1, "weight_decay": 1e-3, "schedule": "cosine"},
            "adamw 0.001 cosine": ADAMW,
            "adamw 0.003 cosine": ADAMW | {"lr": 3e-3},
        },
    ),
    Family(
        "words",
        6,
        {"cmu-mosi": {}},
        BEFORE
        | {
            "adamw 0.0003 cosine": ADAMW | {"lr": 3e-4},
            "adamw 0.001 cosine": ADAMW,
            "adamw 0.001 cosine, batch 64": ADAMW | {"batch_size": 64},
            "adamw 0.003 cosine": ADAMW | {"lr": 3e-3},
            "adamw 0.01 cosine": ADAMW | {"lr": 1e-2},
        },
    ),
    Family(
        "convolutions",
        2,
        {name: {} for name in ("egogestar", "avletters", "fsdd-mnist", "phone-watch")},
        BEFORE
        | {
            "sgd 0.02 cosine": ADAMW | {"optimizer": "sgd", "lr": 0.02, "weight_decay": 5e-4},
            "adamw 0.0003 cosine": ADAMW | {"lr": 3e-4},
            "adamw 0.001 cosine": ADAMW,
            "adamw 0.001 cosine, batch 64": ADAMW | {"batch_size": 64},
            "adamw 0.001 cosine, not augmented": ADAMW | {"augment": "none"},
            "adamw 0.003 cosine": ADAMW | {"lr": 3e-3},
            "adamw 0.01 cosine": ADAMW | {"lr": 1e-2},
        },
    ),
    Family(
        "transformers",
        2,
        {
            "cmu-mosi": {"encoder": {"text": "token-transformer"}},
            "phone-watch": {"encoder": "transformer", "modalities": ["phone_gyro", "watch_gyro"]},
        },
        {
            "adamw 0.0001 warm-up, cosine": ADAMW | WARM | {"lr": 1e-4},
            "adamw 0.0003 warm-up, cosine": ADAMW | WARM | {"lr": 3e-4},
            "adamw 0.001 warm-up, cosine": ADAMW | WARM,
        },
    ),
)


def main(source: str, out: str, page: str) -> None:
    folder = Path(out)
    for name, archive in SETS.items():
        if archive and not (folder / "sets" / name / "dataset.json").is_file():
            plan = DATASETS[name]().planned(Path(source) / archive)
            prepare(plan, folder / "sets" / name)
    found = run_grid(list(cells(folder / "sets")), folder / "runs", resume=True)
    Path(page).write_text(
        "\n".join([*header(), *(line for family in FAMILIES for line in table(family, found))])
    )


def cells(sets: Path) -> Iterator[Cell]:
    """Yield a comparison of joint and unimodal runs for each set and candidate."""
    for family in FAMILIES:
        for label, options in family.candidates.items():
            for name, own in family.sets.items():
                data = name if not SETS[name] else str(sets / name)
                settings = Settings.from_options(data, **COMMON, **own, **options)
                yield Cell(
                    cell_name(family, label, name), settings, ["joint", "unimodal"], range(family.seeds)
                )


def cell_name(family: Family, label: str, name: str) -> str:
    return f"{family.recipe}, {label}, {name}".replace(", ", "--").replace(" ", "-")


def header() -> list[str]:
    conditions = environment("cpu")
    return [
        "# How the recipes were chosen",
        "",
        "Written by `make defaults` from the run records; not edited by hand. `auto` trains a model by the "
        "recipe of its encoders (`equipoise list recipes`). Each table compares settings for one family of "
        "encoders: joint training and each modality alone, by the **validation** accuracy that selected the "
        "epoch. Every seed draws its own validation samples. The test split decided nothing.",
        "",
        "`joint` and `alone` are means over seeds, `alone` over modalities too; `mean` is that of all these "
        "columns. `vs best` is the difference to the best mean, with its standard error over pairs of equal "
        "column and seed. The rule: settings are out if one of their runs failed, or if others are better by "
        f"more than two standard errors and by more than {MARGIN}. Of those that remain, the recipe in use "
        "stays; otherwise it becomes the smallest learning rate of the same optimiser. The recipe is bold. "
        "`below floor` counts runs that validation shows to be below a linear model on the same inputs. "
        "What a row does not state is as in the recipe.",
        "",
        f"Conditions: Python {conditions['python']}, {conditions['platform']}, {conditions['cores']} cores; "
        f"{', '.join(f'{package} {version}' for package, version in conditions['versions'].items())}.",
        "",
    ]


def table(family: Family, found: Mapping[str, Any]) -> list[str]:
    """Return the table of a family, in which the recipe is bold."""
    rows = {label: measured(family, label, found) for label in family.candidates}
    best = max(rows, key=lambda label: rows[label].mean)
    columns = list(rows[best].accuracy.columns)
    lines = [
        f"## {family.recipe}",
        "",
        f"Seeds 0 to {family.seeds - 1}.{''.join(given(name, own) for name, own in family.sets.items())}",
        "",
        f"| settings | {' | '.join(columns)} | mean | vs best | failed | below floor | seconds |",
        "|---" * (len(columns) + 6) + "|",
    ]
    for label, row in rows.items():
        figures = " | ".join(f"{value:.3f}" for value in row.accuracy.mean())
        behind = (row.accuracy - rows[best].accuracy).to_numpy().ravel()
        behind = behind[~np.isnan(behind)]  # failed runs have no accuracy
        error = behind.std(ddof=1) / len(behind) ** 0.5
        compared = "" if label == best else f"{behind.mean():+.4f} ± {error:.4f}"
        cells = [f"**{label}**" if is_recipe(family, label) else label, figures, f"{row.mean:.3f}", compared]
        lines.append(f"| {' | '.join([*cells, str(row.failed), str(row.below), f'{row.seconds:.0f}'])} |")
    return [*lines, ""]


def given(name: str, options: Mapping[str, Any]) -> str:
    """Return a sentence on the options of a set, empty without any."""
    stated = ", ".join(f"{key} {value}" for key, value in options.items())
    return f" {name} with {stated}." if stated else ""


def is_recipe(family: Family, label: str) -> bool:
    """Return whether these are the settings of the recipe."""
    own, options = recipes()[family.recipe], family.candidates[label]
    given = {key: options[key] for key in own.budget if key in options}
    return own.options(1, given) == own.options(1, {})


@dataclass(frozen=True)
class Row:
    """The runs of one candidate.

    Attributes:
        accuracy: on validation, seeds by columns.
        failed: number of runs that failed.
        below: number of runs below their floor.
        seconds: of training, of all runs.
    """

    accuracy: pd.DataFrame
    failed: int
    below: int
    seconds: float

    @property
    def mean(self) -> float:
        """The mean over all columns."""
        return float(self.accuracy.mean().mean())


def measured(family: Family, label: str, found: Mapping[str, Any]) -> Row:
    columns: dict[str, pd.Series] = {}
    failed, below, seconds = 0, 0, 0.0
    for name in family.sets:
        comparison = found[cell_name(family, label, name)]
        results: pd.DataFrame = comparison.results
        joint = results["method"] == "joint"
        for column, chosen in {f"{name} joint": joint, f"{name} alone": ~joint}.items():
            columns[column] = results[chosen].groupby("seed")["val_accuracy"].mean()
        failed += int((results["status"] != "ok").sum())
        seconds += results["train_seconds"].sum()
        records = [RunRecord(file.parent).result() for file in comparison.folder.glob("runs/*/result.json")]
        below += sum(record["floor"]["own"]["below"] for record in records)
    return Row(pd.DataFrame(columns), failed, below, seconds)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
