"""The smoke matrix: every method, with every kind of encoder, number of modalities and kind of fusion.

The product has the marker `matrix`, except for a few rows of each method that together cover every pair of
method, encoder, number of modalities and fusion; three methods keep all their rows.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import synthetic
from equipoise.methods import METHODS
from equipoise.training.finished import FitResult
from equipoise.training.fit import run
from equipoise.training.settings import Settings
from equipoise.types import EquipoiseWarning, UsageError

SHAPES: dict[str, tuple[int, ...]] = {"mlp": (5,), "cnn": (1, 8, 8), "transformer": (4, 3)}
NAMES = ("audio", "video", "text", "touch")
OPTIONS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [8, 6]},
    "cnn": {"channels": [4, 6]},
    "transformer": {"width": 8, "layers": 1, "heads": 2},
}
SAMPLES, EPOCHS = 60, 2
GIVEN: dict[str, dict[str, Any]] = {
    "agm": {"alpha": 5.0},
    "arl": {"warmup_epochs": 0},
    # With so few samples a gap may be 0 by chance, which differs between processors.
    "diagnose-relearn": {"every": 1, "count": 1, "epochs": [0], "strength": "fixed", "lam": 0.3},
    "fixed-modulation": {"factors": {"video": 0.5}},
    "greedy": {"start_epoch": 0, "eps": 0.0},
    "inforeg": {"loss": "joint+unimodal"},
    "modality-valuation": {"warmup": 1, "rate": "power", "alpha": 5.0},
    "opm": {"start_epoch": 0, "p_exe": 1.0},
    "reconboost": {"boost_epochs": 1, "rectify_epochs": 1},
    "sample-valuation": {"warmup": 1},
}
"""Options without which a method has no effect in two epochs, or that it requires."""

ADDITIVE = {"amco", "cggm", "inforeg", "mbsd", "mmcosine", "ogm", "ogm-ge", "opm"}
"""Methods that read the slices of an additive head by default."""

LIKE_JOINT = {"joint", "unimodal", "ensemble", "modality-valuation"}
"""Methods that may equal joint training; valuation has no effect if contributions are equal."""

NAMED = ["unimodal:video" if name == "unimodal" else name for name in METHODS]
FUSIONS = ("concat", "sum", "gated", "mmtm")
WHOLE = ("joint", "ogm-ge", "diagnose-relearn")
"""Methods whose cells are all run each time."""


def runs_on(method: str, fusion: str) -> bool:
    """Whether a method supports a fusion; written down here, so that a wrong requirement is detected."""
    if method == "greedy":
        return fusion == "mmtm"
    if method == "dgl":
        return fusion != "mmtm"
    return method not in ADDITIVE or fusion in ("concat", "sum")


def meant(method: str, encoder: str, count: int, fusion: str) -> bool:
    """Whether a cell is in the matrix: intermediate fusion once, and always for methods that require it."""
    return fusion != "mmtm" or (encoder, count) == ("cnn", 3) or method == "greedy"


def covering(place: int, method: str) -> set[tuple[str, int, str]]:
    """Choose the cells of the method at this position in the list: every encoder, number and fusion occurs.

    The first three are rows of an orthogonal array, different from those of the next method. If the
    method refuses the fusion, a supported fusion replaces it, and the refusal has its own cell.
    """
    cells = {("cnn", 3, "mmtm")}
    running = [fusion for fusion in FUSIONS if runs_on(method, fusion)]
    for row, encoder in enumerate(SHAPES):
        count, fusion = (2, 3, 4)[(row + place) % 3], FUSIONS[(2 * row + place) % 3]
        cells |= {(encoder, count, fusion), (encoder, count, fusion if fusion in running else running[0])}
    return cells


def cells() -> Iterator[Any]:
    for place, method in enumerate(NAMED):
        chosen = covering(place, method)
        for cell in product(SHAPES, (2, 3, 4), FUSIONS):
            if meant(method, *cell):
                thin = method in WHOLE or cell in chosen
                yield pytest.param(method, *cell, marks=() if thin else pytest.mark.matrix)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


@cache
def dataset(shared: Path, encoder: str, count: int) -> str:
    folder = shared / f"{encoder}{count}"
    synthetic.write(folder, dict.fromkeys(NAMES[:count], SHAPES[encoder]), SAMPLES)
    return str(folder)


def settings_of(shared: Path, method: str, encoder: str, count: int, fusion: str) -> Settings:
    return Settings.from_options(
        dataset(shared, encoder, count),
        method=method,
        method_options=GIVEN.get(method, {}),
        encoder=encoder,
        encoder_options=dict.fromkeys(NAMES[:count], OPTIONS[encoder]),
        fusion=fusion,
        epochs=EPOCHS,
        batch_size=12,
        lr=0.01,
        diagnose_every=0,
        checkpoint_every=1,
        device="cpu",
    )


def weights(result: FitResult) -> dict[str, torch.Tensor]:
    return dict(result.model.state_dict())


@pytest.mark.parametrize(("method", "encoder", "count", "fusion"), list(cells()))
def test_it_learns_and_resumes_after_an_interruption(
    method: str, encoder: str, count: int, fusion: str, shared: Path, tmp_path: Path
) -> None:
    settings = settings_of(shared, method, encoder, count, fusion)
    parts = shared / f"{encoder}{count}{fusion}-parts"

    def fit(folder: str, **options: Any) -> FitResult:
        return run(settings, tmp_path / folder, parts_folder=parts, **options)

    def keep(epoch: int, _: dict[str, float]) -> None:
        if epoch == EPOCHS - 1:  # like a process that ended here
            shutil.copytree(tmp_path / "whole", tmp_path / "halves")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EquipoiseWarning)  # two epochs are too few for many methods
        try:
            whole = fit("whole", on_epoch=keep)
        except UsageError as refusal:
            whole, said = None, str(refusal)
        if whole is None:
            assert "choose" in said
            assert not (tmp_path / "whole").exists()  # refused before anything was written
            assert not runs_on(method, fusion), said
            return
        assert runs_on(method, fusion)
        assert (tmp_path / "halves").exists() == METHODS[method.partition(":")[0]].trains
        halves = fit("halves", resume=True)
    lines = (whole.run_dir / "metrics.jsonl").read_text()
    assert "NaN" not in lines
    assert "Infinity" not in lines
    assert all(math.isfinite(value) for scores in (whole.test, whole.validation) for value in scores.values())
    assert weights(whole).keys() == weights(halves).keys()
    assert all(torch.equal(value, weights(halves)[name]) for name, value in weights(whole).items())
    assert all(torch.isfinite(value).all() for value in weights(whole).values())
    if method.partition(":")[0] not in LIKE_JOINT:
        assert differs_from_joint(whole, settings, shared), "the method did nothing"
    for key in ("test", "forward_samples", "backward_samples", "order_fingerprint", "init_fingerprint"):
        assert whole.summary[key] == halves.summary[key], key


def differs_from_joint(result: FitResult, settings: Settings, shared: Path) -> bool:
    """Whether the losses of the epochs differ from joint training; not only those of the best epoch."""
    joint = replace(settings, method="joint", method_options={})
    folder = shared / "joint" / f"{Path(joint.data).name}-{joint.fusion}"
    if not folder.exists():
        run(joint, folder)
    return losses_of(folder) != losses_of(result.run_dir)


def losses_of(folder: Path) -> list[float]:
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event["val_loss"] for event in events if event["event"] == "epoch"]
