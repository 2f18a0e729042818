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

import pandas as pd

from equipoise.data.datasets import DATASETS
from equipoise.data.prepare.engine import prepare
from equipoise.experiments.grid.cell import Cell
from equipoise.experiments.grid.grid import run_grid
from equipoise.training.recipe import BATCHES, recipes
from equipoise.training.record.record import RunRecord, environment
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
SEEDS = (0, 1)
COMMON: Mapping[str, Any] = {"momentum": 0.9, "warmup_epochs": 0}
ADAMW: Mapping[str, Any] = COMMON | {
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "schedule": "cosine",
}
SGD: Mapping[str, Any] = COMMON | {
    "epochs": 60,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.05,
    "weight_decay": 1e-4,
    "schedule": "constant",
    "augment": "none",
}
WARM: Mapping[str, Any] = {"warmup_epochs": 4, "weight_decay": 0.05}


@dataclass(frozen=True)
class Family:
    """The candidates for one recipe.

    Attributes:
        recipe: its name.
        sets: dataset to the encoders that are named instead of `auto`.
        candidates: label to options. What they leave out is that of the recipe.
    """

    recipe: str
    sets: Mapping[str, str | Mapping[str, str]]
    candidates: Mapping[str, Mapping[str, Any]]


BEFORE = {"sgd 0.05 constant": SGD}
FAMILIES = (
    Family(
        "vectors",
        {"htad": "auto"},
        BEFORE
        | {
            "sgd 0.02 cosine": SGD | {"lr": 0.02, "schedule": "cosine"},
            "sgd 0.1 constant": SGD | {"lr": 0.1},
            "adamw 0.001 cosine": ADAMW,
            "adamw 0.003 cosine": ADAMW | {"lr": 3e-3},
        },
    ),
    Family(
        "words",
        {"cmu-mosi": "auto"},
        BEFORE
        | {
            "adamw 0.001 cosine": ADAMW,
            "adamw 0.001 cosine, batch 64": ADAMW | {"batch_size": 64},
            "adamw 0.0003 cosine": ADAMW | {"lr": 3e-4},
            "adamw 0.003 cosine": ADAMW | {"lr": 3e-3},
        },
    ),
    Family(
        "transformers",
        {"cmu-mosi": {"text": "token-transformer"}, "phone-watch": "transformer"},
        BEFORE
        | {
            "adamw 0.0003 warm-up, cosine": ADAMW | WARM | {"lr": 3e-4},
            "adamw 0.0001 warm-up, cosine": ADAMW | WARM | {"lr": 1e-4},
            "adamw 0.001 warm-up, cosine": ADAMW | WARM,
        },
    ),
    Family(
        "convolutions",
        dict.fromkeys(("egogestar", "phone-watch", "avletters", "fsdd-mnist"), "auto"),
        BEFORE
        | {
            "adamw 0.001 cosine": ADAMW,
            "adamw 0.003 cosine": ADAMW | {"lr": 3e-3},
            "adamw 0.0003 cosine": ADAMW | {"lr": 3e-4},
            "adamw 0.001 cosine, not augmented": ADAMW | {"augment": "none"},
            "adamw 0.001 cosine, batch 64": ADAMW | {"batch_size": 64},
            "sgd 0.02 cosine": ADAMW | {"optimizer": "sgd", "lr": 0.02, "weight_decay": 5e-4},
        },
    ),
)


def main(source: str, out: str, page: str) -> None:
    folder = Path(out)
    for name, archive in SETS.items():
        if archive and not (folder / "sets" / name / "dataset.json").is_file():
            plan = DATASETS[name]().plan(Path(source) / archive)
            prepare(plan, folder / "sets" / name)
    found = run_grid(list(cells(folder / "sets")), folder / "runs", resume=True)
    Path(page).write_text(
        "\n".join([*header(), *(line for family in FAMILIES for line in table(family, found))])
    )


def cells(sets: Path) -> Iterator[Cell]:
    """Yield a comparison of joint and unimodal runs for each set and candidate."""
    for family in FAMILIES:
        for label, options in family.candidates.items():
            for name, encoder in family.sets.items():
                data = name if not SETS[name] else str(sets / name)
                settings = Settings.from_options(data, encoder=encoder, diagnose_every=0, **options)
                yield Cell(cell_name(family, label, name), settings, ["joint", "unimodal"], SEEDS)


def cell_name(family: Family, label: str, name: str) -> str:
    return f"{family.recipe}, {label}, {name}".replace(", ", "--").replace(" ", "-")


def header() -> list[str]:
    return [
        "# How the recipes were chosen",
        "",
        "Written by `make defaults` from the run records; not edited by hand. `auto` trains a model by the "
        "recipe of its encoders (`equipoise list recipes`). Each table compares settings for one family of "
        f"encoders: joint training and each modality alone, on seeds {', '.join(map(str, SEEDS))}, by the "
        "**validation** accuracy that selected the epoch. The test split decided nothing. `joint` and "
        "`alone` are means over seeds, `alone` over modalities too; the mean is that of all these columns, "
        "and the best one is bold. `below floor` counts runs that validation shows to be below a linear "
        "model on the same inputs. The settings of the recipe are marked; what a row does not state is as in "
        "the recipe.",
        "",
        f"Conditions: {', '.join(f'{key} {value}' for key, value in environment('cpu').items())}.",
        "",
    ]


def table(family: Family, found: Mapping[str, Any]) -> list[str]:
    """Return the table of a family; the best mean is bold."""
    rows = {label: row(family, label, found) for label in family.candidates}
    best = max(rows, key=lambda label: rows[label]["mean"])
    columns = [column for column in rows[best] if column not in ("mean", "below floor", "seconds")]
    lines = [
        f"## {family.recipe}",
        "",
        f"| settings | {' | '.join(columns)} | mean | below floor | seconds |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for label, values in rows.items():
        named = f"{label} (recipe)" if is_recipe(family, label) else label
        figures = [f"{values[column]:.3f}" for column in columns]
        mean = f"**{values['mean']:.3f}**" if label == best else f"{values['mean']:.3f}"
        counts = f"{values['below floor']:.0f} | {values['seconds']:.0f}"
        lines.append(f"| {named} | {' | '.join(figures)} | {mean} | {counts} |")
    return [*lines, ""]


def is_recipe(family: Family, label: str) -> bool:
    """Return whether these are the settings of the recipe."""
    own, options = recipes()[family.recipe], family.candidates[label]
    large = BATCHES * own.budget["batch_size"]  # samples of a set that gets the full batch size
    given = {key: options[key] for key in own.budget if key in options}
    return own.options(large, given) == own.options(large, {})


def row(family: Family, label: str, found: Mapping[str, Any]) -> dict[str, float]:
    accuracy: dict[str, float] = {}
    below, seconds = 0, 0.0
    for name in family.sets:
        comparison = found[cell_name(family, label, name)]
        results: pd.DataFrame = comparison.results
        joint = results["method"] == "joint"
        accuracy[f"{name} joint"] = results.loc[joint, "val_accuracy"].mean()
        accuracy[f"{name} alone"] = results.loc[~joint, "val_accuracy"].mean()
        seconds += results["train_seconds"].sum()
        records = [RunRecord(file.parent).result() for file in comparison.folder.glob("runs/*/result.json")]
        below += sum(record["floor"]["own"]["below"] for record in records)
    mean = sum(accuracy.values()) / len(accuracy)
    return {**accuracy, "mean": mean, "below floor": below, "seconds": seconds}


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
