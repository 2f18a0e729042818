"""Encoders whose forward pass is compiled, while everything else sees the modules that they were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import nn


def compile_forward(modules: Iterable[nn.Module], mode: str) -> None:
    """Compile the forward pass of modules in place, when each is first called.

    Hooks, names and weights stay as they are, and a deep copy of a module compiles its own forward pass.
    """
    for module in modules:
        module.forward = _Compiled(module, mode)


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Let compiled passes draw the numbers that they would draw otherwise."""
    from torch._inductor import config

    with config.patch(fallback_random=True):
        yield


class _Compiled:
    def __init__(self, module: nn.Module, mode: str) -> None:
        self._module, self._mode = module, mode
        plain = MethodType(type(module).forward, module)
        self._call = torch.compile(plain, mode=mode)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Compiled:
        # A copy of the module, whose attribute this is, has begun before.
        return _Compiled(memo.get(id(self._module), self._module), self._mode)
