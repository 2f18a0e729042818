"""A damaged or edited file of a record is noticed, and a damaged checkpoint costs one interval of epochs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import equipoise as eq
from equipoise.cli import main
from equipoise.report.records import read_run
from equipoise.training.record.checkpoints import (
    load_checkpoint,
    restored,
    save_checkpoint,
    write_checkpoint,
)
from equipoise.training.record.copies import copy_run
from equipoise.training.record.inputs import read_inputs
from equipoise.training.record.predictions import read_predictions
from equipoise.training.record.record import BEFORE_LAST, CHECKPOINT, METRICS, WEIGHTS, RunRecord
from equipoise.training.record.trace import read_trace

SETTINGS: dict[str, Any] = {
    "method": "diagnose-relearn",
    "method_options": {"epochs": [1, 2]},
    "epochs": 5,
    "batch_size": 32,
    "checkpoint_every": 1,
    "trace": True,
}
TIMES = ("seconds", "train_seconds", "method_seconds", "look_seconds")
FLIPS = 100


def flipped(content: bytes, place: int) -> bytes:
    """Return a content with one bit changed."""
    return content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]


def places(content: bytes) -> list[int]:
    """Return places all over a content, its first and last bytes among them."""
    step = max(1, len(content) // FLIPS)
    return sorted({*range(8), *range(0, len(content), step), *range(len(content) - 80, len(content))})


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run that was never interrupted."""
    return eq.fit(data, out=tmp_path_factory.mktemp("whole") / "run", **SETTINGS).run_dir


@pytest.fixture(scope="module")
def killed(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that was killed in epoch 3, after the checkpoints of epochs 1 and 2."""
    out = tmp_path_factory.mktemp("killed") / "run"
    with pytest.raises(KeyboardInterrupt):
        eq.fit(data, out=out, on_epoch=kill, **SETTINGS)
    assert [load_checkpoint(out / name)["epoch"] for name in (BEFORE_LAST, CHECKPOINT)] == [1, 2]
    return out


def kill(epoch: int, _: object) -> None:
    if epoch == 3:
        raise KeyboardInterrupt


@pytest.fixture
def out(killed: Path, tmp_path: Path) -> Path:
    """A copy of the killed run."""
    return Path(shutil.copytree(killed, tmp_path / "run"))


def said(folder: Path) -> list[Any]:
    """Return all that a finished run says, but times and memory."""
    record = RunRecord(folder)
    events = [
        {key: value for key, value in event.items() if key not in TIMES}
        for name in ("metrics.jsonl", "diagnosis.jsonl", "trace.jsonl")
        for event in record.events(name)
    ]
    result = {k: v for k, v in record.result().items() if "seconds" not in k and "memory" not in k}
    files = (WEIGHTS, "predictions.npz", "inputs.safetensors")
    return [events, result, *((folder / name).read_bytes() for name in files)]


def test_every_flipped_bit_of_a_checkpoint_is_noticed(killed: Path, tmp_path: Path) -> None:
    content = (killed / CHECKPOINT).read_bytes()
    file = tmp_path / CHECKPOINT
    for place in places(content):
        file.write_bytes(flipped(content, place))
        with pytest.raises(eq.RunFolderError, match=r"checkpoint\.pt (is damaged|cannot be read)"):
            load_checkpoint(file)
    for length in (0, 1, 71, 72, len(content) // 2, len(content) - 72, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(eq.RunFolderError, match=r"checkpoint\.pt (is damaged|cannot be read)"):
            load_checkpoint(file)
    file.write_bytes(content)
    assert load_checkpoint(file)["epoch"] == 2


@pytest.mark.parametrize(
    "name", [WEIGHTS, "predictions.npz", "inputs.safetensors", METRICS, "diagnosis.jsonl", "trace.jsonl"]
)
def test_every_flipped_bit_of_a_finished_run_is_noticed(whole: Path, tmp_path: Path, name: str) -> None:
    record = RunRecord(Path(shutil.copytree(whole, tmp_path / "run")))
    content = record.path(name).read_bytes()
    for place in places(content):
        record.path(name).write_bytes(flipped(content, place))
        with pytest.raises(eq.RunFolderError, match="is not as it was written"):
            record.checked(name)
    record.path(name).write_bytes(content)
    assert record.checked(name) == record.path(name)


def test_every_flipped_bit_of_a_result_is_noticed_or_changes_nothing(whole: Path, tmp_path: Path) -> None:
    record, expected = RunRecord(Path(shutil.copytree(whole, tmp_path / "run"))), RunRecord(whole).result()
    content, unchanged = record.path("result.json").read_bytes(), 0
    for place in places(content):
        record.path("result.json").write_bytes(flipped(content, place))
        try:
            found = record.result()
        except eq.RunFolderError:
            continue
        assert found == expected  # a space between two entries, or how an entry is written
        unchanged += 1
    assert unchanged < len(places(content)) / 5


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "missing"])
def test_the_checkpoint_before_the_last_takes_its_place(
    data: str, whole: Path, out: Path, damage: str
) -> None:
    content = (out / CHECKPOINT).read_bytes()
    damaged = {"flipped": flipped(content, len(content) // 2), "cut": content[:-100], "empty": b""}
    if damage == "missing":  # killed between the names of both
        (out / CHECKPOINT).unlink()
        eq.fit(data, out=out, resume=True, **SETTINGS)
    else:
        (out / CHECKPOINT).write_bytes(damaged[damage])
        with pytest.warns(eq.EquipoiseWarning, match="continues from the checkpoint before that, of epoch 1"):
            eq.fit(data, out=out, resume=True, **SETTINGS)
    assert said(out) == said(whole)
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(data: str, whole: Path, out: Path) -> None:
    (out / CHECKPOINT).write_bytes(b"damaged")
    with pytest.warns(eq.EquipoiseWarning), pytest.raises(KeyboardInterrupt):
        eq.fit(data, out=out, resume=True, on_epoch=kill, **SETTINGS)  # after the checkpoint of epoch 2
    assert [load_checkpoint(out / name)["epoch"] for name in (BEFORE_LAST, CHECKPOINT)] == [1, 2]
    eq.fit(data, out=out, resume=True, **SETTINGS)
    assert said(out) == said(whole)


def test_nothing_is_trained_from_two_damaged_checkpoints(
    data: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (CHECKPOINT, BEFORE_LAST):
        (out / name).write_bytes(flipped((out / name).read_bytes(), 999))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    message = r"checkpoint\.pt is damaged \(its SHA-256 differs\); overwrite the run to start again\."
    with pytest.raises(eq.RunFolderError, match=message):
        eq.fit(data, out=out, resume=True, **SETTINGS)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    with pytest.raises(SystemExit) as ended:
        main(["train", "--config", str(out / "config.yaml"), "--out", str(out), "--resume"])
    assert ended.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", [METRICS, "diagnosis.jsonl", "snapshots/index.jsonl"])
def test_lost_events_are_trained_again_or_refused(data: str, whole: Path, out: Path, name: str) -> None:
    known = [load_checkpoint(out / one)["events"][name]["bytes"] for one in (BEFORE_LAST, CHECKPOINT)]
    assert known[0] < known[1] <= (out / name).stat().st_size
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[: known[1] - 5])  # half a line
    with pytest.warns(
        eq.EquipoiseWarning, match="events are lost; the run continues from the checkpoint before"
    ):
        eq.fit(data, out=out, resume=True, **SETTINGS)
    assert said(out) == said(whole)


@pytest.mark.parametrize("name", [METRICS, "diagnosis.jsonl", "snapshots/index.jsonl"])
def test_events_that_both_checkpoints_know_are_needed(data: str, out: Path, name: str) -> None:
    content = (out / name).read_bytes()
    for damaged, why in (
        (content[:60], "events are lost; overwrite the run to start again"),
        (content.replace(b'"epoch": 1', b'"epoch": 7', 1), "damaged or changed since the checkpoint"),
    ):
        (out / name).write_bytes(damaged)
        with pytest.raises(eq.RunFolderError, match=why):
            eq.fit(data, out=out, resume=True, **SETTINGS)
        assert (out / name).read_bytes() == damaged


def test_a_damaged_snapshot_is_written_again_or_reported_at_once(data: str, whole: Path, out: Path) -> None:
    lines = (out / "snapshots" / "index.jsonl").read_bytes()
    sizes = [
        load_checkpoint(out / name)["events"]["snapshots/index.jsonl"]["bytes"]
        for name in (BEFORE_LAST, CHECKPOINT)
    ]
    new = json.loads(lines[sizes[0] : sizes[1]].splitlines()[-1])["weights"]
    assert new.encode() not in lines[: sizes[0]]
    file = out / "snapshots" / f"{new}.safetensors"
    file.write_bytes(flipped(file.read_bytes(), 2000))
    old = Path(shutil.copytree(out, out.with_name("old")))
    with pytest.warns(eq.EquipoiseWarning, match="of epoch 2 is damaged; the run continues"):
        eq.fit(data, out=out, resume=True, **SETTINGS)
    assert said(out) == said(whole)
    first = old / "snapshots" / f"{json.loads(lines.splitlines()[0])['weights']}.safetensors"
    first.write_bytes(flipped(first.read_bytes(), 2000))
    epochs: list[int] = []
    with pytest.raises(eq.RunFolderError, match="is damaged; overwrite the run to start again"):
        eq.fit(data, out=old, resume=True, on_epoch=lambda epoch, _: epochs.append(epoch), **SETTINGS)
    assert epochs == []


def test_a_run_of_an_earlier_version_is_refused_in_a_line(data: str, out: Path) -> None:
    (out / BEFORE_LAST).unlink()
    torch.save({"format": 3, "epoch": 3, "lengths": {}}, out / CHECKPOINT)
    message = r"has the format 3, expected 4: another version of Equipoise has written it; overwrite the run"
    with pytest.raises(eq.RunFolderError, match=message):
        eq.fit(data, out=out, resume=True, **SETTINGS)
    write_checkpoint(out / CHECKPOINT, {"format": 5})
    with pytest.raises(eq.RunFolderError, match="has the format 5"):
        restored(RunRecord(out))


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return edit


def retouched(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    result["test"]["accuracy"] = 0.99
    (folder / "result.json").write_text(json.dumps(result))


EDITS = {
    "a figure": (retouched, "result.json"),
    "a digest": (edited("result.json", '"sha256": "', '"sha256": "0'), "result.json"),
    "an epoch": (edited(METRICS, '"val_loss": 0.', '"val_loss": 0.0'), METRICS),
    "no epoch": (lambda folder: (folder / METRICS).write_text(""), METRICS),
    "an epoch more": (
        lambda folder: RunRecord(folder).append(METRICS, {"event": "epoch", "epoch": 5}),
        METRICS,
    ),
    "a diagnosis": (lambda folder: (folder / "diagnosis.jsonl").unlink(), "diagnosis.jsonl"),
    "a trace": (edited("trace.jsonl", '"train": 0.', '"train": 0.0'), "trace.jsonl"),
    "weights": (lambda folder: shutil.copy(folder / "predictions.npz", folder / WEIGHTS), WEIGHTS),
    "predictions": (lambda folder: (folder / "predictions.npz").unlink(), "predictions.npz"),
    "inputs": (lambda folder: (folder / "inputs.safetensors").unlink(), "inputs.safetensors"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_record_is_not_reported(whole: Path, tmp_path: Path, edit: str) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    change, name = EDITS[edit]
    change(folder)
    with pytest.raises(eq.RunFolderError, match="Restore it from a copy, or overwrite") as told:
        read_all(folder)
    assert str(folder / name) in str(told.value)
    with pytest.raises(eq.RunFolderError, match=r"is not as it was written|is missing"):
        copy_run(RunRecord(folder), RunRecord(tmp_path / "copy"))
    assert not (tmp_path / "copy" / "result.json").exists()


def read_all(folder: Path) -> None:
    read_run(folder)
    read_predictions(folder)
    read_trace(folder)
    read_inputs(RunRecord(folder))
    eq.load_run(folder)


@pytest.mark.parametrize("command", ["report", "diagnose"])
def test_commands_name_the_edited_file(
    whole: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    retouched(folder)
    with pytest.raises(SystemExit) as ended:
        main([command, str(folder)])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder / 'result.json'} is not as it was written" in line


def test_changed_settings_are_told(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    edited("config.yaml", "data: ", "data: /moved/to")(folder)
    eq.load_run(folder)
    edited("config.yaml", "batch_size: 32", "batch_size: 64")(folder)
    with pytest.warns(eq.EquipoiseWarning, match=r"config\.yaml was changed after the run was finished"):
        eq.load_run(folder)


def test_opening_the_test_split_again_is_added_to_a_finished_run(whole: Path, tmp_path: Path) -> None:
    record = RunRecord(Path(shutil.copytree(whole, tmp_path / "run")))
    count = len(list(record.events(METRICS)))
    record.append(METRICS, {"event": "diagnosis-test", "why": "contribution"})
    assert len(list(record.events(METRICS))) == count + 1
    copy_run(record, RunRecord(tmp_path / "copy"))
    assert said(tmp_path / "copy")[0] == said(record.folder)[0]


def test_a_record_without_seals_is_read(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    result = json.loads((folder / "result.json").read_text())
    assert set(result.pop("seals")) == {
        *("metrics.jsonl", "diagnosis.jsonl", "trace.jsonl", "model.safetensors", "predictions.npz"),
        *("inputs.safetensors", "config.yaml", "this file"),
    }
    (folder / "result.json").write_text(json.dumps(result))
    assert eq.load_run(folder).summary == eq.load_run(whole).summary
    assert read_predictions(folder) is not None


def test_a_checkpoint_is_in_the_record_with_its_events(tmp_path: Path) -> None:
    record = RunRecord(tmp_path)
    for epoch in range(3):
        record.append(METRICS, {"event": "epoch", "epoch": epoch})
        save_checkpoint(record, {"epoch": epoch, "weights": torch.arange(epoch)})
    record.append(METRICS, {"event": "epoch", "epoch": 3})
    assert restored(record)["weights"].tolist() == [0, 1]
    assert [event["epoch"] for event in record.events(METRICS)] == [0, 1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {METRICS, CHECKPOINT, BEFORE_LAST}
