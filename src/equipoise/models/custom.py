"""User-defined models, named as `module:Class`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, reduce
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from equipoise.files.limits import check_machine
from equipoise.models.build import Shapes, drawing
from equipoise.models.contract import BalancedModel
from equipoise.models.options import listed
from equipoise.scopes import evaluating
from equipoise.types import EquipoiseError, ModelError, ModelOutput, UsageError

CONTRACT = tuple(
    name for name in (*vars(BalancedModel), "modalities", "num_outputs") if not name.startswith("_")
)
ADVICE = (
    "with equipoise.models.BalancedModel as its base class it needs only "
    "modalities, num_outputs, encode, fuse and encoder_module"
)
TRIAL_SAMPLES = 2


def custom_model(spec: str, shapes: Shapes, num_classes: int, seed: int = 0) -> BalancedModel:
    """Build a user-defined model and check it against the contract.

    The class or factory `spec`, `module:attribute`, is imported, also from the current folder, and called as
    `attribute(shapes, num_classes)` with the random state of `(seed, spec)`; see `build_model` for the other
    arguments. A forward pass of two samples of zeros in evaluation mode follows, which also initialises lazy
    layers.

    Raises:
        UsageError: `spec` is not of this form, or names nothing that can be called so.
        ModelError: importing or calling it fails, or it violates the contract.
    """
    with _current_folder_importable(), drawing(seed, "model", spec):
        factory = load_factory(spec)
        try:
            inspect.signature(factory).bind(shapes, num_classes)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{spec!r} is called as factory(shapes, num_classes), which fails: {error}."
            ) from error
        with _blamed_on(f"calling {spec!r}"):
            model = factory(dict(shapes), num_classes)
        return check_contract(model, shapes, num_classes, spec)


def load_factory(spec: str) -> Callable[..., Any]:
    """Import the class or factory named `module:attribute`; see `custom_model` for errors."""
    module_name, _, attribute = spec.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), *attribute.split(".")]):
        raise UsageError(f"a user-defined model is named 'module:Class' or 'module:factory'; found {spec!r}.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # If the missing name is another one, the user's module exists but one of its imports does not.
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise UsageError(
                f"{spec!r}: there is no module {error.name!r}, neither installed nor in {Path.cwd()}."
            ) from error
        raise ModelError(f"importing {module_name!r} for the model failed: {error}.") from error
    except Exception as error:
        check_machine(error)
        raise ModelError(f"importing {module_name!r} failed with {type(error).__name__}: {error}") from error
    try:
        factory = reduce(getattr, attribute.split("."), cast("Any", module))
    except AttributeError as error:
        raise UsageError(f"module {module_name!r} has no {attribute!r}.") from error
    if not callable(factory):
        raise UsageError(f"{spec!r} names a {type(factory).__name__}; expected a class or a factory.")
    # The record of a run names its model too, and another person may have written subprocess:Popen there.
    if _of_python(factory) or (isinstance(factory, type) and not issubclass(factory, nn.Module)):
        raise UsageError(f"{spec!r} makes no model; expected a torch module, or a function that makes one.")
    return cast("Callable[..., Any]", factory)


def _of_python(factory: Callable[..., Any]) -> bool:
    """Return whether something that can be called is Python's own, which has no models."""
    while isinstance(factory, partial):
        factory = factory.func
    module = str(getattr(factory, "__module__", None) or type(factory).__module__)
    return module.partition(".")[0] in sys.stdlib_module_names


def check_contract(model: object, shapes: Shapes, num_classes: int, name: str = "model") -> BalancedModel:
    """Check that a model fulfils the contract, with a forward pass of two samples of zeros.

    `encode` must call the encoder of each modality exactly once, see `BalancedModel.encoder_module`.

    Args:
        model: a `BalancedModel`, or a module with the same attributes and methods; it is returned.
        shapes: modality to shape and kind of one sample.
        num_classes: `C`.
        name: the model's name in messages.

    Raises:
        ModelError: the contract is violated; the message names the place.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name!r} gave a {type(model).__name__}; expected a torch module.")
    with _blamed_on(f"{name!r}: reading its attributes"):
        missing = [attribute for attribute in CONTRACT if not hasattr(model, attribute)]
    if missing:
        raise ModelError(f"{name!r} lacks {', '.join(missing)}; {ADVICE}.")
    checked = cast("BalancedModel", model)
    _check_names(checked, shapes, num_classes, name)
    with evaluating(checked), torch.no_grad():
        _try(checked, shapes, name)
    return checked


def _check_names(model: BalancedModel, shapes: Shapes, num_classes: int, name: str) -> None:
    modalities = model.modalities
    if not isinstance(modalities, tuple) or not modalities or len(set(modalities)) < len(modalities):
        raise ModelError(f"{name!r}: modalities must be a tuple of different names; found {modalities!r}.")
    if unknown := [m for m in modalities if m not in shapes]:
        raise ModelError(f"{name!r} reads {listed(unknown)}, which the data do not have: {listed(shapes)}.")
    if model.num_outputs != num_classes:
        raise ModelError(
            f"{name!r}: num_outputs is {model.num_outputs!r}; the data have {num_classes} classes."
        )
    for m in modalities:
        with _blamed_on(f"{name!r}: encoder_module({m!r})"):
            encoder: object = model.encoder_module(m)
        if not isinstance(encoder, nn.Module):
            raise ModelError(
                f"{name!r}: encoder_module({m!r}) must be a module; found {type(encoder).__name__}."
            )


def _try(model: BalancedModel, shapes: Shapes, name: str) -> None:
    parameter = next(model.parameters(), torch.empty(0))
    dtype = parameter.dtype if parameter.is_floating_point() else torch.float32
    inputs = {
        m: torch.zeros(TRIAL_SAMPLES, *shapes[m][0], dtype=dtype, device=parameter.device)
        for m in model.modalities
    }
    encoders = {m: model.encoder_module(m) for m in model.modalities}
    with _calls_counted(encoders.values()) as calls, _blamed_on(f"{name!r}: encode on two samples of zeros"):
        z: object = model.encode(inputs)
    if not isinstance(z, Mapping) or set(z) != set(model.modalities):
        found = listed(z) if isinstance(z, Mapping) else type(z).__name__
        raise ModelError(
            f"{name!r}: encode must return features of {listed(model.modalities)}; found {found}."
        )
    for m, feature in z.items():
        _expect(feature, (TRIAL_SAMPLES, None), f"{name!r}: encode must give {m!r} features [B, d]")
    _check_calls(encoders, calls, name)
    logits = (TRIAL_SAMPLES, model.num_outputs)
    with _blamed_on(f"{name!r}: fuse"):
        fused: object = model.fuse(z)
    _expect(fused, logits, f"{name!r}: fuse must return logits [B, {model.num_outputs}]")
    with _blamed_on(f"{name!r}: forward"):
        output: object = model(inputs)
    if not isinstance(output, ModelOutput):
        raise ModelError(f"{name!r}: forward must return a ModelOutput; found {type(output).__name__}.")
    _expect(output.logits, logits, f"{name!r}: forward must return logits [B, {model.num_outputs}]")


def _check_calls(encoders: Mapping[str, nn.Module], calls: Mapping[nn.Module, int], name: str) -> None:
    for m, encoder in encoders.items():
        served = [other for other, module in encoders.items() if module is encoder]
        if calls[encoder] == len(served):
            continue
        often = "once" if len(served) == 1 else f"once for each of its modalities {listed(served)}"
        raise ModelError(
            f"{name!r}: encode must call encoder_module({m!r}) {often}; calls found: {calls[encoder]}. "
            "Return from encoder_module the module that encode calls as module(x), not as "
            "module.forward(x) or layer by layer: forward hooks on it count costs and read features."
        )


@contextmanager
def _calls_counted(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, int]]:
    """Count the calls of each module."""
    calls = dict.fromkeys(modules, 0)

    def count(module: nn.Module, *_: object) -> None:
        calls[module] += 1

    with ExitStack() as stack:
        for module in calls:
            stack.callback(module.register_forward_hook(count).remove)
        yield calls


def _expect(value: object, shape: tuple[int, int | None], message: str) -> None:
    found: object = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    rows, columns = shape
    if not isinstance(found, tuple) or len(found) != 2 or found[0] != rows or columns not in (None, found[1]):
        raise ModelError(f"{message}; found {found} for {rows} samples.")


@contextmanager
def _blamed_on(what: str) -> Iterator[None]:
    """Turn any exception of the user's code into a ModelError that names the place."""
    try:
        yield
    except EquipoiseError:
        raise
    except Exception as error:
        check_machine(error)
        raise ModelError(f"{what} failed with {type(error).__name__}: {error}") from error


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    # Otherwise a module written after the last listing of the folder is not found.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
