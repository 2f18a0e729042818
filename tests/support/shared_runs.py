"""Runs of the toolkit's trainer in several processes, launched by `torchrun FILE FOLDER`, and the same alone.

The models are float64, so that results of one process and of several differ by rounding of about 1e-15.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import equipoise as eq
from equipoise.models import BalancedModel, build_model
from equipoise.models.contract import batch_inputs

GIVEN: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 20,  # of 96 samples, so that shares and the last batch differ in size
    "optimizer": "sgd",
    "lr": 0.02,
    "device": "cpu",
    "checkpoint_every": 1,
    "model": "shared_runs:Double",
}


if os.environ.get("DOUBLE"):  # in processes that Equipoise or `torchrun` has started
    torch.set_default_dtype(torch.float64)


def Double(shapes: Mapping[str, Any], num_classes: int) -> BalancedModel:
    """Encoders with dropout and, of images, batch normalisation."""
    kinds = {m: "cnn" if len(shape) == 3 else "mlp" for m, (shape, _) in shapes.items()}
    options = {m: {"channels": [4, 6]} if kind == "cnn" else {"hidden": [8, 6]} for m, kind in kinds.items()}
    fusion = os.environ.get("FUSION", "concat")
    # Attention of torch draws its own masks of dropout, which are others in several processes.
    masks = {"dropout": 0.0} if fusion == "mult" else {}
    model = build_model(
        shapes,
        num_classes,
        encoders=kinds,
        encoder_options=options,
        fusion=fusion,
        fusion_options=masks,
        task=os.environ.get("TASK", "classification"),
    )
    if fusion in ("mmtm", "mult"):  # which run encoders stage by stage, without a call that a hook sees
        kind = type(model)

        def encode(self: BalancedModel, batch: Any, *only: Any, **named: Any) -> dict[str, Tensor]:
            inputs = {m: x.to(torch.get_default_dtype()) for m, x in batch_inputs(batch).items()}
            return kind.encode(self, inputs, *only, **named)

        model.__class__ = type("Double", (kind,), {"encode": encode})
        return model
    for encoder in model.encoders.values():
        encoder.register_forward_pre_hook(_precise)
    return model


def _precise(_: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].to(torch.get_default_dtype()),)


def FailsInTheSecond(shapes: Mapping[str, Any], num_classes: int) -> BalancedModel:
    """A model that cannot encode in training in the second process."""
    model = Double(shapes, num_classes)
    if os.environ.get("RANK") == "1":
        model.encoders[model.modalities[0]].register_forward_pre_hook(_fail)
    return model


def _fail(encoder: torch.nn.Module, _: Any) -> None:
    if encoder.training:
        raise ZeroDivisionError("in one process only")


def trained(folder: Path, name: str, data: str, options: Mapping[str, Any], **how: Any) -> eq.FitResult:
    return eq.fit(data, **{**GIVEN, **options}, **how, out=folder / name)


def copying(folder: Path, name: str) -> Callable[[int, dict[str, float]], None]:
    """Return a function that copies a run as it is in its third epoch, like one that ended there."""

    def copy(epoch: int, _: dict[str, float]) -> None:
        if epoch == 2:
            shutil.copytree(folder / name, folder / f"{name}-copy")

    return copy


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    wanted = json.loads((place / "wanted.json").read_text())
    for name, (data, options) in wanted.items():
        how: dict[str, Any] = {}
        if os.environ.get("SHARD"):
            how = {"shard": True, "on_epoch": copying(place, name), "resume": (place / name).exists()}
        result = trained(place, name, data, options, **how)
        torch.save(result.model.state_dict(), place / f"{name}-{os.environ['RANK']}.pt")
