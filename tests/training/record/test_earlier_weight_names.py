"""Interrupted runs whose encoders an earlier version numbered are resumed, to the same result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import equipoise as eq
from equipoise.models import MultimodalModel
from equipoise.models.multimodal import in_earlier_names
from equipoise.training.record.checkpoints import load_checkpoint
from equipoise.training.record.trace import read_trace
from interrupted import Killed

SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 32, "checkpoint_every": 1, "trace": True}


def with_earlier_names(patch: pytest.MonkeyPatch) -> None:
    """Let models write the names of earlier versions, in checkpoints, snapshots and files of weights."""
    original = MultimodalModel.state_dict

    def earlier(self: MultimodalModel, *place: Any, prefix: str = "", **how: Any) -> Any:
        state = original(self, *place, prefix=prefix, **how)
        return state if prefix or how.get("destination") is not None else in_earlier_names(self, state)

    patch.setattr(MultimodalModel, "state_dict", earlier)


@pytest.mark.parametrize("method", ["diagnose-relearn", "umt", "mmcosine"])
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_an_interrupted_run_of_an_earlier_version(
    data: str, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"diagnose-relearn": {"every": 1, "count": 3}}
    settings = {**SETTINGS, "method_options": own.get(method, {})}

    def kill(epoch: int, _: object) -> None:
        if epoch == 2:
            raise Killed

    with monkeypatch.context() as patch:
        with_earlier_names(patch)
        with pytest.raises(Killed):
            eq.fit(data, method, out=tmp_path / "run", on_epoch=kill, **settings)
    kept = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    for state in (kept["model"], kept["best"]["model"]):
        assert any(name.startswith("encoder_list.0.") for name in state)
        assert not any(name.startswith("encoders.") for name in state)
    resumed = eq.fit(data, method, out=tmp_path / "run", resume=True, **settings)
    unbroken = eq.fit(data, method, out=tmp_path / "unbroken", **settings)
    assert resumed.test == unbroken.test
    assert resumed.summary["init_fingerprint"] == unbroken.summary["init_fingerprint"]
    assert read_trace(tmp_path / "run") == read_trace(tmp_path / "unbroken")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("run", "unbroken")]
    assert weights[0].keys() == weights[1].keys()
    assert {name.split(".")[1] for name in weights[0] if name.startswith("enc")} == {"audio", "video"}
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
