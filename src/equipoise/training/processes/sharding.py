"""Encoders whose weights are divided over the processes of a run, by `torch.distributed.fsdp.fully_shard`.

Only encoders are, as they hold nearly all weights of a large model: each process has a part of every tensor,
of its gradient and of the optimiser's state, and has the whole tensor of one encoder during its passes. The
fusion, and the modules of the method, stay whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from equipoise.diagnosis.features.capture import encoders_of
from equipoise.distributed import is_sharded, own_part, placed_like, process_count, whole
from equipoise.methods import METHODS, Method
from equipoise.models import BalancedModel
from equipoise.models.multimodal import MultimodalModel
from equipoise.models.wrapped import WrappedModel
from equipoise.training.settings import SCALED, Settings
from equipoise.types import ModelError, UsageError


def shards(kind: type[Method]) -> bool:
    """Return whether a method works with sharded encoders; it must say so itself, as with `stacks`."""
    return bool(vars(kind).get("shards", False))


def check_sharding(settings: Settings, method: Method, model: BalancedModel) -> None:
    """Refuse a run whose encoders cannot be sharded.

    Raises:
        UsageError: there is one process, the method reads or changes single weights or gradients, or an
            option does.
        ModelError: the model does not call each encoder as a whole, or encoders share weights.
    """
    if process_count() == 1:
        raise UsageError(
            "shard divides encoders over the processes of a run, and there is one; give devices=N as well."
        )
    for member in method.members():
        if not shards(type(member)):
            able = ", ".join(name for name, kind in METHODS.items() if shards(kind))
            raise UsageError(
                f"the method {member.name!r} reads or changes the weights or gradients of encoders, which "
                f"shard divides; train without it, or choose {able}."
            )
    if settings.compile is not None or settings.budget.precision == SCALED:
        option = "compile" if settings.compile is not None else f"precision={SCALED!r}"
        raise UsageError(f"{option} does not work with shard; leave one of them out.")
    inside = model.inner if isinstance(model, WrappedModel) else model
    if (
        not isinstance(inside, MultimodalModel)
        or "mid_fusion" in inside.capabilities
        or model.shared_parameters()
    ):
        raise ModelError(
            "the encoders of this model exchange signals, are not called as a whole, or share weights, and "
            "cannot be sharded; train without shard, or choose another fusion, such as 'concat'."
        )


def shard_encoders(model: BalancedModel, device: torch.device) -> None:
    """Divide the weights of each encoder over all processes, in place; before an optimiser is made."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (process_count(),))
    model.to(device)
    for encoder in encoders_of(model).values():
        # Also after a pass without a backward one, so that `parameters()` are never temporary copies.
        fully_shard(encoder, mesh=mesh, reshard_after_forward=True)


def clip_parts(gradients: Iterable[Tensor], limit: float) -> None:
    """Clip gradients, sharded ones among them, to a norm of all together; all processes must call it."""
    given = list(gradients)
    parts = [own_part(gradient) for gradient in given if is_sharded(gradient)]
    rest = [gradient for gradient in given if not is_sharded(gradient)]
    squares = torch.stack([part.square().sum() for part in parts]).sum() if parts else torch.zeros(())
    dist.all_reduce(squares)
    norm = (squares + torch.stack([x.square().sum() for x in rest]).sum() if rest else squares).sqrt()
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)  # as `torch.nn.utils.clip_grad_norm_`
    for gradient in (*parts, *rest):
        gradient.mul_(factor)


def whole_values(state: Any) -> Any:
    """Return a state dict in which sharded tensors are whole ones; all processes must call it."""
    if isinstance(state, Mapping):
        return {key: whole_values(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole_values(value) for value in state)
    return whole(state) if isinstance(state, Tensor) and is_sharded(state) else state


def placed_optimizer_state(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Return the `state_dict` of an optimiser with each tensor sharded like its parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        **state,
        "state": {
            index: {
                key: placed_like(value, parameters[index])
                if isinstance(value, Tensor) and value.shape == parameters[index].shape
                else value
                for key, value in entries.items()
            }
            for index, entries in state["state"].items()
        },
    }
