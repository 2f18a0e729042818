"""Run folders: no run is lost or half-written, and none is resumed with another configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import equipoise as eq
import synthetic
from equipoise.training.option_text import from_options, to_options
from equipoise.training.record.locks import locked
from equipoise.training.record.record import RunRecord

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "diagnose_every": 0}


def test_a_run_contains_the_documented_files(data: str, out: Path) -> None:
    result = eq.fit(data, out=out, **(QUICK | {"diagnose_every": 1}))
    names = {"config.yaml", "metrics.jsonl", "diagnosis.jsonl", "model.safetensors", "result.json"}
    names |= {"predictions.npz", "inputs.safetensors"}
    assert {path.name for path in out.iterdir()} == names
    held = json.loads((out / "result.json").read_text())
    assert held["test"] == result.test
    assert {facts["name"] for facts in held["encoders"].values()} == {"mlp"}
    assert {facts["why"] for facts in held["encoders"].values()} == {"auto: no layout"}
    assert list(held["encoders"]) == held["modalities"]
    assert held["environment"]["versions"]["torch"].startswith("2.")
    assert result.run_dir == out


def test_settings_survive_conversion_to_options_and_back(data: str, out: Path) -> None:
    result = eq.fit(
        data,
        "diagnose-relearn",
        method_options={"lam": {"audio": 1.0, "video": 2.5}, "epochs": [0]},
        encoder={"audio": "mlp"},
        encoder_options={"video": {"hidden": [4, 4]}},
        out=out,
        epochs=3,
        batch_size=32,
    )
    options = yaml.safe_load((out / "config.yaml").read_text())
    settings = from_options(options)
    assert settings.method_options == {"lam": {"audio": 1.0, "video": 2.5}, "epochs": [0]}
    assert to_options(settings) == options
    assert result.summary["method_options"]["lam"] == {"audio": 1.0, "video": 2.5}


def test_a_folder_with_a_run_is_kept(data: str, out: Path) -> None:
    eq.fit(data, out=out, **QUICK)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(eq.RunFolderError, match="holds a run already"):
        eq.fit(data, out=out, **QUICK)
    with pytest.raises(eq.RunFolderError, match=r"another configuration: .*lr 0.1 \(requested: 0.5\)"):
        eq.fit(data, out=out, resume=True, lr=0.5, **QUICK)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    eq.fit(data, out=out, overwrite=True, lr=0.5, **QUICK)
    assert json.loads((out / "result.json").read_text())["budget_fingerprint"]


def test_a_folder_with_other_files_is_never_changed(data: str, out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    for how in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(eq.RunFolderError, match="in the way"):
            eq.fit(data, out=out, **how, **QUICK)
    assert (out / "thesis.tex").read_text() == "years of work"
    with pytest.raises(eq.RunFolderError, match="in the way"):
        eq.fit(data, out=out / "thesis.tex", **QUICK)


def test_two_processes_do_not_write_into_one_folder(data: str, out: Path) -> None:
    eq.fit(data, out=out, **QUICK)
    result = (out / "result.json").read_text()
    with locked(out), pytest.raises(eq.RunFolderError, match="another process is writing"):
        eq.fit(data, out=out, resume=True, **QUICK)
    assert (out / "result.json").read_text() == result
    assert eq.fit(data, out=out, resume=True, **QUICK).run_dir == out


def test_overwriting_a_run_keeps_other_files(data: str, out: Path) -> None:
    eq.fit(data, out=out, **QUICK)
    (out / "notes.txt").write_text("mine")
    eq.fit(data, out=out, overwrite=True, **QUICK)
    assert (out / "notes.txt").read_text() == "mine"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("how", ["overwrite", "resume"])
def test_a_run_that_is_being_written_is_left_alone(data: str, out: Path, how: str) -> None:
    eq.fit(data, out=out, **QUICK)
    with locked(out):
        before = contents(out)
        with pytest.raises(eq.RunFolderError, match="another process is writing into"):
            eq.fit(data, out=out, **{how: True}, **QUICK)
        assert contents(out) == before


def test_an_unwritable_folder_is_named(data: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(eq.RunFolderError, match="cannot write the folder"):
        eq.fit(data, out=tmp_path / "file" / "run", **QUICK)


def test_a_finished_run_is_read_again_without_its_data(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path / "data").path
    result = eq.fit(folder, out=tmp_path / "run", **QUICK)
    for path in folder.iterdir():
        path.unlink()
    assert eq.load_run(tmp_path / "run").test == result.test


def test_a_run_records_its_initial_weights_and_does_not_need_their_file(data: str, tmp_path: Path) -> None:
    encoder = eq.fit(data, out=tmp_path / "first", **QUICK).model.encoder_module("audio")
    file = tmp_path / "audio.safetensors"
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, file)
    options = {"audio": {"weights": str(file)}}
    result = eq.fit(data, encoder_options=options, out=tmp_path / "run", **QUICK)
    assert result.summary["loaded_weights"] == {"audio": f"weights of {file}"}
    assert eq.load_run(tmp_path / "first").summary["loaded_weights"] == {}
    file.unlink()
    again = eq.load_run(tmp_path / "run")
    for name, value in result.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert set(eq.diagnose_run(tmp_path / "run")) == set(synthetic.VECTORS)


def test_reading_damaged_or_missing_runs(data: str, out: Path) -> None:
    with pytest.raises(eq.RunFolderError, match=r"holds no run: there is no config\.yaml"):
        eq.load_run(out)
    eq.fit(data, out=out, **QUICK)
    result = (out / "result.json").read_text()
    (out / "result.json").unlink()
    with pytest.raises(eq.RunFolderError, match="not finished"):
        eq.load_run(out)
    (out / "result.json").write_text(result[: len(result) // 2])
    with pytest.raises(eq.RunFolderError, match=r"cannot read .*result\.json"):
        eq.load_run(out)
    (out / "result.json").write_text(result)
    (out / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(eq.RunFolderError, match=r"model\.safetensors is not as it was written"):
        eq.load_run(out)


def test_an_interrupted_run_is_not_resumed_with_other_data(tmp_path: Path) -> None:
    def kill(epoch: int, _: object) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    settings = QUICK | {"epochs": 5, "checkpoint_every": 1}
    folder = synthetic.write(tmp_path / "data").path
    with pytest.raises(KeyboardInterrupt):
        eq.fit(folder, out=tmp_path / "run", on_epoch=kill, **settings)
    inputs, target = synthetic.samples(synthetic.VECTORS, 150, seed=1)
    eq.write_dataset(folder, inputs, target, overwrite=True)
    with pytest.raises(eq.RunFolderError, match="started with other data"):
        eq.fit(folder, out=tmp_path / "run", resume=True, **settings)


def test_an_incomplete_last_line_of_a_record_is_skipped(tmp_path: Path) -> None:
    record = RunRecord(tmp_path)
    record.append("metrics.jsonl", {"event": "epoch", "epoch": 0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "ep')
    assert [event["epoch"] for event in record.events("metrics.jsonl")] == [0]
    record.append("metrics.jsonl", {"event": "epoch", "epoch": 1})  # not after the half line
    assert [event["epoch"] for event in record.events("metrics.jsonl")] == [0, 1]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "ep\n{"event": "epoch", "epoch": 2}\n')
    with pytest.raises(eq.RunFolderError, match="line 3"):
        list(record.events("metrics.jsonl"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg': did you mean sgd"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"warmup_epochs": 2}, "fewer than epochs"),
        ({"clip_norm": 0.0}, "clip_norm is 0"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"select": "acc"}, "unknown select 'acc'"),
        ({"epoch": 3}, "unknown option of fit 'epoch': did you mean epochs"),
        ({"method_options": {"lamm": 3}}, "unknown option of 'joint' 'lamm'"),
        ({"encoder": {"smell": "mlp"}}, "smell"),
        ({"encoder": "mpl"}, "unknown encoder 'mpl': did you mean mlp"),
        ({"fusion": "concatenate"}, "unknown fusion 'concatenate': did you mean concat"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": "16"}, "option 'batch_size' is '16'; expected a whole number"),
        ({"epochs": 2.5}, "option 'epochs' is 2.5; expected a whole number"),
    ],
)
def test_wrong_use_gives_a_one_line_error(data: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(eq.UsageError, match=message) as caught:
        eq.fit(data, **(QUICK | options))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_run_whose_weights_are_missing_is_repeated(data: str, out: Path) -> None:
    first = eq.fit(data, out=out, **QUICK)
    (out / "model.safetensors").unlink()
    again = eq.fit(data, out=out, resume=True, **QUICK)
    assert again.test == first.test
    assert (out / "model.safetensors").is_file()


def test_a_result_without_its_figures_is_damaged(data: str, out: Path) -> None:
    eq.fit(data, out=out, **QUICK)
    (out / "result.json").write_text("{}")
    with pytest.raises(eq.RunFolderError, match=r"result\.json: it has None for .test.; overwrite"):
        eq.load_run(out)


def test_a_dataset_that_was_changed_after_opening_is_refused(tmp_path: Path) -> None:
    dataset = synthetic.write(tmp_path / "data")
    eq.fit(dataset, **QUICK)  # a dataset is accepted in place of its folder
    array = np.load(dataset.path / dataset.modalities["audio"].file, mmap_mode="r+")
    array[3] += 1
    array.flush()
    with pytest.raises(eq.DataError, match="changed after they were written"):
        eq.fit(dataset, **QUICK)
