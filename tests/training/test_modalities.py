"""Modalities that are left out: the run is that on data which were written without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import equipoise as eq
import synthetic

# In all three modalities the pair differs, and may be in two splits; there it is a repeat in two of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*single-modality contents:equipoise.types.EquipoiseWarning")

THREE = {"audio": (8,), "video": (6,), "text": (5,)}
QUICK = {"epochs": 2, "batch_size": 32}


@pytest.fixture
def three(tmp_path: Path) -> eq.PreparedDataset:
    """Three modalities, with splits to be drawn and one pair of samples that are equal in audio and video."""
    inputs, target = synthetic.samples(THREE, 120)
    for name in ("audio", "video"):
        inputs[name][1] = inputs[name][0]
    target[1] = target[0]
    return eq.write_dataset(tmp_path / "three", inputs, target)


def test_the_run_is_that_on_data_without_the_others(three: eq.PreparedDataset, tmp_path: Path) -> None:
    arrays = {name: three.array(name) for name in ("audio", "video")}
    two = eq.write_dataset(tmp_path / "two", arrays, three.target)
    left_out = eq.fit(three, modalities=["video", "audio"], out=tmp_path / "run", **QUICK)
    written = eq.fit(two, **QUICK)
    same = ("data_fingerprint", "split_fingerprint", "init_fingerprint", "modalities", "validation", "test")
    for key in same:
        assert left_out.summary[key] == written.summary[key], key
    assert left_out.summary["modalities"] == ["audio", "video"]
    whole = eq.fit(three, **QUICK)
    assert whole.summary["data_fingerprint"] != left_out.summary["data_fingerprint"]
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["modalities"] == ["video", "audio"]
    assert "modalities" not in yaml.safe_load((whole.run_dir / "config.yaml").read_text())


def test_a_run_is_not_resumed_with_other_modalities(three: eq.PreparedDataset, tmp_path: Path) -> None:
    eq.fit(three, modalities=["audio", "text"], out=tmp_path / "run", **QUICK)
    with pytest.raises(eq.RunFolderError, match="modalities"):
        eq.fit(three, out=tmp_path / "run", resume=True, **QUICK)
    assert set(eq.diagnose_run(tmp_path / "run")) == {"audio", "text"}


def test_a_comparison(three: eq.PreparedDataset, tmp_path: Path) -> None:
    eq.compare(
        three,
        ["joint", "unimodal"],
        seeds=1,
        modalities=["audio", "text"],
        workers=1,
        out=tmp_path / "all",
        **QUICK,
    )
    found = pd.read_csv(tmp_path / "all" / "results.csv")
    assert list(found["method"]) == ["joint", "unimodal:audio", "unimodal:text"]
    assert set(found["model"]) == {"concat(audio=mlp, text=mlp)"}


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["audio", "vidoe"], "unknown modality 'vidoe': did you mean video"),
        ([], r"modalities is \[\]; expected one or more"),
        (["audio", "audio"], "each of them once"),
        ("audio", "modalities"),
    ],
)
def test_mistakes(three: eq.PreparedDataset, modalities: list[str], message: str) -> None:
    with pytest.raises(eq.UsageError, match=message):
        eq.fit(three, modalities=modalities, **QUICK)


@pytest.mark.parametrize("command", [eq.fit, eq.compare])
def test_an_unknown_token_is_refused_before_anything_is_written(
    command: Callable[..., object], tmp_path: Path
) -> None:
    inputs, target = synthetic.samples({"audio": (8,), "text": (5,)}, 120)
    inputs["text"] = np.ones((120, 5), np.int32)
    inputs["text"][119, 4] = 70
    data = eq.write_dataset(tmp_path / "data", inputs, target, kinds={"text": "tokens"})
    options = {"encoder": {"text": "token-bag"}, "encoder_options": {"text": {"vocabulary": 70}}, **QUICK}
    named = {"methods": ["joint"]} if command is eq.compare else {}
    with pytest.raises(eq.ModelError, match=r"0 to 69; found 70.*'vocabulary'"):
        command(data, out=tmp_path / "out", **named, **options)
    assert not (tmp_path / "out").exists()
