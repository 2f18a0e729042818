"""Contribution and encoder quality of finished runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import equipoise as eq
import synthetic
from equipoise.diagnosis.contribution.of_model import contribution
from equipoise.diagnosis.contribution.subset_queries import Choices
from equipoise.experiments.examine import encoder_quality as encoder_quality_module
from equipoise.experiments.examine.contribution_of_run import contribution_of_model, contribution_of_run
from equipoise.experiments.examine.encoder_quality import EncoderQuality, encoder_quality
from equipoise.experiments.examine.run_data import open_run
from equipoise.models import ConcatFusion, MidFusionModel, MultimodalModel, build_model
from equipoise.types import NoSpaceError

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "diagnose_every": 0}


@pytest.fixture(scope="module")
def finished(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality") / "run"
    eq.fit(data, out=folder, **QUICK)
    return folder


def test_the_run_may_have_a_trace(data: str, tmp_path: Path) -> None:
    eq.fit(data, out=tmp_path / "run", epochs=1, batch_size=32, diagnose_every=1, trace=True)
    assert set(eq.encoder_quality(tmp_path / "run", fine_tune=False)) == set(synthetic.VECTORS)


def events(folder: Path) -> list[str]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_contributions_of_a_run_equal_those_through_hooks(finished: Path) -> None:
    result, _, data = open_run(finished)
    found = contribution_of_run(finished)
    assert found.score == pytest.approx(result.validation["accuracy"], abs=1e-6)
    assert found.classes == tuple(data.classes)
    hooked = contribution(result.model, data.train_eval, data.val, classes=tuple(data.classes))
    for m in found:
        assert hooked[m] == found[m]
    assert (hooked.baseline, hooked.confusion) == (found.baseline, found.confusion)
    assert found.refitted is not None
    assert set(found.refitted) == set(synthetic.VECTORS)
    assert found.without == {"audio": found.refitted["video"], "video": found.refitted["audio"]}
    assert contribution_of_run(finished) == found


def test_the_test_split_is_opened_only_on_request(data: str, tmp_path: Path) -> None:
    result = eq.fit(data, out=tmp_path / "run", **QUICK)
    contribution_of_run(tmp_path / "run")
    assert "diagnosis-test" not in events(tmp_path / "run")
    found = contribution_of_run(tmp_path / "run", "test")
    assert found.split == "test"
    assert found.score == pytest.approx(result.test["accuracy"], abs=1e-6)
    assert events(tmp_path / "run").count("test") == 1
    assert events(tmp_path / "run")[-1] == "diagnosis-test"
    with pytest.raises(eq.UnknownNameError, match="validation"):
        contribution_of_run(tmp_path / "run", "train")


class Summing(MultimodalModel):
    """Adds the other modality's features to each, unless it is absent."""

    @property
    def capabilities(self) -> frozenset[str]:
        return super().capabilities | {"mid_fusion"}

    def encode(self, batch: Any, only: Any = None) -> dict[str, torch.Tensor]:
        z = super().encode(batch, only)
        return {m: sum(z.values()) for m in z}


def test_information_exchanged_before_the_fusion_is_removed_too() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = {"a": torch.eye(3)[y], "b": torch.randn(60, 3, generator=generator)}
    batches = [
        eq.Batch({m: v[i : i + 16] for m, v in x.items()}, y[i : i + 16], torch.arange(60)[i : i + 16])
        for i in range(0, 60, 16)
    ]
    fusion = ConcatFusion({"a": 3, "b": 3}, 3)
    with torch.no_grad():  # reads only the feature of b, which contains the signal of a
        head = fusion.head
        head.weight("a").zero_()
        head.weight("b").copy_(10 * torch.eye(3))
        head.bias().zero_()
    model = Summing({"a": nn.Identity(), "b": nn.Linear(3, 3)}, fusion)
    nn.init.zeros_(model.encoder_module("b").weight)
    nn.init.zeros_(model.encoder_module("b").bias)
    found = contribution_of_model(model, batches, batches)
    assert found.score == 1.0
    assert found["a"].drop_removed > 0.5  # zeroing the feature of a alone would change nothing
    assert found["a"].drop_permuted > 0.4
    assert found.refitted is not None
    assert (found.refitted["a"], found.refitted["b"]) == (1.0, pytest.approx(1 / 3))
    with pytest.raises(eq.ModelError, match="contribution_of_model"):
        contribution(model, batches, batches)


def test_intermediate_fusion_of_the_toolkit() -> None:
    shapes = {"a": ((1, 8, 8), "image"), "b": ((1, 8, 8), "image")}
    plain = build_model(shapes, 3, seed=0, encoders="cnn")
    encoders = {m: plain.encoder_module(m) for m in plain.modalities}
    model = MidFusionModel(encoders, plain.fusion)
    generator = torch.Generator().manual_seed(0)
    batches = [
        eq.Batch(
            {m: torch.randn(10, 1, 8, 8, generator=generator) for m in shapes},
            torch.arange(10) % 3,
            torch.arange(10),
        )
        for _ in range(2)
    ]
    found = contribution_of_model(model, batches, batches, choices=Choices(repeats=1, resamples=5))
    with torch.no_grad():
        model.eval()
        hits = []
        for batch in batches:
            z = model.encode(batch, only=["b"])
            z["a"] = torch.zeros_like(z["b"])
            hits += (model.fuse(z).argmax(1) == batch.target).tolist()
    assert found["a"].removed == pytest.approx(np.mean(hits))
    assert sum(own.shapley for own in found.values()) == pytest.approx(found.score - found.baseline)


def test_the_quality_of_each_encoder(finished: Path) -> None:
    before = contribution_of_run(finished)
    found = encoder_quality(finished)
    run = eq.load_run(finished)
    assert list(found) == list(synthetic.VECTORS)
    assert (found.epochs, found.seed, found.score) == (2, 0, run.validation["accuracy"])
    folder = finished / "encoder-quality"
    for m, state in found.items():
        alone = eq.load_run(folder / f"unimodal-{m}-seed0")
        assert state.alone == alone.validation["accuracy"]
        assert state.test is None
        frozen, tuned = (folder / f"encoder-{kind}-{m}-seed0" for kind in ("probe", "finetune"))
        assert "test" not in events(frozen) + events(tuned)
        assert state.probe == json.loads((frozen / "result.json").read_text())["validation"]["accuracy"]
        trained = run.model.encoder_module(m).state_dict()
        for path, same in ((frozen, True), (tuned, False)):
            assert encoder_kept(path, m, trained) is same
        _, _, data = open_run(finished)
        val = torch.cat([batch.target for batch in data.val])
        most = data.train_samples.target.bincount().argmax()
        assert state.chance == pytest.approx(float((val == most).float().mean()))
    assert EncoderQuality.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert contribution_of_run(finished) == before


def encoder_kept(folder: Path, modality: str, trained: dict[str, torch.Tensor]) -> bool:
    """Whether the weights in a classifier's folder contain the unchanged encoder."""
    from safetensors.torch import load_file

    held = load_file(folder / "model.safetensors")
    found = {name.partition(f"encoders.{modality}.")[2]: value for name, value in held.items()}
    return all(torch.equal(found[name], value) for name, value in trained.items())


def test_a_second_call_reads_the_results(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encoder_quality(finished)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("equipoise.training.loop.Training.fit", refuse)
    assert encoder_quality(finished) == first
    (finished / "encoder_quality.json").unlink()
    assert encoder_quality(finished) == first  # from the trained classifiers
    tested = encoder_quality(finished, test=True)
    assert tested["audio"].test is not None
    assert set(tested["audio"].test) == {"probe", "fine_tuned", "alone"}
    assert tested["audio"].probe == first["audio"].probe
    assert events(finished / "encoder-quality" / "encoder-probe-audio-seed0").count("test") == 1
    assert encoder_quality(finished, test=True) == tested
    with pytest.raises(AssertionError, match="trained again"):
        encoder_quality(finished, epochs=1)


def test_an_interrupted_classifier_is_resumed(data: str, tmp_path: Path, monkeypatch: Any) -> None:
    from equipoise.training.loop import Training

    for name in ("broken", "unbroken"):
        eq.fit(data, out=tmp_path / name, checkpoint_every=1, **{**QUICK, "epochs": 4})
    train = Training._train_epoch

    def stop(self: Any) -> float:
        if self.epoch == 2:
            raise KeyboardInterrupt
        return train(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Training, "_train_epoch", stop)
        encoder_quality(tmp_path / "broken", fine_tune=False)
    trained = []
    monkeypatch.setattr(Training, "_train_epoch", lambda self: trained.append(self.epoch) or train(self))
    found = encoder_quality(tmp_path / "broken", fine_tune=False)
    assert trained[:2] == [2, 3]
    assert found == encoder_quality(tmp_path / "unbroken", fine_tune=False)


def test_a_full_disk_leaves_what_was_begun(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eq.fit(data, out=tmp_path / "run", **QUICK)
    replaced = []

    def full(*_: Any, overwrite: bool = False, **__: Any) -> Any:
        replaced.append(overwrite)
        raise NoSpaceError("the disk is full")

    monkeypatch.setattr(encoder_quality_module, "run", full)
    with pytest.raises(NoSpaceError):
        encoder_quality(tmp_path / "run", fine_tune=False)
    assert True not in replaced


def test_another_run_in_the_same_folder_is_measured_anew(data: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    eq.fit(data, out=folder, **QUICK)
    old = encoder_quality(folder, fine_tune=False)
    assert old["audio"].fine_tuned is None
    eq.fit(data, out=folder, overwrite=True, seed=0, lr=1e-6, **QUICK)
    new = encoder_quality(folder, fine_tune=False)
    fresh = tmp_path / "fresh"
    eq.fit(data, out=fresh, seed=0, lr=1e-6, **QUICK)
    assert new == encoder_quality(fresh, fine_tune=False) != old


def test_an_existing_unimodal_run_is_used(data: str, tmp_path: Path) -> None:
    alone = eq.fit(data, "unimodal:audio", out=tmp_path / "unimodal-audio-seed0", **QUICK)
    eq.fit(data, out=tmp_path / "run", **QUICK)
    found = encoder_quality(tmp_path / "run", fine_tune=False)
    assert found["audio"].alone == alone.validation["accuracy"]
    assert not (tmp_path / "run" / "encoder-quality" / "unimodal-audio-seed0").exists()
    own = encoder_quality(tmp_path / "unimodal-audio-seed0", fine_tune=False)
    assert list(own) == ["audio"]
    assert own["audio"].alone == alone.validation["accuracy"]


def test_invalid_runs(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(eq.UsageError, match="epochs is 0"):
        encoder_quality(finished, epochs=0)
    with pytest.raises(eq.RunFolderError):
        encoder_quality(tmp_path)
