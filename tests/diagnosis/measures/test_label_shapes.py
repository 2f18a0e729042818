"""Binary targets as one column are classes; one-hot classes are asked about."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from equipoise.diagnosis import diagnose, purity, separability
from equipoise.relearning import DiagnoseRelearn
from equipoise.types import DataError

COLUMNS = [np.float32, np.float64, np.bool_, np.int64, torch.float32, torch.bool]


def column(labels, kind):
    if isinstance(kind, torch.dtype):
        return torch.tensor(labels)[:, None].to(kind)
    return labels[:, None].astype(kind)


@pytest.fixture
def splits(blobs):
    (x, y), (x_val, y_val) = blobs(n=90, classes=2, seed=1), blobs(n=60, classes=2, seed=2)
    return {"m": x}, y, {"m": x_val}, y_val


@pytest.mark.parametrize("kind", COLUMNS)
def test_one_column_of_zeros_and_ones_is_two_classes(splits, kind):
    train, y, val, y_val = splits
    expected = diagnose(train, y, val, y_val)
    assert diagnose(train, column(y, kind), val, column(y_val, kind)) == expected
    assert diagnose(train, column(y, kind), val, y_val) == expected
    assert separability(train, column(y, kind), val, column(y_val, kind)) == separability(*splits)
    assert purity(train["m"], column(y, kind)) == expected["m"].train_score


def test_one_column_of_numbers_is_a_continuous_target(splits):
    train, y, val, y_val = splits
    numbers, numbers_val = y + 0.5, y_val + 0.25
    found = diagnose(train, numbers[:, None], val, numbers_val[:, None])
    assert found == diagnose(train, numbers, val, numbers_val)
    assert found.options.metric == "ridge-r2"


def test_a_table_of_one_label_can_be_measured_as_labels(splits):
    train, y, val, y_val = splits
    for metric in ("linear-map", "knn-map"):
        one = diagnose(train, y[:, None], val, y_val[:, None], metric=metric)["m"]
        twice = diagnose(train, np.stack([y, y], 1), val, np.stack([y_val, y_val], 1), metric=metric)["m"]
        assert (one.train_score, one.val_score) == pytest.approx((twice.train_score, twice.val_score))


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.bool_])
def test_one_hot_classes_are_asked_about(splits, kind):
    train, y, val, y_val = splits
    hot, hot_val = np.eye(2)[y].astype(kind), np.eye(2)[y_val].astype(kind)
    for measured in (diagnose, separability):
        with pytest.raises(DataError, match=r"argmax\(axis=1\).*metric='linear-map'") as caught:
            measured(train, hot, val, hot_val)
        assert "\n" not in str(caught.value)
    assert diagnose(train, hot.argmax(axis=1), val, hot_val.argmax(axis=1)) == diagnose(*splits)
    assert diagnose(train, hot, val, hot_val, metric="linear-map")["m"].metric == "linear-map"
    hot[0] = 1  # one sample has both labels
    assert diagnose(train, hot, val, hot_val)["m"].metric == "linear-map"


def relearn_on(splits, target_of_labels, **options):
    train, y, val, y_val = splits
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 1))
    relearn = DiagnoseRelearn({"m": model[0]}, **options)
    with torch.no_grad():
        model[0].weight.mul_(1.5)
    loaders = [
        DataLoader(TensorDataset(torch.tensor(x["m"]).float(), target_of_labels(labels)), batch_size=16)
        for x, labels in ((train, y), (val, y_val))
    ]
    return relearn.step(0, model, *loaders), model[0].weight


@pytest.mark.parametrize("kind", [torch.float32, torch.bool, torch.int64])
def test_a_loop_may_have_one_column_of_binary_targets(splits, kind):
    expected, weight = relearn_on(splits, torch.tensor)
    found, other = relearn_on(splits, lambda labels: column(labels, kind))
    assert found == expected
    assert torch.equal(weight, other)


def test_a_loop_with_one_hot_classes_is_told_the_remedy(splits):
    def hot(labels):
        return torch.eye(2)[labels]

    with pytest.raises(DataError, match=r"argmax.*target_of="):
        relearn_on(splits, hot)
    found, _ = relearn_on(splits, hot, target_of=lambda batch: batch[1].argmax(dim=1))
    assert found == relearn_on(splits, torch.tensor)[0]
    assert relearn_on(splits, hot, metric="linear-map")[0]["m"].metric == "linear-map"
