"""Files that are changed, shortened or removed while a command needs them, or between two commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import equipoise as eq
import synthetic
from commands import command
from equipoise.data import open_dataset, splits_of
from equipoise.data.format.batches import SplitData
from equipoise.data.format.normalize import fit_normalizers
from equipoise.data.format.run_data import RunData
from equipoise.experiments.compare.tuned import Tuned, TunedMethod, read_tuned, shared_options
from equipoise.models import build_model
from equipoise.training.settings import Settings
from equipoise.types import DataError, PathError
from evidence import add_row
from moments import before_change

TRAIN = ["train", "--epochs", "3", "--checkpoint-every", "1", "--diagnose-every", "0", "--batch-size", "32"]


def row(what: str, moment: str, said: object, kept: str, went_on: bool = True) -> None:
    add_row(part="adversity", what=what, moment=moment, said=str(said), kept=kept, went_on=went_on)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path / "set").path


def shorten(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(200, len(content)):
        content[place] ^= 1
    with path.open("r+b") as file:  # in place, as a program that works on the array
        file.write(content)


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    ("change", "said"),
    [(shorten, "truncated or damaged"), (flip, "were changed after they were"), (Path.unlink, "is missing")],
)
def test_an_array_that_changes_during_a_training(
    data: Path,
    tmp_path: Path,
    change: Callable[[Path], Any],
    said: str,
    mapped: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mapped arrays are read all the time, where SIGBUS would end the process; others for the test split."""
    out, array = tmp_path / "run", next(data.glob("00_*.npy"))
    if mapped:
        monkeypatch.setitem(RunData.__init__.__kwdefaults__ or {}, "memory_limit", 0)
    shutil.copy(array, tmp_path / "copy")
    words = [*TRAIN, "--data", data, "--out", out]
    with before_change(out, "checkpoint.pt", lambda: change(array)):
        ended = command(capsys, *words)
    assert ended.code == 1
    assert str(array) in ended.line or str(data) in ended.line
    assert said in ended.line
    assert (out / "checkpoint.pt").is_file()
    shutil.copy(tmp_path / "copy", array)
    assert command(capsys, *words, "--resume").code == 0
    kind = "mapped" if mapped else "in memory"
    row("train", f"array {getattr(change, '__name__', '')}, {kind}", ended.line, "the checkpoint")


def test_an_array_that_is_only_copied_anew_is_taken(data: Path) -> None:
    dataset = open_dataset(data)
    rows = np.arange(20)
    split = SplitData(dataset, rows, fit_normalizers(dataset, rows), memory_limit=0)
    before = split[[3, 4]].inputs
    for path in data.glob("0*.npy"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    after = split[[3, 4]].inputs
    assert all(before[name].equal(after[name]) for name in before)
    shorten(next(data.glob("00_*.npy")))
    with pytest.raises(DataError, match="truncated"):
        split[[3, 4]]


def test_a_run_folder_that_is_removed(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs" / "a"
    words = [*TRAIN, "--data", data, "--out", out]
    with before_change(out, "checkpoint.pt", lambda: shutil.rmtree(out)):
        ended = command(capsys, *words)
    assert ended.code == 1
    assert f"{out} was removed while it was in use; run the same command again" in ended.line
    assert not out.exists()
    assert command(capsys, *words).code == 0
    row("train", "run folder removed", ended.line, "nothing to keep")


@pytest.mark.parametrize("name", ["config.yaml", "dataset.json", "index.csv", "metrics.jsonl", "weights.pt"])
def test_what_was_edited_before_it_is_resumed(
    data: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, weights = tmp_path / "run", tmp_path / "weights.pt"

    def write_weights(seed: int) -> None:
        model = build_model({"audio": ((8,), "vector"), "video": ((5,), "vector")}, 3, seed=seed)
        torch.save(model.encoders["audio"].state_dict(), weights)

    write_weights(1)
    words = [*TRAIN, "--data", data, "--out", out, "--encoder-option", f"audio.weights={weights}"]
    with before_change(out, "metrics.jsonl", lambda: None), before_change(out, "predictions.npz", stop):
        command(capsys, *words)
    changed = {"config.yaml": out, "metrics.jsonl": out, "weights.pt": tmp_path}.get(name, data) / name
    before = changed.read_bytes()
    if name == "weights.pt":
        write_weights(2)
    elif name == "metrics.jsonl":
        changed.write_bytes(before[: len(before) // 4])
    elif name == "config.yaml":
        changed.write_text(changed.read_text().replace("epochs: 3", "epochs: 4"))
    elif name == "dataset.json":
        changed.write_text(json.dumps(json.loads(before) | {"classes": ["x", "y", "z"]}))
    else:
        changed.write_bytes(before.replace(b'"149",2', b'"149",1'))
        assert changed.read_bytes() != before
    ended = command(capsys, *words, "--resume")
    assert ended.code in (1, 2)
    said = {"weights.pt": "other data or weights", "config.yaml": "epochs 4 (requested: 3)"}
    assert said.get(name, str(changed)) in ended.line or "changed after writing" in ended.line
    changed.write_bytes(before)
    assert command(capsys, *words, "--resume").code == 0
    row("train --resume", f"{name} edited", ended.line, "the checkpoint")


def stop() -> None:
    raise KeyboardInterrupt


def test_other_weights_under_a_finished_comparison(data: Path, tmp_path: Path) -> None:
    """Runs of other seeds would start from other weights than those of the comparison."""
    weights = tmp_path / "w.safetensors"
    how: dict[str, Any] = {"epochs": 1, "diagnose_every": 0, "out": tmp_path / "out"}
    how["encoder_options"] = {"audio": {"weights": str(weights)}}
    for seed in (1, 2):
        model = build_model({"audio": ((8,), "vector"), "video": ((5,), "vector")}, 3, seed=seed)
        save_file(model.encoders["audio"].state_dict(), weights)
        if seed == 1:
            eq.compare(data, ["joint"], seeds=[0], workers=1, **how)
    with pytest.raises(
        PathError, match=r"weights_fingerprint differ\): .* files of weights have changed"
    ) as told:
        eq.compare(data, ["joint"], seeds=[0, 1], workers=1, resume=True, **how)
    row("compare --resume", "weights file changed", told.value, "the finished runs", went_on=False)


def tuned(folder: Path, data: Path, lr: float) -> Tuned:
    settings = Settings.from_options(data, epochs=1, diagnose_every=0)
    found = TunedMethod(finished=1, best=0.5, default=0.5, trial=0, chosen={"lr": lr, "weight_decay": 0.0})
    dataset = open_dataset(data)
    split = splits_of(dataset, settings.splitting_seed).fingerprint
    shared = {"figure": "accuracy", "trials": 1, "seeds": [1000], "settings": shared_options(settings)}
    folder.mkdir(exist_ok=True)
    held = Tuned(
        folder=folder,
        dataset="set",
        data_fingerprint=dataset.fingerprint,
        split_fingerprint=split,
        asked=["joint"],
        methods={"joint": found},
        **shared,
    )
    held.write()
    return held


def test_a_tuning_that_was_edited(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tuning"
    held = tuned(folder, data, lr=0.05)
    assert read_tuned(folder).methods == held.methods
    words = ["compare", "--tuned", folder, "--seeds", "1", "--workers", "1", "--out", tmp_path / "out"]
    assert command(capsys, *words).code == 0
    file = folder / "tuned.yaml"
    written = file.read_text()
    file.write_text(written.replace("lr: 0.05", "lr: 0.5"))
    ended = command(capsys, *words, "--resume")
    assert ended.code == 1
    assert f"{file} is not as it was written" in ended.line
    assert "equipoise tune --resume" in ended.line
    row("compare --tuned", "tuned.yaml edited", ended.line, "the finished runs")
    tuned(folder, data, lr=0.5)  # tuned anew: sealed, and not what the runs were made with
    ended = command(capsys, *words, "--resume")
    assert ended.code == 2
    assert "lr 0.05 (requested: 0.5)" in ended.line
    row("compare --tuned", "tuned anew", ended.line, "the finished runs")
    values = yaml.safe_load(written)
    del values["seals"]  # as earlier versions wrote it
    file.write_text(yaml.safe_dump(values))
    assert read_tuned(folder).methods == held.methods
    file.write_text(written)
    assert command(capsys, *words, "--resume").code == 0


def test_a_floor_that_was_changed(data: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"epochs": 1, "diagnose_every": 0, "workers": 1}
    eq.compare(data, ["joint"], seeds=[0], out=tmp_path / "out", **how)
    (path,) = (tmp_path / "out" / "floors").glob("*.npz")
    with np.load(path) as held:
        arrays = dict(held)
    arrays["target"] = arrays["target"][::-1]
    np.savez(path, **arrays)
    table = eq.compare(data, ["joint"], seeds=[0, 1], out=tmp_path / "out", resume=True, **how)
    assert list(table["n"]) == [1]
    status = (tmp_path / "out" / "results.csv").read_text()
    assert "was damaged or changed; delete it, and it is measured again" in status
    path.unlink()
    assert list(eq.compare(data, ["joint"], seeds=[0, 1], out=tmp_path / "out", resume=True, **how)["n"]) == [
        2
    ]
    row("compare", "floor changed", "it was damaged or changed; delete it", "the finished runs")
