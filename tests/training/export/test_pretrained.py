"""Folders to pass on: the same predictions, a card that says what is known, and no code that is run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

import equipoise as eq
import other_tasks
from equipoise.models import ConcatFusion, MultimodalModel
from equipoise.training.export import folder as folders
from equipoise.training.record.seals import sealed

QUICK: dict[str, Any] = {"epochs": 3, "batch_size": 32, "diagnose_every": 1}
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.fixture(scope="module")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> eq.FitResult:
    options = {"every": 1, "count": 1}
    out = tmp_path_factory.mktemp("trained") / "run"
    return eq.fit(data, "diagnose-relearn", method_options=options, out=out, **QUICK)


@pytest.fixture(scope="module")
def saved(trained: eq.FitResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained.save_pretrained(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copied"))


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / "config.json").read_text())
    seals = content.pop("seals")
    del seals["this file"]
    change(content)
    content = sealed(content, seals)
    (folder / "config.json").write_text(json.dumps(content))


def test_the_same_predictions_without_the_run(trained: eq.FitResult, saved: Path, data: str) -> None:
    model = eq.from_pretrained(saved)
    assert isinstance(model, eq.PretrainedModel)
    expected = trained.predict(data, split="val")
    pd.testing.assert_frame_equal(model.predict(data, split="val"), expected)
    arrays = {m: np.array(eq.load_dataset(data).array(m)) for m in model.model.modalities}
    pd.testing.assert_frame_equal(model.predict(arrays), trained.predict(arrays))
    with pytest.warns(eq.EquipoiseWarning, match="test split that the model was measured on"):
        model.predict(data, split="test")


def test_its_files_name_no_place_on_this_machine(saved: Path, data: str, trained: eq.FitResult) -> None:
    assert sorted(entry.name for entry in saved.iterdir()) == sorted(folders.FILES)
    for path in saved.iterdir():
        content = path.read_bytes()
        for place in (data, str(trained.run_dir), str(Path.home()), sys.prefix):
            assert place.encode() not in content, (path, place)


def test_the_card(saved: Path, trained: eq.FitResult) -> None:
    _, header, text = (saved / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(header)
    assert (facts["library_name"], facts["datasets"]) == ("equipoise", ["two"])
    (result,) = facts["model-index"][0]["results"]
    figures = {one["type"]: one["value"] for one in result["metrics"]}
    assert figures == trained.test
    assert result["dataset"]["split"] == "test"
    for name, validation in trained.validation.items():
        shown = name.replace("_", "\\_")
        assert f"| {shown} | {validation:.3f} | {trained.test[name]:.3f} |" in text
    sizes = trained.summary["split_sizes"]
    assert f"{sizes['train']} train, {sizes['val']} val, {sizes['test']} test" in text
    for fact in ("data_fingerprint", "split_fingerprint", "init_fingerprint"):
        assert trained.summary[fact] in text
    state = trained.diagnoses[-1]["audio"]
    difference = state.train_score - state.val_score
    row = next(line for line in text.splitlines() if line.startswith("| audio |") and line.count("|") == 6)
    assert f"| {state.train_score:.3f} | {state.val_score:.3f} | {difference:.3f} |" in row
    assert f"| {trained.summary['probes']['audio']:.3f} |" in row
    assert "Encoders were re-learnt once." in text
    assert "one run with one seed" in text
    assert "eq.from_pretrained(" in text


def test_a_result_that_no_run_writes_gives_no_card(copied: Path, tmp_path: Path) -> None:
    edit(copied, lambda c: c["result"].update(encoders={"audio": 3}))
    with pytest.raises(eq.RunFolderError, match="no card can be written of this result"):
        eq.from_pretrained(copied).save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_was_passed_on_can_be_passed_on(saved: Path, data: str, tmp_path: Path) -> None:
    again = eq.from_pretrained(saved).save_pretrained(tmp_path / "again")
    for name in ("model.safetensors", "inputs.safetensors"):
        assert (again / name).read_bytes() == (saved / name).read_bytes()
    assert eq.from_pretrained(again).summary == eq.from_pretrained(saved).summary
    with pytest.warns(eq.EquipoiseWarning, match="random samples"):  # it does not know where the data are
        found = eq.from_pretrained(again).export(tmp_path / "m.pt2")
    assert found.difference < 1e-6


def test_a_folder_that_is_not_empty_is_kept(trained: eq.FitResult, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(eq.RunFolderError, match=r"is not empty; choose another folder, or give overwrite"):
        trained.save_pretrained(tmp_path)
    trained.save_pretrained(tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(eq.RunFolderError, match=r"is that of a run, whose weights would be replaced"):
        trained.save_pretrained(trained.run_dir, overwrite=True)
    with pytest.raises(eq.RunFolderError, match=r"mine.txt is a file"):
        trained.save_pretrained(tmp_path / "mine.txt")


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_other_tasks(task: str, tmp_path: Path) -> None:
    data = str(other_tasks.write(tmp_path / "set", task).path)
    run = eq.fit(data, out=tmp_path / "run", **QUICK)
    model = eq.from_pretrained(run.save_pretrained(tmp_path / "model"))
    pd.testing.assert_frame_equal(model.predict(data, split="val"), run.predict(data, split="val"))


class Own(MultimodalModel):
    """A model of the user's."""

    def __init__(self, shapes: Any, num_classes: int) -> None:
        widths = dict.fromkeys(shapes, 4)
        encoders = {m: nn.Linear(shape[0], 4) for m, (shape, _) in shapes.items()}
        super().__init__(encoders, ConcatFusion(widths, num_classes))


OWN = """
from torch import nn
from equipoise.models import ConcatFusion, MultimodalModel

class Own(MultimodalModel):
    def __init__(self, shapes, num_classes):
        encoders = {m: nn.Linear(shape[0], 4) for m, (shape, _) in shapes.items()}
        super().__init__(encoders, ConcatFusion(dict.fromkeys(shapes, 4), num_classes))
"""


def test_a_user_defined_model_is_given_and_never_imported_by_its_name(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_model_here.py").write_text(OWN)
    run = eq.fit(data, model="own_model_here:Own", recipe="vectors", **QUICK)
    model = run.save_pretrained(tmp_path / "model")
    sys.modules.pop("own_model_here", None)
    (tmp_path / "own_model_here.py").write_text("raise SystemExit('imported')")
    with pytest.raises(eq.UsageError, match=r"user-defined one, 'own_model_here:Own'.*model=Class"):
        eq.from_pretrained(model)
    found = eq.from_pretrained(model, model=Own)
    pd.testing.assert_frame_equal(found.predict(data, split="val"), run.predict(data, split="val"))
    assert "own_model_here" not in sys.modules


@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_an_encoder_of_transformers_needs_no_file_of_this_machine(tmp_path: Path) -> None:
    config = tmp_path / "bert.json"
    config.write_text(json.dumps({**BERT, "vocab_size": 20}))
    generator = np.random.default_rng(0)
    data = eq.write_dataset(
        tmp_path / "set",
        {"text": generator.integers(1, 20, (60, 5)), "number": generator.normal(size=(60, 3))},
        np.arange(60) % 2,
        kinds={"text": "tokens"},
    )
    run = eq.fit(
        data,
        encoder={"text": "transformers", "number": "mlp"},
        encoder_options={"text": {"model": "BertModel", "config": str(config)}},
        out=tmp_path / "run",
        **{**QUICK, "epochs": 1},
    )
    expected = run.predict(data)
    model = run.save_pretrained(tmp_path / "model")
    config.unlink()
    found = eq.from_pretrained(model)
    pd.testing.assert_frame_equal(found.predict(data), expected)
    assert str(tmp_path) not in (model / "config.json").read_text()


@pytest.mark.parametrize("name", ["model.safetensors", "inputs.safetensors"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_file_is_named(copied: Path, name: str, how: str) -> None:
    path = copied / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    if how == "changed":
        path.write_bytes(bytes(content))
    with pytest.raises(eq.RunFolderError, match=rf"{name} is (missing|not as it was written)"):
        eq.from_pretrained(copied)


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "format": lambda c: c.update(format=99),
    "toolkit": lambda c: c.update(toolkit="other"),
    "settings": lambda c: c.update(settings=[1]),
    "an unknown setting": lambda c: c["settings"].update(nothing=1),
    "result": lambda c: c.update(result=[]),
    "no classes": lambda c: c["result"].pop("classes"),
    "a figure": lambda c: c["result"]["test"].update(accuracy="high"),
    "specification": lambda c: c["result"].pop("model_spec"),
    "shapes": lambda c: c["result"]["model_spec"]["shapes"].update(audio={"shape": "x", "kind": "vector"}),
    "classes of another model": lambda c: c["result"]["model_spec"].update(num_classes=7),
    "a folder of this machine": lambda c: c["settings"].update(encoder_option=['audio.folder="/etc"']),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_a_wrong_configuration_is_one_line(copied: Path, what: str) -> None:
    edit(copied, WRONG[what])
    with pytest.raises(eq.EquipoiseError) as said:
        eq.from_pretrained(copied)
    assert "\n" not in str(said.value)
    if what != "classes of another model":  # whose weights do not fit
        assert "config.json" in str(said.value) or "nothing" in str(said.value)


@pytest.mark.parametrize("edited", ["seed", "seals"])
def test_a_configuration_that_was_edited(copied: Path, edited: str) -> None:
    content = json.loads((copied / "config.json").read_text())
    if edited == "seed":
        content["result"]["seed"] = 5
    else:
        del content["seals"]
    (copied / "config.json").write_text(json.dumps(content))
    with pytest.raises(eq.RunFolderError, match="is not as it was written"):
        eq.from_pretrained(copied)


def test_a_configuration_that_is_no_json(copied: Path) -> None:
    (copied / "config.json").write_text("{")
    with pytest.raises(eq.RunFolderError, match=r"cannot read .*config\.json"):
        eq.from_pretrained(copied)


def test_what_is_neither_a_folder_nor_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(eq.RunFolderError, match=r"nowhere is no folder; .*OWNER/NAME"):
        eq.from_pretrained("nowhere")
    with pytest.raises(eq.RunFolderError, match=r"has no config.json; expected a folder written by save_pre"):
        eq.from_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(eq.MissingExtraError, match=r"'huggingface_hub': pip.*equipoise\[hub\]"):
        eq.from_pretrained("owner/name")


def test_a_repository_is_downloaded_without_anything_else(
    saved: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def download(name: str, **how: Any) -> str:
        asked.append((name, how))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = eq.from_pretrained("owner/name", revision="v1")
    assert found.summary["method"] == "diagnose-relearn"
    assert asked == [("owner/name", {"revision": "v1", "allow_patterns": list(folders.FILES)})]

    def fail(name: str, **how: Any) -> str:
        raise OSError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(eq.RunFolderError, match=r"no folder owner/name, and .* \(no network\)"):
        eq.from_pretrained("owner/name")


def test_a_card_needs_the_package(
    trained: eq.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(eq.MissingExtraError, match=r"a model card needs the package 'huggingface_hub'"):
        trained.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_weights_are_those_of_the_run(trained: eq.FitResult, saved: Path) -> None:
    state = eq.from_pretrained(saved).model.state_dict()
    expected = trained.model.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], value) for name, value in expected.items())
