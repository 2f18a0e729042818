"""Batch normalisation by the statistics of the samples of all processes."""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from equipoise.distributed import process_count

USUAL: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation of `[B, C, ...]` where each process has a part of the batch, of any size.

    In training it computes what torch's own does with the whole batch (`torch.nn.SyncBatchNorm` needs a GPU);
    in evaluation mode it is torch's.
    """

    @classmethod
    def like(cls, norm: _BatchNorm) -> SharedBatchNorm:
        """Return such a layer with the parameters, buffers and mode of another."""
        found = cls(norm.num_features, norm.eps, norm.momentum, False, norm.track_running_stats)
        found.affine, found.training = norm.affine, norm.training
        found._parameters, found._buffers = norm._parameters, norm._buffers
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised batch."""
        statistics_of_batch = self.training or self.running_mean is None
        if not statistics_of_batch or process_count() == 1:
            return super().forward(x)
        over = [0, *range(2, x.ndim)]
        mean, variance, count = _statistics(x, over)
        if self.training and self.running_mean is not None:
            self._track(mean.detach(), variance.detach(), count)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        wide = torch.promote_types(x.dtype, torch.float32)
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return (x * scale.to(wide).view(shape) + shift.to(wide).view(shape)).to(x.dtype)

    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Update the running statistics; the variance is that of `count` values, unbiased."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        for running, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            assert running is not None
            running.mul_(1 - share).add_(value.to(running), alpha=share)

    def _check_input_dim(self, _: Tensor) -> None:
        """Accept any number of dimensions."""


def share_statistics(model: nn.Module) -> None:
    """Replace the batch normalisation inside a model by one over all processes, with the same parameters."""
    if process_count() == 1:
        return
    made: dict[nn.Module, SharedBatchNorm] = {}
    for part in list(model.modules()):
        for name, layer in list(part.named_children()):
            if type(layer) in USUAL:
                setattr(part, name, made.setdefault(layer, SharedBatchNorm.like(layer)))  # type: ignore[arg-type]


def _statistics(x: Tensor, over: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance `[C]` over all processes, in double precision, and the number of values."""
    count = x.numel() / x.shape[1]
    mean = x.sum(over, dtype=torch.float64) / max(count, 1.0)
    shape = [1, -1, *[1] * (x.ndim - 2)]
    spread = (x - mean.to(x.dtype).view(shape)).square().sum(over, dtype=torch.float64)
    # The mean was rounded for the difference, so that this is the spread around the rounded one.
    spread = spread - count * (mean - mean.to(x.dtype)).square()
    own = torch.cat([count * mean, spread + count * mean.square(), mean.new_full((1,), count)])
    total: Tensor = _Sum.apply(own)  # type: ignore[no-untyped-call]
    sums, squares, number = torch.split(total, [len(mean), len(mean), 1])
    count_of_all = number.detach()  # a tensor: reading it would wait for the device
    center = sums / count_of_all
    return center, (squares / count_of_all - center.square()).clamp(min=0), count_of_all


class _Sum(torch.autograd.Function):
    """The sum over all processes."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        return _summed(own)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(own: Tensor) -> Tensor:
    total = own.clone()
    dist.all_reduce(total)
    return total
