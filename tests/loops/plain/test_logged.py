"""Loggers of Lightning and Fabric in user-defined loops: `log=` of `by_hand` and `DiagnoseRelearn`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger as TrainersLogger
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq
from equipoise.types import EquipoiseWarning, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:validation has")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.audio, self.video, self.head = nn.Linear(6, 8), nn.Linear(5, 7), nn.Linear(15, 3)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio(audio), self.video(video)], dim=1))


def batches() -> DataLoader[Any]:
    draw, target = torch.Generator().manual_seed(0), torch.arange(48) % 3
    inputs = [torch.randn(48, width, generator=draw) + target[:, None] for width in (6, 5)]
    return DataLoader(TensorDataset(*inputs, target), batch_size=12)


def relearnt(**options: Any) -> tuple[Net, eq.DiagnoseRelearn]:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    encoders = {"audio": net.audio, "video": net.video}
    relearn = eq.DiagnoseRelearn(encoders, epochs=[1, 3], **options)
    for epoch in range(5):
        for audio, video, target in batches():
            optimizer.zero_grad()
            cross_entropy(net(audio, video), target).backward()
            optimizer.step()
        if relearn.due(epoch):
            relearn.step(epoch, net, batches(), batches())
    return net, relearn


def by_ogm(**options: Any) -> tuple[Net, list[dict[str, Any]]]:
    """Train by OGM, and return what its terms and coefficients were in each step."""
    net, steps = Net(), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    encoders = {"audio": net.audio, "video": net.video}
    given = {"head": net.head, "train_loader": batches(), "optimizer": optimizer, "epochs": 2, **options}
    method = eq.by_hand("ogm", net, encoders, **given)
    for epoch in method.epochs():
        for batch in batches():
            optimizer.zero_grad()
            method.loss(batch).backward()
            method.on_gradients()
            steps.append({"epoch": epoch, **method.figures()})
            optimizer.step()
    return net, steps


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_relearnings_are_logged_with_pictures_and_nothing_changes(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    table = TrainersLogger(tmp_path / "table", name="", version="")
    plain, relearn = relearnt()
    net, _ = relearnt(log=[logger, table])
    logger.finalize("success")
    assert same(plain, net)
    read = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0, "images": 0})
    read.Reload()
    expected: dict[str, list[tuple[int, float]]] = {}
    for entry in relearn.history:
        for name, state in entry["modalities"].items():
            for tag, key in (
                (f"purity/{name}/train", "train_score"),
                (f"purity/{name}/val", "val_score"),
                (f"gap/{name}", "gap"),
                (f"strength/{name}", "applied"),
            ):
                rounded = float(torch.tensor(state[key], dtype=torch.float32))
                expected.setdefault(tag, []).append((entry["epoch"], rounded))
    assert [entry["epoch"] for entry in relearn.history] == [1, 3]
    assert {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]} == expected
    assert {tag: [e.step for e in read.Images(tag)] for tag in read.Tags()["images"]} == {
        "features/audio": [1, 3],
        "features/video": [1, 3],
    }
    assert (tmp_path / "table" / "metrics.csv").is_file()


def test_a_method_by_hand_logs_the_means_of_each_epoch_and_nothing_changes(tmp_path: Path) -> None:
    plain, steps = by_ogm()
    net, _ = by_ogm(log=CSVLogger(tmp_path, name="", version=""))
    assert same(plain, net)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = {int(row.pop("step")): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}
    assert list(rows) == [0, 1]
    for epoch, row in rows.items():
        own = [step for step in steps if step["epoch"] == epoch]
        means = {key: sum(step[key] for step in own) / len(own) for key in own[0] if key != "epoch"}
        assert len(means) >= 3
        loss = sum(value for key, value in means.items() if key.startswith("loss/"))
        assert row == pytest.approx({**means, "train/loss": loss}, rel=1e-5)


def test_a_logger_that_fails_is_left_out_and_the_loop_goes_on(tmp_path: Path) -> None:
    class Broken(CSVLogger):
        def log_metrics(self, *args: Any, **kwargs: Any) -> None:
            raise ConnectionError("no service")

    with pytest.warns(EquipoiseWarning, match="'Broken' failed .*no service") as caught:
        net, _ = relearnt(log=Broken(tmp_path))
    assert len([one for one in caught if "Broken" in str(one.message)]) == 1
    assert same(relearnt()[0], net)


@pytest.mark.parametrize("wrong", ["tensorboard", CSVLogger, [print]])
def test_what_is_no_logger_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="expected a logger of lightning"):
        relearnt(log=wrong)
