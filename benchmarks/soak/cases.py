"""What is killed: single runs, comparisons and tunings with two workers, preparations, reproductions."""

from __future__ import annotations

import math
import wave
from array import array
from collections.abc import Sequence
from pathlib import Path

from kills import WAYS, Case

METHODS = (
    "joint",
    "multi-loss",
    "ogm-ge",
    "mmpareto",
    "reconboost",
    "umt",
    "mla",
    "short-ensemble",
    "diagnose-relearn",
    "diagnose-relearn-plus",
)
"""Single losses, several optimisers, methods that build on other runs, and those with cycles."""
CLIPS = 600


def runs() -> list[Case]:
    """Single runs, killed as a whole, at any moment from the start of the interpreter on."""
    changes = ["killed/metrics.jsonl", "killed/parts/*/metrics.jsonl"]
    return [
        Case(
            method,
            f"train --data htad --epochs 24 --checkpoint-every 2 --trace --method {method}".split(),
            changes,
        )
        for method in METHODS
    ]


def comparisons() -> list[Case]:
    """Comparisons, a grid and a tuning with two workers, ended in every way."""
    shared = "--data htad --epochs 16 --workers 2"
    run, cell, trial = "killed/runs/*/metrics.jsonl", "killed/*/runs/*/metrics.jsonl", "killed/trials.db"
    words = {
        "compare": f"compare {shared} --checkpoint-every 2 --methods joint umt diagnose-relearn --seeds 2",
        "grid": f"compare {shared} --checkpoint-every 2 --methods joint ensemble --vary lr=0.05,0.1",
        "tune": f"tune {shared} --methods joint multi-loss --trials 4",
    }
    return [
        Case(name, command.split(), [run, cell, trial], ways=WAYS, longest=4.0)
        for name, command in words.items()
    ]


def preparations(folder: Path) -> list[Case]:
    """The preparation of sounds with two workers, which resumes by itself, and a quick ablation."""
    table = sounds(folder / "sounds")
    prepare = f"prepare table --source {table} --modalities-from clip=spectrogram --workers 2"
    reproduce = "reproduce ablation-output --quick --seeds 3 --epochs 8 --workers 2"
    runs = ["killed/ablation-output/*/runs/*/metrics.jsonl", "killed/ablation-output/runs/*/metrics.jsonl"]
    return [
        Case(
            "prepare",
            prepare.split(),
            [".killed.preparing/journal.jsonl"],
            ways=[way for way in WAYS if way != "worker"],  # a clip whose decoder dies is a lost sample
            resumes=False,
        ),
        Case("reproduce", reproduce.split(), runs, ways=WAYS, longest=4.0),
    ]


def sounds(folder: Path) -> Path:
    """Write short tones and the table that lists them; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Sequence[object]] = [("id", "clip", "target")]
    for number in range(CLIPS):
        name, pitch = f"{number}.wav", 200 + 150 * (number % 3) + number / 10
        samples = array("h", (int(9e3 * math.sin(2 * math.pi * pitch * t / 8000)) for t in range(4000)))
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
            file.writeframes(samples.tobytes())
        rows.append((number, name, "abc"[number % 3]))
    table = folder / "table.csv"
    table.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return table
