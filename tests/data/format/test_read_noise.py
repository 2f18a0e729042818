"""Noise that is added when samples are read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise.data import RunData, splits_of, write_dataset
from equipoise.types import DataError

SAMPLES, STEPS = 400, 6


@pytest.fixture
def written(tmp_path: Path):
    """Return a dataset with noise on two of three modalities, and the same without."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(SAMPLES, STEPS, 4)) + 3
    steps[:, -2:] = 0  # padding
    inputs = {
        "sound": rng.normal(size=(SAMPLES, 5)) * [1, 2, 3, 4, 5] + 7,
        "steps": steps,
        "lips": rng.integers(0, 255, size=(SAMPLES, 1, 3, 3), dtype=np.uint8),
    }
    split = ["train"] * 300 + ["val"] * 50 + ["test"] * 50
    noise = {"sound": 2.0, "steps": 1.0}
    return [
        write_dataset(tmp_path / name, inputs, np.arange(SAMPLES) % 2, split, noise=chosen)
        for name, chosen in (("noisy", noise), ("clean", None))
    ]


def data_of(dataset, seed: int = 0, **options) -> RunData:
    return RunData(dataset, splits_of(dataset, 0), 32, seed, **options)


def epoch_of(data: RunData, epoch: int) -> dict[str, torch.Tensor]:
    """Return the training inputs of an epoch in the order of their rows."""
    data.set_epoch(epoch)
    batches = list(data.train)
    order = torch.cat([batch.index for batch in batches]).argsort()
    return {m: torch.cat([batch.inputs[m] for batch in batches])[order] for m in batches[0].inputs}


def inputs_of(loader) -> dict[str, torch.Tensor]:
    batches = list(loader)
    return {m: torch.cat([batch.inputs[m] for batch in batches]) for m in batches[0].inputs}


def test_training_noise_is_drawn_anew_in_each_epoch_and_by_seed(written) -> None:
    noisy, _ = written
    data = data_of(noisy)
    first, second, again = epoch_of(data, 0), epoch_of(data, 1), epoch_of(data, 0)
    other = epoch_of(data_of(noisy, seed=1), 0)
    for name in ("sound", "steps"):
        assert torch.equal(first[name], again[name])
        for changed in (second, other):
            assert not torch.isclose(first[name], changed[name]).all(dim=-1)[..., :4].any()
    assert torch.equal(first["lips"], second["lips"])


def test_noise_has_the_stated_level_and_keeps_the_deviation(written) -> None:
    noisy, clean = written
    found, without = (epoch_of(data_of(one), 3) for one in (noisy, clean))
    drawn = (found["sound"] * math.sqrt(5) - without["sound"]) / 2
    assert drawn.std(dim=0) == pytest.approx(1, abs=0.13)  # 300 draws: a standard error of 0.04
    assert drawn.mean(dim=0) == pytest.approx(0, abs=0.2)
    assert found["sound"].std(dim=0) == pytest.approx(1, abs=0.13)


def test_other_passes_have_noise_of_their_own_that_stays(written) -> None:
    noisy, clean = written
    one, two = data_of(noisy, seed=0), data_of(noisy, seed=9)
    validation = inputs_of(one.val)
    assert torch.equal(validation["sound"], inputs_of(one.val)["sound"])
    assert torch.equal(validation["sound"], inputs_of(two.val)["sound"])
    assert torch.equal(inputs_of(one.open_test())["steps"], inputs_of(two.open_test())["steps"])
    assert not torch.isclose(validation["sound"], inputs_of(data_of(clean).val)["sound"]).all(dim=1).any()
    in_order = inputs_of(one.train_eval)["sound"]
    assert not torch.isclose(in_order, epoch_of(one, 0)["sound"]).all(dim=1).any()


def test_padding_gets_none(written) -> None:
    noisy, clean = written
    found, without = (epoch_of(data_of(one), 0)["steps"] for one in (noisy, clean))
    assert torch.equal(found[:, -2:], without[:, -2:])
    assert not torch.isclose(found[:, :-2], without[:, :-2]).all(dim=-1).any()


def test_features_on_disk_get_the_same_noise(written) -> None:
    noisy, _ = written
    in_memory, on_disk = epoch_of(data_of(noisy), 2), epoch_of(data_of(noisy, memory_limit=0), 2)
    assert all(torch.equal(in_memory[name], on_disk[name]) for name in in_memory)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": {"sond": 1.0}}, "noise names the modality 'sond'"),
        ({"noise": {"sound": 0}}, "expected a number above 0"),
        ({"noise": {"sound": 1.0}, "normalize": "none"}, "normalised by 'none'; expected one"),
        ({"noise": {"sound": 1.0}, "kinds": {"sound": "tokens"}}, "which is tokens"),
    ],
)
def test_what_gets_no_noise(options, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        write_dataset(tmp_path / "out", {"sound": np.arange(40).reshape(20, 2)}, np.arange(20) % 2, **options)
