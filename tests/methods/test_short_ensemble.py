"""Short nets: each is drawn anew, and the prediction is their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import equipoise as eq
import synthetic
from equipoise.methods import create_method
from equipoise.methods.shared.cycles import cycle_ends, restarted
from equipoise.models import build_model
from equipoise.models.averaged import CopiesModel
from equipoise.models.build import fusion_names
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Budget

NAME = "short-ensemble"
QUICK = {"epochs": 6, "batch_size": 32}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return synthetic.write(tmp_path_factory.mktemp("short") / "data", {"audio": (8,), "video": (6,)}, 240)


def test_the_first_net_is_a_short_run_of_multi_loss_and_the_others_are_new(data: str, tmp_path: Path) -> None:
    run = eq.fit(data, NAME, method_options={"nets": 3}, out=tmp_path / "run", **QUICK)
    model = run.model
    assert isinstance(model, CopiesModel)
    assert int(model.taken) == 2
    nets = [*model.copies, model.inner]
    weights = [torch.cat([p.detach().flatten() for p in net.parameters()]) for net in nets]
    for one in range(3):
        for other in range(one):
            similarity = torch.cosine_similarity(weights[one], weights[other], dim=0)
            assert abs(float(similarity)) < 0.6  # of one net, trained on, it is above 0.9
    x = {"audio": torch.randn(7, 8), "video": torch.randn(7, 6)}
    expected = torch.stack([net.eval()(x).logits.softmax(dim=1) for net in nets]).mean(dim=0)
    torch.testing.assert_close(model.eval()(x).logits.softmax(dim=1), expected)
    assert run.summary["best_epoch"] >= 4
    epochs = [e for e in RunRecord(run.run_dir).events("metrics.jsonl") if e["event"] == "epoch"]
    assert [e["lr"] for e in epochs] == pytest.approx([epochs[0]["lr"] * f for f in (1, 0.5)] * 3)
    losses = [e["train_loss"] for e in epochs]
    assert losses[2] > losses[1]
    assert losses[4] > losses[3]


def test_one_net_is_multi_loss_with_a_cosine(data: str) -> None:
    one = eq.fit(data, NAME, method_options={"nets": 1, "weight": 0.0}, **QUICK)
    other = eq.fit(data, "joint", schedule="cosine", **QUICK)
    assert one.summary["test"] == other.summary["test"]
    assert one.summary["validation"] == other.summary["validation"]


def test_a_resumed_run_equals_an_uninterrupted_one(data: str, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(epoch: int, _: object) -> None:
        if epoch == 3:
            raise Killed

    options = {"method_options": {"nets": 3}, "checkpoint_every": 1, **QUICK}
    with pytest.raises(Killed):
        eq.fit(data, NAME, out=tmp_path / "run", on_epoch=kill, **options)
    resumed = eq.fit(data, NAME, out=tmp_path / "run", resume=True, **options)
    unbroken = eq.fit(data, NAME, **options)
    assert resumed.summary["validation"] == unbroken.summary["validation"]
    expected = unbroken.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.model.state_dict().items())


@pytest.mark.parametrize("fusion", fusion_names())
def test_every_fusion_and_encoder_can_be_drawn_anew(fusion: str) -> None:
    shapes = {"sound": ((10, 4), "sequence"), "lips": ((8, 4), "sequence")}
    create_method(NAME, {}).check(build_model(shapes, 3, encoders="transformer", fusion=fusion))


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 7, 40, 74])
@pytest.mark.parametrize("cycles", [1, 2, 3, 4, 6])
def test_cycles_of_any_number_of_epochs(epochs: int, cycles: int) -> None:
    ends = cycle_ends(epochs, cycles)
    lengths = np.diff([0, *ends])
    assert ends[-1] == epochs
    assert len(ends) == min(cycles, epochs)
    assert lengths.min() >= 1
    assert lengths.max() - lengths.min() <= 1
    rates = restarted([0.3] * epochs, ends)
    assert len(rates) == epochs
    assert [rates[start] for start in [0, *ends[:-1]]] == pytest.approx([0.3] * len(ends))


def test_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(eq.UsageError, match="nets is 0"):
        create_method(NAME, {"nets": 0})
    (line,) = create_method(NAME, {}).problems(Budget(epochs=5))
    assert "5 epochs for 4 nets" in line
