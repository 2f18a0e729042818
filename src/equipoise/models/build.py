"""Build models by name; initial weights depend on what a part is, not on what stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from equipoise.models.encoders.base import DEFAULT_ENCODER, ENCODERS, Encoder, default_encoder
from equipoise.models.fusion.base import FUSIONS, Fusion
from equipoise.models.local_weights import WEIGHTS, load_weights
from equipoise.models.mid_fusion.bottlenecks import BottleneckModel
from equipoise.models.mid_fusion.crossmodal import CrossmodalModel
from equipoise.models.mid_fusion.lockstep import LockstepModel
from equipoise.models.mid_fusion.model import MidFusionModel
from equipoise.models.multimodal import MultimodalModel
from equipoise.models.options import check_options, listed, option_names
from equipoise.randomness import derive_seed, seeded_rng
from equipoise.tasks import task_named
from equipoise.types import MissingExtraError, ModelError, UnknownNameError, UsageError

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Modality to the shape of one sample and its kind: `{"audio": ((1, 128, 94), "image")}`."""

Options = Mapping[str, object]

MID_FUSIONS: Mapping[str, type[LockstepModel]] = {
    model.name: model for model in (BottleneckModel, MidFusionModel, CrossmodalModel)
}
"""The kinds of intermediate fusion, by the name that `build_model` takes for the fusion."""


def build_model(
    shapes: Shapes,
    num_classes: int,
    *,
    encoders: str | Mapping[str, str] = "auto",
    encoder_options: Mapping[str, Options] | None = None,
    fusion: str = "concat",
    fusion_options: Options | None = None,
    seed: int = 0,
    only: Sequence[str] | None = None,
    task: str = "classification",
) -> MultimodalModel:
    """Build a model from names.

    The initial weights of an encoder are a function of `seed` and the modality's name alone, those of the
    fusion of `seed`, the fusion's name and the widths: the encoder of "audio" starts from the same weights in
    every joint and unimodal model that methods are compared with. Global random states are left as they are.

    Args:
        shapes: modality to shape and kind of one sample; their order is the model's.
        num_classes: `C`; of labels as many as there are, 1 for a number.
        encoders: one name for all modalities, or a name per modality; `auto`, which also stands for those
            left out, chooses by kind.
        encoder_options: options of the encoder of each modality.
        fusion: name of the fusion; `mmtm`, `mult` and `mbt` are intermediate fusion (`MID_FUSIONS`).
        fusion_options: its options.
        seed: of the initial weights.
        only: build the model of these modalities alone.
        task: what the logits are for, see `equipoise.tasks`.

    Raises:
        UsageError: a modality that `shapes` does not have, an unknown name or option.
        ModelError: an encoder does not fit its modality or its file of weights, or, with intermediate fusion,
            does not run stage by stage or is the only one.
    """
    names = encoder_names(shapes, encoders, only)
    options = encoder_options or {}
    _require_known(options, shapes, "encoder_options")
    if fusion not in fusion_names():
        raise UnknownNameError("fusion", fusion, fusion_names())
    modules = {m: build_encoder(m, *shapes[m], name, options.get(m, {}), seed) for m, name in names.items()}
    model: MultimodalModel
    if fusion in MID_FUSIONS:
        model = build_mid_fusion(modules, num_classes, fusion_options or {}, seed, fusion)
    else:
        widths = {m: module.out_features for m, module in modules.items()}
        model = MultimodalModel(
            modules, build_fusion(fusion, widths, num_classes, fusion_options or {}, seed)
        )
    model.task = task_named(task).name
    return model


def encoder_names(
    shapes: Shapes, encoders: str | Mapping[str, str] = "auto", only: Sequence[str] | None = None
) -> dict[str, str]:
    """Return the name of each modality's encoder, with `auto` resolved, in the order of `shapes`.

    Raises:
        UsageError: a modality that `shapes` does not have, or none at all.
        ModelError: `auto` for an unknown kind.
    """
    if isinstance(only, str):
        only = (only,)
    chosen = dict.fromkeys(shapes, encoders) if isinstance(encoders, str) else encoders
    _require_known(chosen, shapes, "encoders")
    _require_known(only or (), shapes, "only")
    wanted = [m for m in shapes if only is None or m in only]
    if not wanted:
        raise UsageError(f"a model needs at least one modality of {listed(shapes)}; found none.")
    names = {m: chosen.get(m, "auto") for m in wanted}
    return {m: default_encoder(shapes[m][1]) if name == "auto" else name for m, name in names.items()}


def build_encoder(
    modality: str, shape: Sequence[int], kind: str, name: str, options: Options | None = None, seed: int = 0
) -> Encoder:
    """Build one encoder with the initial weights of `(seed, modality)`, or with those of a file.

    Every encoder takes the option `weights`, the path of a local file: see `load_weights`.

    Raises:
        UsageError: an unknown encoder or option, or no such file.
        MissingExtraError: the encoder needs a package that is not installed.
        ModelError: the encoder does not fit the kind or shape, or the weights do not fit the encoder.
    """
    encoder, own = ENCODERS[name], dict(options or {})
    weights = own.pop(WEIGHTS, None)
    try:
        with drawing(seed, "encoder", modality):
            built = encoder.for_shape(shape, kind, **own)
        if weights is not None:
            load_weights(built, weights)
        return built
    except ModelError as error:
        raise ModelError(f"modality {modality!r}: {error}") from error
    except MissingExtraError:
        raise
    except UsageError as error:
        raise UsageError(f"modality {modality!r}: {error}") from error


def build_fusion(
    name: str, widths: Mapping[str, int], num_classes: int, options: Options | None = None, seed: int = 0
) -> Fusion:
    """Build one fusion with the initial weights of `(seed, "fusion", name)`.

    Raises:
        UsageError: an unknown fusion or option, or intermediate fusion, which is no module behind encoders.
        ModelError: impossible widths or number of classes.
    """
    if name in MID_FUSIONS:
        raise UsageError(
            f"{name!r} fuses between the stages of the encoders and cannot be built from their widths: use "
            f"build_model(..., fusion={name!r})."
        )
    fusion = FUSIONS[name]
    check_options(fusion, name, options or {})
    with drawing(seed, "fusion", name):
        return fusion(widths, num_classes, **dict(options or {}))


def build_mid_fusion(
    encoders: Mapping[str, nn.Module],
    num_classes: int,
    options: Options | None = None,
    seed: int = 0,
    name: str = MidFusionModel.name,
) -> LockstepModel:
    """Build intermediate fusion around encoders that exist.

    The late fusion is the one that this kind comes with, with the initial weights that it has by itself; the
    blocks have those of `(seed, "fusion", name)`. `with_fusion` gives it another one.

    Raises:
        UsageError: an unknown or impossible option.
        ModelError: an encoder does not run stage by stage, or is the only one.
    """
    model = MID_FUSIONS[name]
    check_options(model, name, options or {})
    widths = {m: getattr(encoder, "out_features", 0) for m, encoder in encoders.items()}
    late = build_fusion(model.late[0], widths, num_classes, model.late[1], seed)
    with drawing(seed, "fusion", name):
        return model(encoders, late, num_classes, None, **dict(options or {}))


def fusion_names() -> tuple[str, ...]:
    """Return the names that `build_model` takes for a fusion: those of `FUSIONS` and of `MID_FUSIONS`."""
    return tuple(sorted((*FUSIONS, *MID_FUSIONS)))


@contextmanager
def drawing(*key: object) -> Iterator[None]:
    """Draw initial weights from the stream of a key, on the CPU so that every machine draws the same ones."""
    with seeded_rng(derive_seed(*key)), torch.device("cpu"):
        yield


def describe(model: nn.Module | Mapping[str, str], fusion: str = "concat") -> str:
    """Return a model in one line: `concat(audio=mlp, accelerometer=mlp)`.

    Args:
        model: a model, or what `encoder_names` returned for one that is not built yet.
        fusion: the fusion's name, in the second case.
    """
    if isinstance(model, Mapping):
        return f"{fusion}({', '.join(f'{m}={name}' for m, name in model.items())})"
    if not isinstance(model, MultimodalModel):
        return type(model).__name__
    fusion = _name_of(model.fusion)
    if isinstance(model, LockstepModel):
        # The late fusion that it comes with goes without saying, as in the name of a model not yet built.
        fusion = model.name if fusion == model.late[0] else f"{model.name}+{fusion}"
    return describe({m: _name_of(encoder) for m, encoder in model.encoders.items()}, fusion)


def available_models() -> list[dict[str, object]]:
    """Return the encoders and fusions that can be named.

    Each is a dict of `role` (`encoder` or `fusion`), `name`, `kinds` (of modality, a tuple, empty for a
    fusion), `default_for` (the kinds for which `auto` means it), `options` and a one-line `description`.
    """
    found: list[dict[str, object]] = []
    for name, encoder in ENCODERS.items():
        defaults = tuple(kind for kind, default in DEFAULT_ENCODER.items() if default == name)
        entry = _entry("encoder", name, encoder, encoder.kinds, defaults)
        found.append(entry | {"options": (*option_names(encoder), WEIGHTS)})
    fusions: dict[str, type[nn.Module]] = {**FUSIONS, **MID_FUSIONS}
    found += [_entry("fusion", name, fusions[name], (), ()) for name in fusion_names()]
    return found


def _entry(
    role: str, name: str, cls: type[nn.Module], kinds: tuple[str, ...], default_for: tuple[str, ...]
) -> dict[str, object]:
    lines = (cls.__doc__ or "").strip().splitlines()
    return {
        "role": role,
        "name": name,
        "kinds": kinds,
        "default_for": default_for,
        "options": option_names(cls),
        "description": lines[0] if lines else "",
    }


def _name_of(module: nn.Module) -> str:
    name = getattr(module, "name", None)
    return name if isinstance(name, str) and name else type(module).__name__


def _require_known(modalities: Mapping[str, object] | Sequence[str], shapes: Shapes, argument: str) -> None:
    if unknown := [m for m in modalities if m not in shapes]:
        raise UsageError(
            f"{argument!r} names the modality {listed(unknown)}, which the data do not have; "
            f"they have {listed(shapes)}."
        )
