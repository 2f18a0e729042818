"""Diagnosing & Re-learning and its references run in frameworks other than late fusion."""

from __future__ import annotations

import json

import pytest
import torch

import equipoise as eq
import synthetic
from equipoise.types import UsageError

FUSIONS = ("mmtm", "mult", "mbt")
MODALITIES = {"audio": (4, 3), "video": (5, 2)}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("sequences") / "data"
    synthetic.write(folder, MODALITIES, 60)
    return str(folder)


def fit(data: str, method: str, fusion: str, **method_options):
    return eq.fit(
        data,
        method,
        method_options=method_options,
        encoder="transformer",
        encoder_options={m: {"width": 8, "heads": 2} for m in MODALITIES},
        fusion=fusion,
        fusion_options={"width": 8} if fusion == "mult" else {},
        epochs=2,
        batch_size=12,
        lr=0.01,
        diagnose_every=0,
        device="cpu",
    )


def same(first, second) -> bool:
    one, two = first.model.state_dict(), second.model.state_dict()
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_relearns_and_at_strength_zero_equals_joint_training(data, fusion):
    joint = fit(data, "joint", fusion)
    relearnt = fit(data, "diagnose-relearn", fusion, epochs=[0], lam=3.0)
    assert [diagnosis.epoch for diagnosis in relearnt.relearnings] == [0]
    events = (relearnt.run_dir / "diagnosis.jsonl").read_text().splitlines()
    assert any(json.loads(line).get("event") == "relearning" for line in events)
    losses = [losses_of(result) for result in (joint, relearnt)]
    assert losses[0][0] == losses[1][0]  # the same until the end of the first epoch
    assert losses[0][1] != losses[1][1]
    off = fit(data, "diagnose-relearn", fusion, epochs=[0], lam=0.0)
    assert losses_of(off) == losses[0]
    assert same(off, joint)
    assert not same(relearnt, fit(data, "joint", "concat"))


def losses_of(result) -> list[float]:
    events = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    return [event["val_loss"] for event in events if event["event"] == "epoch"]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_references_start_from_the_encoders_of_the_joint_model(data, fusion):
    joint, alone, plain = (
        fit(data, "joint", fusion),
        fit(data, "unimodal:audio", fusion),
        fit(data, "unimodal:audio", "concat"),
    )
    initial = joint.summary["initial_weights"]
    assert initial["audio"] == alone.summary["initial_weights"]["audio"]
    assert same(alone, plain)  # the plain encoder, without a block after it
    ensemble = fit(data, "ensemble", fusion)
    assert ensemble.model.modalities == tuple(MODALITIES)


@pytest.mark.parametrize("fusion", ["mult", "mbt"])
def test_unsupported_methods_are_refused(data, fusion):
    with pytest.raises(UsageError, match="needs a model with gates.*choose the fusion 'mmtm'"):
        fit(data, "greedy", fusion)
    with pytest.raises(UsageError, match="does not fit a model with mid_fusion"):
        fit(data, "dgl", fusion)


@pytest.mark.parametrize("fusion", ["mult", "mbt"])
@pytest.mark.parametrize("method", ["agm", "aug", "mla", "reconboost"])
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")  # two epochs are too few to boost
def test_other_methods_run(data, fusion, method):
    result = fit(
        data,
        method,
        fusion,
    )
    assert all(torch.isfinite(value).all() for value in result.model.state_dict().values())
