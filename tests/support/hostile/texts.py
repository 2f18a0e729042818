"""Configurations, records and prepared folders: tags of YAML, nesting, names and links that lead outside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import equipoise as eq
from equipoise.data import open_dataset
from equipoise.experiments.compare.comparison import read_comparison
from equipoise.experiments.compare.tuned import TUNED, read_tuned
from equipoise.training.record.record import CHECKPOINT, METRICS, SNAPSHOTS, RunRecord
from hostile.case import Hostile, Place, command, content

EARLIER = Path(__file__).parents[1] / "earlier"
TRAIN = command("train", "--config", "PATH", "--out", "run")
REPORT = command("report", "PATH")
TAG = "!!python/object/apply:os.system ['PROGRAM']"
DEEP = "[" * 100_000


def multiplied() -> str:
    """Return lists of lists, 2^40 values by aliases."""
    lists = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    return "\n".join(lists)


def merged() -> str:
    """Return mappings that are merged into one another, 2^40 keys."""
    keys = ["a0: &a0 {x0: 1, y0: 1}"]
    keys += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)]
    return "\n".join(keys)


def program_in(text: str) -> Callable[[Place], bytes]:
    return lambda place: text.replace("PROGRAM", place.program).encode()


def edited(kind: str, name: str, change: str | Callable[[str], str]) -> Callable[[Place], Path]:
    """Return what writes a folder of an earlier version with one file changed."""

    def write(place: Place) -> Path:
        folder = Path(shutil.copytree(EARLIER / kind, place.given / kind))
        text = change if isinstance(change, str) else change((folder / name).read_text())
        text = text.replace("PROGRAM", place.program).replace("OUTSIDE", str(place.outside))
        (folder / name).write_text(text)
        return folder

    return write


def with_file(file: str) -> Callable[[str], str]:
    """Return what gives the first modality of a dataset another file."""

    def change(text: str) -> str:
        held: Any = json.loads(text)
        held["modalities"][0]["file"] = file
        return json.dumps(held)

    return change


def with_shape(text: str) -> str:
    held: Any = json.loads(text)
    held["modalities"][0]["shape"] = [2**40]
    return json.dumps(held)


def linked(kind: str, name: str, target: str) -> Callable[[Place], Path]:
    """Return what writes a folder of an earlier version in which a file is a link to one outside."""

    def write(place: Place) -> Path:
        folder = Path(shutil.copytree(EARLIER / kind, place.given / kind))
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(place.outside / target)
        return folder

    return write


def resume(folder: Path) -> None:
    """What `equipoise train --resume` does to a run before it trains."""
    record = RunRecord(folder)
    with record.opened(record.options(), resume=True):
        record.append(METRICS, {"event": "epoch"})


def overwrite(folder: Path) -> None:
    eq.write_dataset(folder, {"a": np.ones((6, 2))}, [0, 1] * 3, overwrite=True)


def named_elsewhere(place: Place) -> Path:
    """A comparison of a method whose name would leave the folder of its runs."""
    folder = Path(shutil.copytree(EARLIER / "comparison", place.given / "comparison"))
    for name in ("results.csv", "summary.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("joint", "../../../outside/joint"))
    return folder


def deeper(text: str) -> str:
    return f'{{"event": "epoch", "epoch": {DEEP}\n{text}'


_CONFIGS: dict[str, tuple[str, str]] = {
    "a tag that calls os.system": (f"epochs: {TAG}", "not valid YAML"),
    "a tag that names a function": ("epochs: !!python/name:os.system", "not valid YAML"),
    "a tag that imports a module": ("epochs: !!python/module:antigravity", "not valid YAML"),
    "a tag that makes a subprocess.Popen": (
        "epochs: !!python/object/new:subprocess.Popen [[PROGRAM]]",
        "not valid YAML",
    ),
    "a tag in the value of an option": (f'set: ["lam={TAG}"]', "cannot read the value"),
    "lists that hold each other 2^40 times": (multiplied(), "aliases multiply"),
    "mappings that are merged 2^40 times": (merged(), "merged keys"),
    "100,000 lists inside one another": (f"epochs: {DEEP}", "not valid YAML"),
    "a mapping that holds itself": ("a: &a {b: *a}", "100 deep"),
}
SLOW = "a comparison whose methods are ../"
_RUNS: dict[str, tuple[Callable[[Place], Path], Callable[[Path], object], str]] = {
    "settings with a tag that calls os.system": (
        edited("run", "config.yaml", f"data: {TAG}"),
        REPORT,
        "could not determine a constructor",
    ),
    "a result of 100,000 lists inside one another": (edited("run", "result.json", DEEP), REPORT, "deep"),
    "a result with a number of 100,000 digits": (
        edited("run", "result.json", f'{{"seed": {"9" * 100_000}}}'),
        REPORT,
        "limit",
    ),
    "an event of 100,000 lists inside one another": (
        edited("run", METRICS, deeper),
        REPORT,
        "damaged in line 1",
    ),
    "events that are a link, to be written when resumed": (
        linked("run", METRICS, "secret.txt"),
        resume,
        "is a link to OUTSIDE/secret.txt, outside the folder",
    ),
    "a checkpoint that is a link": (linked("run", CHECKPOINT, "secret.npy"), resume, "is a link"),
    "snapshots that are a link to a folder": (linked("run", SNAPSHOTS, ""), resume, "is a link"),
    "results without an end": (
        linked("comparison", "results.csv", "/dev/zero"),
        read_comparison,
        "no file",
    ),
    "a result without an end": (
        linked("run", "result.json", "/dev/zero"),
        REPORT,
        "more than 16777216 bytes",
    ),
    SLOW: (
        named_elsewhere,
        REPORT,
        "",
    ),
    "a summary of 100,000 lists inside one another": (
        edited("comparison", "summary.json", DEEP),
        read_comparison,
        "deep",
    ),
    "a tuning with a tag that calls os.system": (
        content(f"tune/{TUNED}", program_in(f"methods: {TAG}")),
        lambda path: read_tuned(path.parent),
        "could not determine a constructor",
    ),
}
_SETS: dict[str, tuple[Callable[[Place], Path], Callable[[Path], object], str]] = {
    "an array in ../": (
        edited("set", "dataset.json", with_file("../../outside/secret.npy")),
        open_dataset,
        "outside its folder",
    ),
    "an array by an absolute path": (
        edited("set", "dataset.json", with_file("OUTSIDE/secret.npy")),
        open_dataset,
        "outside its folder",
    ),
    "an array that is a link": (linked("set", "00_audio.npy", "secret.npy"), open_dataset, "is a link"),
    "a description that is a link": (linked("set", "dataset.json", "secret.txt"), open_dataset, "is a link"),
    "an index that is a link": (linked("set", "index.csv", "secret.txt"), open_dataset, "is a link"),
    "a description of 100,000 lists inside one another": (
        edited("set", "dataset.json", DEEP),
        open_dataset,
        "deep",
    ),
    "an array that claims 2^40 numbers a sample": (
        edited("set", "dataset.json", with_shape),
        open_dataset,
        "was changed after writing",
    ),
    "an array that is a link, when it is overwritten": (
        linked("set", "00_audio.npy", "secret.npy"),
        overwrite,
        "",
    ),
}
CASES = [
    *(
        Hostile("configuration", tries, content("config.yaml", program_in(text)), TRAIN, says)
        for tries, (text, says) in _CONFIGS.items()
    ),
    *(
        Hostile("record", tries, write, read, says, slow=tries == SLOW)
        for tries, (write, read, says) in _RUNS.items()
    ),
    *(Hostile("prepared folder", tries, write, read, says) for tries, (write, read, says) in _SETS.items()),
]
