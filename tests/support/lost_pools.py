"""A pool of workers within this process, which is lost by a call that ends its process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from equipoise.children import Workers


class Killed(BaseException):
    """The end of a process."""


class LostPool(Workers):
    """Computes what is submitted at once; after a `Killed` it takes nothing more, as a pool that is lost."""

    def __init__(self, *_: Any) -> None:
        self.children, self.lost = set(), False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.lost:
            raise BrokenProcessPool
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Killed:
            self.lost = True
            future.set_exception(BrokenProcessPool())
        return future

    def how_lost(self) -> tuple[str, str]:
        return "", "ended with the exit code 9"

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass
