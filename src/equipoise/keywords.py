"""The keyword options of functions by name and type, for editors and type checkers.

Not edited by hand: `make keywords` writes this file from `Settings`, `Budget`, `DiagnosisOptions` and
`RelearnOptions`. Their docstrings say what each option means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class FitKeywords(TypedDict, total=False):
    """Fields of `Settings` and `Budget` that `fit` does not list itself."""

    split_seed: int | Literal["run"]
    model: str
    encoder: str | Mapping[str, str]
    encoder_options: Mapping[str, Mapping[str, Any]]
    fusion: str
    fusion_options: Mapping[str, Any]
    recipe: str
    device: str
    threads: int | None
    compile: str | None
    num_workers: int
    diagnose_every: int | None
    trace: bool
    checkpoint_every: int
    allow_leaks: bool
    modalities: list[str] | tuple[str, ...] | None
    logger: str | list[str] | tuple[str, ...] | None
    batch_size: int
    optimizer: str
    lr: float | None
    momentum: float
    weight_decay: float
    schedule: str
    lr_step: int
    lr_gamma: float
    warmup_epochs: int
    clip_norm: float | None
    precision: str
    select: str
    augment: str
    augment_options: Mapping[str, Any]


class CompareKeywords(FitKeywords, total=False):
    """Fields of `Settings` and `Budget` that all runs of a comparison or tuning share."""

    epochs: int


class DiagnosisKeywords(TypedDict, total=False):
    """Fields of `DiagnosisOptions`."""

    metric: str
    scaler: str
    assign: str
    folds: int
    matched_size: bool
    repeats: int
    n_clusters: int | None
    n_init: int
    kmeans_seed: int
    max_iter: int
    backend: str
    max_samples: int | None
    pca: int | None
    chance_correct: bool
    sign: str
    min_gap: float | str
    bootstrap: int
    bins: int
    missing_classes: str


class RelearnKeywords(DiagnosisKeywords, total=False):
    """Fields of `RelearnOptions` and `DiagnosisOptions`."""

    strength: str
    max_alpha: float
    allocation: str
    sharpness: float
    only: Sequence[str] | None
    target: str | Mapping[str, Mapping[str, Tensor]]
    ema_decay: float
    redraw_seed: int
    redraw_with: Mapping[str, Callable[[], Module]] | None
    parameters: str | Mapping[str, str]
    layer_strength: Mapping[str, float] | None
    layer_decay: float
    leave_alone: bool | None
    norm_stats: str
    optimizer_state: str
    head_policy: str
    head_refit_steps: int
    rewarm_steps: int
    ema_policy: str
