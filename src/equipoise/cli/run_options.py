"""Options that every training command has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token


def whole_number(_: object, tokens: Sequence[Token]) -> int:
    """Read a whole number; 1.5 is none, and is not cut to 1 in silence."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, found {text!r}") from None


Words = Annotated[list[str], Parameter(consume_multiple=True)]
Whole = Annotated[int, Parameter(converter=whole_number)]


@Parameter(name="*")
@dataclass(kw_only=True)
class RunOptions:
    """Options of a training run.

    Attributes:
        data: name of a dataset (`equipoise list datasets`), or folder of a prepared one.
        epochs: passes over the training split.
        batch_size: samples a step.
        optimizer: `sgd` or `adamw`.
        lr: peak learning rate; by default 0.05 for sgd, 0.001 for adamw.
        momentum: momentum of sgd.
        weight_decay: weight decay.
        schedule: of the learning rate: `constant`, `cosine` or `step`.
        lr_step: epochs between the drops of `step`.
        lr_gamma: factor of a drop.
        warmup_epochs: epochs over which the learning rate rises.
        clip_norm: largest norm of the gradient.
        precision: `32-true` or `bf16-mixed`.
        select: validation figure that picks the epoch: `accuracy`, `macro_f1` or `loss`.
        augment: `none` or `standard`: change frames, flow and spectrograms of training batches.
        augment_option: options of the augmentation, as OPTION=VALUE: `crop_area=0.8 flip=0`.
        model: `auto`, or `module:attribute`, a model class or factory of yours.
        encoder: encoder of all modalities, or MODALITY=NAME for each (`equipoise list models`).
        encoder_option: options of encoders, as MODALITY.OPTION=VALUE.
        fusion: how features become logits (`equipoise list models`).
        fusion_option: options of the fusion, as OPTION=VALUE.
        split_seed: draws the splits of data that come without; `run` draws anew for each seed.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: CPU threads of a run; by default one for a small model.
        num_workers: processes that read data.
        diagnose_every: epochs between diagnoses that only look; 0 none, by default about ten a run.
        trace: record how well train, validation and test features separate over the epochs. The weights of
            these moments are kept on disk, and measured and removed once training has ended.
        checkpoint_every: epochs between checkpoints.
        allow_leaks: go on where samples, groups or contents stand in two splits.
    """

    data: str = "htad"
    epochs: Whole = 60
    batch_size: Whole = 64
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "constant"
    lr_step: Whole = 30
    lr_gamma: float = 0.1
    warmup_epochs: Whole = 0
    clip_norm: float | None = None
    precision: str = "32-true"
    select: str = "accuracy"
    augment: str = "none"
    augment_option: Words | None = None
    model: str = "auto"
    encoder: Words | None = None
    encoder_option: Words | None = None
    fusion: str = "concat"
    fusion_option: Words | None = None
    split_seed: int | Literal["run"] = 0
    device: str = "auto"
    threads: Whole | None = None
    num_workers: Whole = 0
    diagnose_every: Whole | None = None
    trace: bool = False
    checkpoint_every: Whole = 5
    allow_leaks: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the options by name."""
        return asdict(self)
