"""Which methods fit the standard step of a loop that somebody else has written."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.methods.core.method import Method, overrides
from equipoise.methods.diagnose_relearn import DiagnoseRelearnMethod
from equipoise.types import UsageError

INSTEAD = "train with equipoise.fit, which takes a model of your own as model='module:Class'."


def check_fit(method: Method, modalities: Sequence[str], processes: int) -> None:
    """Refuse a method that needs more than a standard step: forward, loss, backward, gradients, step.

    Args:
        method: the method.
        modalities: those of the model.
        processes: how many train together.

    Raises:
        UsageError: says what the method needs, and what to do instead.
    """
    for member in method.members():
        reason = reason_against(member, modalities)
        if reason:
            raise UsageError(f"the method {member.name!r} does not fit a loop of your own: {reason}")
        if processes > 1 and overrides(member, "backward"):
            raise UsageError(
                f"the method {member.name!r} routes gradients itself, which wrappers for several processes "
                "do not see; train in one process."
            )


def reason_against(method: Method, modalities: Sequence[str]) -> str:
    """Return why a method does not fit; empty where it does."""
    if isinstance(method, DiagnoseRelearnMethod):
        return (
            "it acts between epochs, by itself; use equipoise.DiagnoseRelearn, or the callback of that name."
        )
    if not method.trains or method.argument is not None:
        return f"it trains no joint model; {INSTEAD}"
    if method.parts(modalities):
        return f"it builds on finished runs; {INSTEAD}"
    if overrides(method, "build"):
        return f"it brings an inference rule of its own, which becomes part of the model; {INSTEAD}"
    if overrides(method, "train_step"):
        return f"it takes over the step; {INSTEAD}"
    if method.changes_data():
        return f"it chooses the training data; {INSTEAD}"
    return ""


def splits_pass(method: Method) -> bool:
    """Tell whether a method looks at features before the fusion reads them."""
    hooks = ("edit_features", "fuse", "forward")
    return any(overrides(member, hook) for member in method.members() for hook in hooks)
