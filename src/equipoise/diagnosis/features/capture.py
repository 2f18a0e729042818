"""Collect the features that a model's encoders return, through forward hooks and without side effects."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from equipoise.diagnosis.features.reading import (
    BatchReader,
    Share,
    device_of,
    in_order,
    moved_batches,
    untouched_generators,
)
from equipoise.diagnosis.room import Rows, taken
from equipoise.distributed import gathered, portable
from equipoise.pooling import Pool, pooled_output
from equipoise.randomness import isolated_rng
from equipoise.scopes import evaluating
from equipoise.sharing import Blocks
from equipoise.tasks import IGNORED_CLASS
from equipoise.types import DataError, EquipoiseError, ModelError, UsageError

OnOutput = Callable[[str, Any, Mapping[str, Any]], Any]


@dataclass
class Captured:
    """Pooled features of one split.

    Attributes:
        features: modality name to `[N, d_m]`, float32 (float64 if the model is), on the CPU.
        target: `[N]`, on the CPU.
        blocks: where several processes share the samples, those of which each has the features, and the
            target is that of all; else None.
    """

    features: dict[str, Tensor]
    target: Tensor
    blocks: Blocks | None = None

    def whole(self, rows: NDArray[np.int64] | None = None) -> Captured:
        """Return the features of all samples, or of some `rows` in order, in every process.

        All processes must call it.
        """
        if self.blocks is None and rows is None:
            return self
        rows = np.arange(len(self.target)) if rows is None else rows
        target = self.target[torch.from_numpy(rows)]
        if self.blocks is None:
            return Captured({name: taken(z, rows) for name, z in self.features.items()}, target)
        blocks = self.blocks.chosen(rows)
        places = rows[blocks.own] - self.blocks.start
        features = {name: z.numpy()[places] for name, z in self.features.items()}
        return Captured({m: torch.from_numpy(blocks.joined(z)) for m, z in features.items()}, target)

    def labelled(self) -> Captured:
        """Return the samples without those of the class -100, which the loss of a training ignores."""
        kept = self.target != IGNORED_CLASS
        if self.target.is_floating_point() or self.target.ndim != 1 or kept.all():
            return self
        return self.whole(kept.numpy().nonzero()[0])


def collect_features(
    encoders: Mapping[str, nn.Module],
    model: nn.Module,
    loader: Iterable[Any],
    *,
    reader: BatchReader | None = None,
    pool: Pool | Mapping[str, Pool] | None = None,
    in_blocks: bool = False,
) -> Captured:
    """Run the model over a loader and collect what its encoders return.

    The model runs in evaluation mode without gradients. Afterwards the mode of each submodule, all
    gradients, the global random states and those of the loader's generators are restored. A shuffled
    `DataLoader` over a map-style dataset is read in the order of the dataset. If its sampler is a
    `DistributedSampler`, or `accelerate` has prepared it, each sample is read by one process, and every
    process gets the features of all samples, or with `in_blocks` keeps those that it has read.

    Args:
        encoders: modality name to a module inside `model`. A module that serves several modalities is listed
            under each of their names, in the order in which the model calls it.
        model: the whole model.
        loader: an iterable of batches; see `BatchReader` for the kinds of batches.
        reader: how batches are read, if the default does not fit.
        pool: from an encoder's output to `[B, d]`, for all modalities or by name; see `pooled_output` for
            the default.
        in_blocks: leave the features where they are, see `Captured.blocks`.

    Raises:
        ModelError: a handle is not part of the model, is never called or too often, or returns something
            that cannot be pooled.
        DataError: the loader gives no batch, or the features are not finite.
    """
    share, reader = Share.of(loader), reader or BatchReader()
    if share is None:
        return _collect(encoders, model, in_order(loader), loader, reader, pool)
    own, failure = None, None
    try:
        own = _collect(encoders, model, share.loader(loader), loader, reader, pool)
    except EquipoiseError as error:  # all processes raise it: the others wait for this one
        failure = portable(error)
    if failed := [error for error in gathered(failure) if error is not None]:
        raise failed[0]
    assert own is not None
    count = share.blocks.sizes[share.blocks.rank]  # the rest is padding
    target = torch.from_numpy(share.blocks.joined(own.target[:count].numpy()))
    features = {name: z[:count] for name, z in own.features.items()}
    captured = Captured(features, target, share.blocks)
    return captured if in_blocks else captured.whole()


def _collect(
    encoders: Mapping[str, nn.Module],
    model: nn.Module,
    batches: Iterable[Any],
    loader: Iterable[Any],
    reader: BatchReader,
    pool: Pool | Mapping[str, Pool] | None,
) -> Captured:
    check_handles(encoders, model)
    outputs: dict[str, tuple[Any, Any]] = {}
    kept = {name: Rows(f"the output of the encoder of {name!r}") for name in encoders}
    targets: list[Tensor] = []

    def keep(name: str, output: Any, keywords: Mapping[str, Any]) -> None:
        outputs[name] = output, keywords.get("attention_mask")

    hooks = EncoderHooks(encoders, keep)
    with ExitStack() as stack:
        stack.enter_context(isolated_rng())
        stack.enter_context(untouched_generators(loader))
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo" in sys.modules:  # otherwise nothing is compiled, and its import takes seconds
            # Compiled code ignores hooks that are registered later; compiling it again takes minutes.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(hooks.registered())
        for batch in moved_batches(batches, device_of(model)):
            target = reader.target(batch)
            reader.run(model, batch)
            hooks.end_pass()
            for name, (output, mask) in outputs.items():
                kept[name].add(_on_cpu(name, pooled_output(name, output, len(target), pool, mask)))
            targets.append(target.detach().cpu())
    if not targets:
        raise DataError("the loader gave no batch; expected at least one: check its dataset and drop_last.")
    # One modality after the other, so that the batches of one only are in memory twice.
    return Captured({name: kept[name].whole() for name in encoders}, torch.cat(targets))


def _on_cpu(name: str, features: Tensor) -> Tensor:
    features = features.detach()
    features = (features if features.dtype == torch.float64 else features.float()).cpu()
    if not torch.isfinite(features).all():
        raise DataError(
            f"the encoder of {name!r} returned NaN or infinite features; check its inputs and whether "
            "training has diverged."
        )
    return features


class EncoderHooks:
    """Call a function on every output of the encoders.

    Args:
        encoders: modality name to module. A module that serves several modalities is listed under each of
            their names, in the order in which the model calls it.
        on_output: called with the modality, the encoder's output and its keyword arguments. Unless it returns
            None, its result replaces the output. None if only calls are counted, by `called`.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], on_output: OnOutput | None = None) -> None:
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

    def called(self, module: nn.Module) -> tuple[str, bool]:
        """Count a call of an encoder; return its modality, and whether it was one call too many."""
        names, position = self._names[module], self._calls[module]
        self._calls[module] += 1
        return names[min(position, len(names) - 1)], position >= len(names)

    def end_pass(self, remedy: str = "") -> None:
        """Check that each encoder was called once for each of its modalities, and start counting again.

        Raises:
            ModelError: it was called more or less often; `remedy` is a further one for a missing call.
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
                        f"uses it{remedy}."
                    )
                )

    def _hook(self, module: nn.Module, _: Any, keywords: Mapping[str, Any], output: Any) -> Any:
        name, too_many = self.called(module)
        if too_many or self._on_output is None:
            return None  # `end_pass` raises
        return self._on_output(name, output, keywords)


def check_handles(
    encoders: Mapping[str, Any], model: nn.Module | None = None, *, paths: bool = False
) -> None:
    """Check that there are encoders and that each is a submodule of the model, if that is known.

    Raises:
        UsageError: there is no encoder, or one is not a module (with `paths`, nor a path inside the model).
        ModelError: a module is not part of the model, has no weights yet, or is a compiled script.
    """
    wanted = "a module, or its path inside the model, such as 'audio_net'" if paths else "a module"
    if not encoders or not hasattr(encoders, "items"):
        found = f"encoders is a {type(encoders).__name__}" if encoders else "no encoder was given"
        first = " Encoders come first, and then the model." if isinstance(encoders, nn.Module) else ""
        raise UsageError(f"{found}; expected a mapping from modality name to {wanted}.{first}")
    for name, module in encoders.items():
        if not (isinstance(module, nn.Module) or (paths and isinstance(module, str))):
            raise UsageError(f"the handle of {name!r} is a {type(module).__name__}; expected {wanted}.")
        _check_usable(name, module)
        if model is not None and all(module is not part for part in model.modules()):
            raise ModelError(
                f"the handle of {name!r} ({type(module).__name__}) is not part of the model "
                f"({type(model).__name__}); expected one of its submodules, such as model.{name}_encoder."
            )


def _check_usable(name: str, module: Any) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"the encoder of {name!r} comes from torch.jit, which allows no forward hooks; give the "
            "module that it was made from."
        )
    if isinstance(module, nn.Module) and any(map(is_lazy, (*module.parameters(), *module.buffers()))):
        raise ModelError(
            f"the encoder of {name!r} is lazy and has no weights yet; run the model on one batch first."
        )


def encoders_of(model: Any) -> dict[str, nn.Module]:
    """Return the encoders of a model that has `modalities` and `encoder_module`.

    Raises:
        UsageError: it has not.
    """
    names, find = getattr(model, "modalities", None), getattr(model, "encoder_module", None)
    if not names or not callable(find):
        raise UsageError(
            f"the encoders of a {type(model).__name__} are not known; give encoders=, a mapping from "
            "modality name to module."
        )
    return {name: find(name) for name in names}
