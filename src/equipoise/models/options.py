"""Check options and features of encoders and fusions, before a layer fails with an obscure error."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral

from torch import Tensor, nn

from equipoise.types import ModelError, UsageError


def option_names(cls: type[nn.Module]) -> tuple[str, ...]:
    """Return the options of an encoder or fusion: the keyword-only parameters of its constructor.

    Those of an intermediate fusion are the parameters of `new_blocks`.
    """
    parameters = inspect.signature(getattr(cls, "new_blocks", cls)).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def check_options(cls: type[nn.Module], name: str, options: Mapping[str, object]) -> None:
    """Check that the constructor of `cls` has these options.

    Raises:
        UsageError: an option is unknown; the message lists the known ones.
    """
    parameters = inspect.signature(getattr(cls, "new_blocks", cls)).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return
    known = option_names(cls)
    if unknown := [option for option in options if option not in known]:
        raise UsageError(f"{name!r} has no option {listed(unknown)}; its options: {listed(known) or 'none'}.")


def positive(option: str, value: object) -> int:
    """Return `value` as an int of at least 1, or raise UsageError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise UsageError(f"option {option!r} must be a whole number of at least 1; found {value!r}.")
    return int(value)


def positive_sizes(option: str, values: object) -> tuple[int, ...]:
    """Return one or more layer sizes as a tuple of ints of at least 1, or raise UsageError."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise UsageError(f"option {option!r} must be a list of one or more sizes; found {values!r}.")
    return tuple(positive(option, value) for value in values)


def probability(option: str, value: float) -> float:
    """Return `value` if it lies in [0, 1), or raise UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise UsageError(f"option {option!r} must be a number in [0, 1); found {value!r}.")
    return float(value)


def one_of(option: str, value: str, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`, or raise UsageError."""
    if value not in choices:
        raise UsageError(f"option {option!r} must be one of {listed(choices)}; found {value!r}.")
    return value


def require_modalities(names: Iterable[str], known: Sequence[str], whose: str) -> None:
    """Raise ModelError if a modality is none of the known ones; `whose` begins the message."""
    if unknown := [name for name in names if name not in known]:
        raise ModelError(f"{whose} {listed(unknown)}; known: {listed(known)}.")


def require_width(z: Tensor, width: int, reader: str) -> None:
    """Raise ModelError unless a feature is `[B, width]`; `reader` begins the message."""
    if z.ndim != 2 or z.shape[1] != width:
        raise ModelError(f"{reader}; found {list(z.shape)}.")


def listed(names: Iterable[object]) -> str:
    """Return quoted names, separated by commas, for messages."""
    return ", ".join(repr(name) for name in names)
