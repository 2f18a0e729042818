"""Forward hooks on encoders that assign each output to its modality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from equipoise.types import ModelError, UsageError

OnOutput = Callable[[str, Any, Mapping[str, Any]], Any]


class EncoderHooks:
    """Call a function on every output of the encoders.

    Args:
        encoders: modality name to module. A module that serves several modalities is listed under each of
            their names, in the order in which the model calls it.
        on_output: called with the modality, the encoder's output and its keyword arguments. Unless it returns
            None, its result replaces the output.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], on_output: OnOutput) -> None:
        self._on_output = on_output
        self._names: dict[nn.Module, list[str]] = {}
        for name, module in encoders.items():
            self._names.setdefault(module, []).append(name)
        self._calls = dict.fromkeys(self._names, 0)

    @contextmanager
    def registered(self) -> Iterator[None]:
        """Register the hooks for a block."""
        with ExitStack() as stack:
            for module in self._names:
                stack.callback(module.register_forward_hook(self._hook, with_kwargs=True).remove)
            yield

    def end_pass(self) -> None:
        """Check that each encoder was called once for each of its modalities, and start counting again.

        Raises:
            ModelError: it was called more or less often.
        """
        calls, self._calls = self._calls, dict.fromkeys(self._names, 0)
        for module, names in self._names.items():
            if calls[module] != len(names):
                raise ModelError(
                    f"the encoder handle of {' and '.join(map(repr, names))} ({type(module).__name__}) was "
                    f"called {calls[module]} times in one forward pass; expected {len(names)}: "
                    + (
                        "choose a module that is called once for each modality."
                        if calls[module]
                        else "choose the module whose output reaches the fusion, and make sure the model "
                        "uses it."
                    )
                )

    def _hook(self, module: nn.Module, _: Any, keywords: Mapping[str, Any], output: Any) -> Any:
        names, position = self._names[module], self._calls[module]
        self._calls[module] += 1
        if position >= len(names):
            return None  # `end_pass` raises
        return self._on_output(names[position], output, keywords)


def check_handles(encoders: Mapping[str, nn.Module], model: nn.Module) -> None:
    """Check that there are encoders and that each is a submodule of the model.

    Raises:
        UsageError: there is no encoder, or one is not a module.
        ModelError: a module is not part of the model.
    """
    if not encoders:
        raise UsageError("no encoder was given; expected a mapping from modality name to module.")
    inside = set(model.modules())
    for name, module in encoders.items():
        if not isinstance(module, nn.Module):
            raise UsageError(f"the handle of {name!r} is a {type(module).__name__}; expected a module.")
        if module not in inside:
            raise ModelError(
                f"the handle of {name!r} ({type(module).__name__}) is not part of the model "
                f"({type(model).__name__}); expected one of its submodules, such as model.{name}_encoder."
            )
