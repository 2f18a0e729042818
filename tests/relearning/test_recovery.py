"""Recalibrated statistics as plain averages over the data; refitting of the head only."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from equipoise.diagnosis.features.reading import BatchReader
from equipoise.relearning.aftermath import loss_of, recalibrate_norms, refit_head

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.ReLU(), nn.Dropout(0.5))
    return nn.ModuleDict({"encoder": encoder, "norm": nn.BatchNorm1d(4), "head": nn.Linear(4, 2)})


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 3, generator=generator) * n, torch.arange(n) % 2) for n in (5, 8, 8)]


def through_all(model, batch):
    return model["head"](model["norm"](model["encoder"](batch[0])))


READER = BatchReader(forward=through_all)


def frozen_copy(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_statistics_are_the_average_over_batches(model, batches):
    for part in model.modules():
        part.training = part is not model["encoder"][3]
    model["encoder"][1].running_mean.fill_(50.0)
    before, modes = frozen_copy(model), [part.training for part in model.modules()]
    stream = torch.get_rng_state()
    recalibrate_norms([model["encoder"]], model, READER, iter(batches))
    with torch.no_grad():
        hidden = [model["encoder"][0](x) for x, _ in batches]
    norm = model["encoder"][1]
    assert torch.allclose(norm.running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
    assert torch.allclose(norm.running_var, torch.stack([h.var(0) for h in hidden]).mean(0))
    assert norm.num_batches_tracked == 3
    assert norm.momentum == 0.3
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), stream)
    for key, value in model.state_dict().items():  # also the normalisation layer outside of the encoder
        assert "encoder.1" in key or torch.equal(value, before[key])


def test_without_normalisation_no_data_are_read(model):
    def unread():
        raise AssertionError("the loader was read")
        yield

    recalibrate_norms([model["head"]], model, READER, unread())


def test_momentum_is_restored_after_an_error(model, batches):
    def broken(model, batch):
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        recalibrate_norms([model["encoder"]], model, BatchReader(forward=broken), batches)
    assert model["encoder"][1].momentum == 0.3


def test_only_the_head_is_refitted(model, batches):
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    before = frozen_copy(model)
    expected = nn.Linear(4, 2)
    expected.load_state_dict(model["head"].state_dict())
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
    model.eval()
    for x, y in batches[:2]:
        optimizer.zero_grad()
        with torch.no_grad():
            features = model["norm"](model["encoder"](x))
        F.cross_entropy(expected(features), y).backward()
        optimizer.step()
    model.train()
    stream = torch.get_rng_state()
    refit_head(model["head"], model, READER, batches, steps=2, lr=0.1)
    assert torch.allclose(model["head"].weight, expected.weight)
    assert torch.allclose(model["head"].bias, expected.bias)
    assert not torch.equal(model["head"].weight, before["head.weight"])
    for key, value in model.state_dict().items():
        assert key.startswith("head") or torch.equal(value, before[key])
    assert all(torch.equal(p.grad, torch.full_like(p, 3.0)) for p in model.parameters())
    assert all(part.training for part in model.modules())
    assert torch.equal(torch.get_rng_state(), stream)


U, TWO = torch.tensor([[0.3], [-1.2], [2.0]]), torch.tensor([[0.1, 0.4], [2.0, -1.0], [0.0, 0.5]])
ZERO_ONE, NUMBERS = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.5, -3.0, 2.0])
BINARY, SQUARED = F.binary_cross_entropy_with_logits(U[:, 0], ZERO_ONE), F.mse_loss(U[:, 0], NUMBERS)
CLASSES = F.cross_entropy(TWO, ZERO_ONE.long())


@pytest.mark.parametrize(
    ("output", "target", "expected"),
    [
        (U, ZERO_ONE[:, None], BINARY),
        (U, ZERO_ONE[:, None].bool(), BINARY),
        (U, ZERO_ONE.long(), BINARY),
        (U[:, 0], ZERO_ONE.bool(), BINARY),
        (U[:2], torch.tensor([1, -100]), F.binary_cross_entropy_with_logits(U[0], ZERO_ONE[:1])),
        (TWO, ZERO_ONE[:, None], CLASSES),
        (TWO, ZERO_ONE.long()[:, None], CLASSES),
        (TWO, ZERO_ONE.bool(), CLASSES),
        (U, NUMBERS[:, None], SQUARED),
        (U, NUMBERS, SQUARED),
        (U, 3 * ZERO_ONE[:, None], F.mse_loss(U[:, 0], 3 * ZERO_ONE)),
        (TWO, torch.eye(3)[:, :2], F.binary_cross_entropy_with_logits(TWO, torch.eye(3)[:, :2])),
    ],
)
def test_the_loss_of_a_refit_is_that_of_the_target(output, target, expected):
    assert float(loss_of(output, target)) == pytest.approx(float(expected), rel=1e-6)


def test_parts_of_a_head_may_be_frozen_or_unused(model, batches):
    model["head"].spare = nn.Linear(1, 1)
    model["head"].bias.requires_grad_(False)
    before = frozen_copy(model)
    refit_head(model["head"], model, READER, batches, steps=1, lr=0.1)
    assert torch.equal(model["head"].bias, before["head.bias"])
    assert torch.equal(model["head"].spare.weight, before["head.spare.weight"])
    assert not torch.equal(model["head"].weight, before["head.weight"])
