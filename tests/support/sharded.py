"""The work of each of two processes with shards; a separate module, because a new process imports it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import equipoise as eq
from equipoise.distributed import own_part, whole
from equipoise.models import build_model
from equipoise.relearning.blend import snapshot
from equipoise.training.processes.sharding import shard_encoders
from two_processes import TwoStreams, leave, loaders

FIXED = {"every": 1, "count": 2, "strength": "fixed", "max_alpha": 0.3}


@contextmanager
def together(rank: int, folder: Path) -> Iterator[None]:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        yield
        leave()
    finally:
        dist.destroy_process_group()


def built() -> TwoStreams:
    torch.manual_seed(0)
    return TwoStreams()


def sharded() -> TwoStreams:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, mesh = built(), init_device_mesh("cpu", (2,))
    fully_shard(model.audio, mesh=mesh)  # a separate group; the rest is in the group of the whole model
    fully_shard(model, mesh=mesh)
    return model


def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Steps on batches that all processes share, so that one process takes the same steps."""
    model.train()
    for audio, video, target in list(loaders(shared=False)[1])[:6]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(audio, video), target).backward()
        optimizer.step()


def relearnt(model: Any, data: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Train, re-learn, save, load, re-learn and train again; return the intermediate and final values."""
    encoders = {"audio": model.audio, "video": model.video}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    relearn = eq.DiagnoseRelearn(encoders, optimizer=optimizer, **options)
    kept: dict[str, Any] = {}
    for epoch in range(4):
        if epoch == 2:
            again = eq.DiagnoseRelearn(encoders, optimizer=optimizer, **options)
            again.load_state_dict(relearn.state_dict())
            relearn = again
        steps(model, optimizer)
        relearn.track()
        if relearn.due(epoch):
            model.eval()
            with torch.no_grad():
                model(*next(iter(data[1]))[:2])  # leaves unsharded weights behind
            kept[f"state{epoch}"] = relearn.step(epoch, model, *data).to_dict()
            kept[f"moments{epoch}"] = [
                {key: whole(value).clone() for key, value in optimizer.state[parameter].items()}
                for parameter in model.parameters()
            ]
    reshard = getattr(model, "reshard", lambda: None)
    reshard()
    kept["end"] = {name: whole(value).clone() for name, value in model.state_dict().items()}
    return kept


def shard_work(rank: int, folder: Path, options: dict[str, Any]) -> None:
    with together(rank, folder):
        found = relearnt(sharded(), loaders(shared=True), options)
        torch.save(found, folder / f"{rank}.pt")


def refusals(rank: int, folder: Path) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    with together(rank, folder):
        model = sharded()
        with pytest.raises(eq.ModelError, match="sharded, so that no process holds a whole layer"):
            eq.DiagnoseRelearn({"audio": model.audio}, target="redraw")
        eq.DiagnoseRelearn(
            {"audio": model.audio}, target="redraw", redraw_with={"audio": lambda: TwoStreams().audio}
        )
        initial = snapshot(model.video)
        model.eval()
        with torch.no_grad():
            model(torch.ones(2, 6), torch.ones(2, 5))
        with pytest.raises(eq.ModelError, match=r"temporary whole copy .* call reshard\(\)"):
            eq.soft_reinitialize(model.video, initial, 0.5)
        plain = built()
        flat = FullyShardedDataParallel(plain.audio, device_id=torch.device("cpu"))
        with pytest.raises(eq.ModelError, match=r"'audio' is wrapped by FullyShardedDataParallel"):
            eq.DiagnoseRelearn({"audio": flat})
        plain.audio = flat
        relearn = eq.DiagnoseRelearn({"video": plain.video}, every=1, count=1)
        with pytest.raises(eq.ModelError, match="the model is wrapped by FullyShardedDataParallel"):
            relearn.step(1, plain, *loaders(shared=True))


def half_of_each_encoder(rank: int, folder: Path) -> None:
    """The parts of a process, of weights, gradients and moments, with a fusion that stays whole."""
    shapes = {"audio": ((8,), "vector"), "video": ((6,), "vector")}
    with together(rank, folder):
        model = build_model(shapes, 4, encoders="mlp")
        sizes = {name: tensor.numel() for name, tensor in model.named_parameters()}
        shard_encoders(model, torch.device("cpu"))
        optimizer = torch.optim.AdamW(model.parameters())
        inputs = {"audio": torch.ones(4, 8), "video": torch.ones(4, 6)}
        model(inputs).logits.square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            model(inputs)  # a pass alone leaves no whole weights
        for name, parameter in model.named_parameters():
            parts = [parameter, parameter.grad, optimizer.state[parameter]["exp_avg"]]
            held = {own_part(part).numel() for part in parts}
            assert held == {sizes[name] // (1 if name.startswith("fusion") else 2)}, name


def averages(rank: int, folder: Path) -> None:
    """Statistics and a head that each process estimates from its own share of the samples."""
    with together(rank, folder):
        model = built()
        wrapped = DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        relearn = eq.DiagnoseRelearn(
            {"audio": model.audio, "video": model.video},
            **FIXED,
            optimizer=optimizer,
            head=model.head,
            head_policy="refit",
            norm_stats="recalibrate",
            head_refit_steps=5,
        )
        relearn.step(1, wrapped, *loaders(shared=True))
        after = {name: value.clone() for name, value in model.state_dict().items()}
        steps(wrapped, optimizer)  # the wrapper still works
        torch.save({"after": after, "end": model.state_dict()}, folder / f"{rank}.pt")


def tensors(found: dict[str, Any]) -> list[Tensor]:
    moments = [m for key in ("moments1", "moments2") for one in found[key] for m in one.values()]
    return [*found["end"].values(), *moments]
