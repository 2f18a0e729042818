"""Exported files: what they say is enough to use them, and none computes something else than the model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import equipoise as eq
import other_tasks
from equipoise.files.whole import PARTIAL
from equipoise.training.export import export, samples

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "diagnose_every": 0}


@pytest.fixture(scope="module")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> eq.FitResult:
    return eq.fit(data, out=tmp_path_factory.mktemp("trained") / "run", **QUICK)


def inputs_by_metadata(described: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Normalise stored samples by nothing but what a file says."""
    found = {}
    for one in described["inputs"]:
        mean, deviation = (np.array(one[key]) for key in ("mean", "deviation"))
        found[one["name"]] = ((arrays[one["name"]] * one["scale"] - mean) / deviation).astype(np.float32)
    return found


def stored(data: str, modalities: tuple[str, ...]) -> dict[str, np.ndarray]:
    dataset = eq.load_dataset(data)
    return {m: np.array(dataset.array(m)) for m in modalities}


def test_onnx_with_what_it_says_gives_the_predictions(
    trained: eq.FitResult, data: str, tmp_path: Path
) -> None:
    import onnx
    import onnxruntime

    path = tmp_path / "new" / "model.onnx"
    found = trained.export(path)
    assert (found.path, found.of_validation) == (path, True)
    assert found.difference <= export.TOLERANCE
    assert found.samples == trained.summary["split_sizes"]["val"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    described = json.loads(session.get_modelmeta().custom_metadata_map["equipoise"])
    assert [one.name for one in session.get_inputs()] == [one["name"] for one in described["inputs"]]
    assert [one.shape for one in session.get_inputs()] == [
        ["batch", *one["shape"]] for one in described["inputs"]
    ]
    arrays = stored(data, trained.model.modalities)
    (logits,) = session.run([described["output"]["name"]], inputs_by_metadata(described, arrays))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = odds / odds.sum(axis=1, keepdims=True)
    expected = trained.predict(data)
    names = described["classes"]
    np.testing.assert_allclose(probability, expected[[f"p:{name}" for name in names]], atol=1e-5)
    assert list(np.array(names, object)[logits.argmax(axis=1)]) == list(expected["predicted"])
    assert [entry.name for entry in tmp_path.rglob(PARTIAL)] == []


def test_pt2_in_any_order_of_modalities(trained: eq.FitResult, data: str, tmp_path: Path) -> None:
    trained.export(tmp_path / "model.pt2")
    held = {"equipoise": ""}
    program: Any = torch.export.load(tmp_path / "model.pt2", extra_files=held).module()
    described = json.loads(held["equipoise"])
    x = inputs_by_metadata(described, stored(data, trained.model.modalities))
    inputs = {m: torch.from_numpy(values) for m, values in x.items()}
    with torch.no_grad():
        expected = trained.model(inputs).logits
    torch.testing.assert_close(program(inputs), expected, rtol=0, atol=1e-6)
    turned = {m: inputs[m] for m in reversed(list(inputs))}
    torch.testing.assert_close(program(turned), expected, rtol=0, atol=1e-6)


def test_safetensors_are_named_by_modality(trained: eq.FitResult, tmp_path: Path) -> None:
    assert trained.export(tmp_path / "m.safetensors").difference == 0
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        described = json.loads(file.metadata()["equipoise"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = trained.model.state_dict()
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[name], value) for name, value in state.items())
    assert {name.split(".")[1] for name in weights if name.startswith("encoders.")} == {"audio", "video"}
    assert (described["toolkit_version"], described["task"]) == (eq.__version__, "classification")


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_other_tasks(task: str, tmp_path: Path) -> None:
    data = str(other_tasks.write(tmp_path / "set", task).path)
    run = eq.fit(data, out=tmp_path / "run", **QUICK)
    run.export(tmp_path / "m.pt2")
    held = {"equipoise": ""}
    program: Any = torch.export.load(tmp_path / "m.pt2", extra_files=held).module()
    described = json.loads(held["equipoise"])
    x = inputs_by_metadata(described, stored(data, run.model.modalities))
    logits = program({m: torch.from_numpy(values) for m, values in x.items()}).numpy()
    expected = run.predict(data)
    if task == "regression":
        scale = described["target_scale"]
        number = logits[:, 0] * scale["deviation"] + scale["mean"]
        np.testing.assert_allclose(number, expected["predicted"], rtol=1e-4, atol=1e-5)
    else:
        names = [f"p:{name}" for name in described["classes"]]
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected[names], atol=1e-5)


@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("short-ensemble", {"nets": 2}),
        ("diagnose-relearn-plus", {"cycles": 2, "cycle_mean": True}),
        ("mmcosine", {}),
        ("mla", {}),
    ],
)
def test_methods_that_change_the_model(data: str, tmp_path: Path, method: str, options: Any) -> None:
    run = eq.fit(data, method, method_options=options, **QUICK)
    assert run.export(tmp_path / "m.pt2").difference < 1e-6
    assert run.export(tmp_path / "m.safetensors").difference == 0


@pytest.mark.parametrize("name", list(export.FORMATS))
def test_a_file_that_computes_something_else_is_not_written(
    trained: eq.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / f"m.{name}"
    path.write_bytes(b"the file before")
    kind = type(export.FORMATS[name])
    original = kind.reader

    def wrong(self: Any, *given: Any) -> Any:
        computes = original(self, *given)
        return lambda inputs: computes(inputs) + 3e-4 * (len(next(iter(inputs.values()))) > 2)

    monkeypatch.setattr(kind, "reader", wrong)
    with pytest.raises(
        eq.ModelError, match=f"exported {name} differs from the model by .*nothing is written"
    ):
        trained.export(path)
    assert path.read_bytes() == b"the file before"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_line(
    trained: eq.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(eq.MissingExtraError, match=rf"needs the package '{package}': pip.*equipoise\[onnx\]"):
        trained.export(tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_its_data_random_samples_are_compared(data: str, tmp_path: Path) -> None:
    import shutil

    copied = shutil.copytree(data, tmp_path / "set")
    run = eq.fit(copied, out=tmp_path / "run", **QUICK)
    shutil.rmtree(copied)
    with pytest.warns(eq.EquipoiseWarning, match="data of the run cannot be used .* random samples"):
        found = eq.load_run(tmp_path / "run").export(tmp_path / "m.pt2")
    assert (found.of_validation, found.samples) == (False, samples.DRAWN)
    assert run.test


def test_wrong_use(trained: eq.FitResult, tmp_path: Path) -> None:
    with pytest.raises(eq.UsageError, match=r"no ending that names a format; expected .safetensors, .onnx"):
        trained.export(tmp_path / "model")
    with pytest.raises(eq.UnknownNameError, match="unknown format 'onnix': did you mean onnx"):
        trained.export(tmp_path / "model", "onnix")
    trained.export(tmp_path / "model.bin", "safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.bin"]
    for name in ("model.safetensors", "config.yaml"):
        with pytest.raises(eq.RunFolderError, match=f"{name} is a file of the run in its folder"):
            trained.export(trained.run_dir / name, "safetensors")


def test_an_output_is_never_named_like_an_input(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    data = eq.write_dataset(
        tmp_path / "set",
        {m: generator.normal(size=(60, 4)) for m in ("logits", "logits_")},
        np.arange(60) % 3,
    )
    run = eq.fit(data, **QUICK)
    run.export(tmp_path / "m.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["logits__"]
