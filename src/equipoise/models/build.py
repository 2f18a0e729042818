"""Build models by name; the initial weights of a part do not depend on the other parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from equipoise.models.encoders.base import (
    DEFAULT_ENCODERS,
    ENCODERS,
    ONE_FRAME,
    DefaultEncoder,
    Encoder,
    default_encoder,
)
from equipoise.models.fusion.base import FUSIONS, Fusion
from equipoise.models.local_weights import WEIGHTS, load_weights
from equipoise.models.mid_fusion.bottlenecks import BottleneckModel
from equipoise.models.mid_fusion.crossmodal import CrossmodalModel
from equipoise.models.mid_fusion.lockstep import LockstepModel
from equipoise.models.mid_fusion.mmtm import MidFusionModel
from equipoise.models.multimodal import MultimodalModel
from equipoise.models.options import check_options, listed
from equipoise.randomness import derive_seed, seeded_rng
from equipoise.tasks import task_named
from equipoise.types import MissingExtraError, ModelError, UnfitModelError, UsageError, check_known

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Modality to the shape of one sample and its kind: `{"audio": ((1, 128, 94), "image")}`."""

Options = Mapping[str, object]

MID_FUSIONS: Mapping[str, type[LockstepModel]] = {
    model.name: model for model in (BottleneckModel, MidFusionModel, CrossmodalModel)
}
"""Intermediate fusions by name, as for the argument `fusion` of `build_model`."""


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

    The initial weights of an encoder depend only on `seed` and the name of its modality, those of the fusion
    only on `seed`, its name and the widths: the encoder of "audio" has the same initial weights in every
    joint and unimodal model of a comparison. Global random states are not changed.

    Args:
        shapes: modality to shape and kind of one sample, in the order of the model.
        num_classes: `C`; the number of labels, or 1 for a numeric target.
        encoders: one name for all modalities, or a name per modality; `auto`, the default of a modality,
            chooses by kind.
        encoder_options: options of the encoder of each modality.
        fusion: name of the fusion; `mmtm`, `mult` and `mbt` are intermediate fusion (`MID_FUSIONS`).
        fusion_options: its options.
        seed: of the initial weights.
        only: use only these modalities.
        task: kind of the target, see `equipoise.tasks`.

    Raises:
        UsageError: a modality, name or option is unknown.
        ModelError: an encoder does not match its modality or its weights file, or cannot be used for
            intermediate fusion.
    """
    names = encoder_names(shapes, encoders, only)
    options = encoder_options or {}
    _require_known(options, shapes, "encoder_options")
    check_known("fusion", [fusion], fusion_names())
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
        UsageError: a modality is unknown, or there is none.
        ModelError: `auto` for an unknown kind.
    """
    for m, described in shapes.items():
        if len(described) != 2 or not isinstance(described[1], str):
            raise UsageError(
                f"shapes[{m!r}] is {described!r}; expected the shape and kind of one sample, such as "
                "((12,), 'vector')."
            )
    if isinstance(only, str):
        only = (only,)
    chosen = dict.fromkeys(shapes, encoders) if isinstance(encoders, str) else encoders
    _require_known(chosen, shapes, "encoders")
    _require_known(only or (), shapes, "only")
    wanted = [m for m in shapes if only is None or m in only]
    if not wanted:
        raise UsageError(f"a model needs at least one modality of {listed(shapes)}; found none.")
    names = {m: chosen.get(m, "auto") for m in wanted}
    return {m: _default(m, *shapes[m]) if name == "auto" else name for m, name in names.items()}


def reasons(
    shapes: Shapes, encoders: str | Mapping[str, str] = "auto", only: Sequence[str] | None = None
) -> dict[str, str]:
    """Return why each modality has its encoder: the reason of `auto`, or that it was named."""
    chosen = dict.fromkeys(shapes, encoders) if isinstance(encoders, str) else encoders
    return {
        m: f"auto: {default_encoder(shapes[m][1], shapes[m][0]).why}"
        if chosen.get(m, "auto") == "auto"
        else "named in the settings"
        for m in encoder_names(shapes, encoders, only)
    }


def _default(modality: str, shape: Sequence[int], kind: str) -> str:
    try:
        return default_encoder(kind, shape).encoder
    except ModelError as error:
        raise ModelError(f"modality {modality!r}: {error}") from error


def build_encoder(
    modality: str, shape: Sequence[int], kind: str, name: str, options: Options | None = None, seed: int = 0
) -> Encoder:
    """Build one encoder with the initial weights of `(seed, modality)`, or with those of a file.

    Every encoder has the option `weights`, the path of a local file: see `load_weights`.

    Raises:
        UsageError: the encoder, an option or the file is unknown.
        MissingExtraError: the encoder needs a package that is not installed.
        ModelError: the encoder does not match the kind or shape, or the weights do not match the encoder.
    """
    encoder, own = ENCODERS[name], dict(options or {})
    weights = own.pop(WEIGHTS, None)
    try:
        with drawing(seed, "encoder", modality):
            built = encoder.for_shape(shape, kind, **own)
        if weights is not None:
            load_weights(built, weights)
        return built
    except UnfitModelError as error:
        raise UnfitModelError(f"modality {modality!r}: {error}") from error
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
        UsageError: the fusion or an option is unknown, or it is an intermediate fusion.
        ModelError: the widths or the number of classes are invalid.
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
    """Build an intermediate fusion around existing encoders.

    The late fusion is the default of this kind, with the initial weights of `build_fusion`; `with_fusion`
    replaces it. The blocks have the initial weights of `(seed, "fusion", name)`.

    Raises:
        UsageError: an option is unknown or invalid.
        ModelError: an encoder does not run stage by stage, or is the only one.
    """
    model = MID_FUSIONS[name]
    check_options(model, name, options or {})
    widths = {m: getattr(encoder, "out_features", 0) for m, encoder in encoders.items()}
    late = build_fusion(model.late[0], widths, num_classes, model.late[1], seed)
    with drawing(seed, "fusion", name):
        return model(encoders, late, num_classes, None, **dict(options or {}))


def fusion_names() -> tuple[str, ...]:
    """Return the names of all fusions: those of `FUSIONS` and of `MID_FUSIONS`."""
    return tuple(sorted((*FUSIONS, *MID_FUSIONS)))


@contextmanager
def drawing(*key: object) -> Iterator[None]:
    """Draw initial weights from the random stream of a key, on the CPU to be equal on every machine."""
    with seeded_rng(derive_seed(*key)), torch.device("cpu"):
        yield


def describe(model: nn.Module | Mapping[str, str], fusion: str = "concat") -> str:
    """Return a model in one line: `concat(audio=mlp, accelerometer=mlp)`.

    For a model that is not built yet, give the result of `encoder_names` and the name of the fusion.
    """
    if isinstance(model, Mapping):
        return f"{fusion}({', '.join(f'{m}={name}' for m, name in model.items())})"
    if not isinstance(model, MultimodalModel):
        return type(model).__name__
    fusion = _name_of(model.fusion)
    if isinstance(model, LockstepModel):
        # The default late fusion is not part of the name, as for a model that is not built yet.
        fusion = model.name if fusion == model.late[0] else f"{model.name}+{fusion}"
    return describe({m: _name_of(encoder) for m, encoder in model.encoders.items()}, fusion)


def available_models() -> dict[str, dict[str, str]]:
    """Return all encoders and fusions: name to `role`, `kinds`, `default_for`, `why` and `description`.

    The role is `encoder` or `fusion`; `default_for` are the samples for which `auto` chooses an encoder.
    """
    found = {}
    for name, encoder in ENCODERS.items():
        chosen_for = [d for d in (*DEFAULT_ENCODERS.values(), ONE_FRAME) if d.encoder == name]
        found[name] = _facts("encoder", encoder, encoder.kinds, chosen_for)
    fusions: dict[str, type[nn.Module]] = {**FUSIONS, **MID_FUSIONS}
    return found | {name: _facts("fusion", fusions[name]) for name in fusion_names()}


def _facts(
    role: str, cls: type[nn.Module], kinds: Sequence[str] = (), chosen: Sequence[DefaultEncoder] = ()
) -> dict[str, str]:
    facts = {"role": role, "kinds": ", ".join(kinds), "default_for": ", ".join(d.samples for d in chosen)}
    facts["why"] = "; ".join(d.why for d in chosen)
    return facts | {"description": (cls.__doc__ or "").strip().partition("\n")[0]}


def _name_of(module: nn.Module) -> str:
    name = getattr(module, "name", None)
    return name if isinstance(name, str) and name else type(module).__name__


def _require_known(modalities: Mapping[str, object] | Sequence[str], shapes: Shapes, argument: str) -> None:
    if unknown := [m for m in modalities if m not in shapes]:
        raise UsageError(
            f"{argument!r} names the unknown modality {listed(unknown)}; the data have {listed(shapes)}."
        )
