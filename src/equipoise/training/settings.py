"""Everything that decides a training run. The command line reads its options from these two dataclasses.

The sections `Attributes` are the help texts of the options. Nothing heavy is imported before a value is
checked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from equipoise.tasks import CLASSIFICATION, FIGURES, Task
from equipoise.training.recipe import AUTO, budget_options
from equipoise.typed_options import check_types, plain
from equipoise.types import UsageError, check_known

if TYPE_CHECKING:
    from equipoise.data.format.augment import AugmentOptions

DEFAULT_LR: Final = {"sgd": 0.1, "adamw": 1e-3}
SCHEDULES: Final = ("constant", "cosine", "step")
SCALED: Final = "16-mixed"
PRECISIONS: Final = ("32-true", "bf16-mixed", SCALED, AUTO)
DEVICES: Final = ("auto", "cpu", "cuda", "mps")
COMPILE_MODES: Final = ("default", "reduce-overhead", "max-autotune")
SELECTORS: Final = (*FIGURES, "loss")
USUAL_SELECTOR: Final = CLASSIFICATION.main
LOGGERS: Final = ("tensorboard", "wandb", "mlflow", "csv")
ENCODER_FILES: Final = ("weights", "folder", "config")
"""Options of encoders that name a file or folder."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a comparison holds equal between methods.

    In the settings of a run, options that are not given are those of the recipe (see `Settings`).

    Attributes:
        epochs: passes over the training split. Default: the recipe's.
        batch_size: samples per step. Default: the recipe's.
        optimizer: `sgd` (with momentum) or `adamw`. Default: the recipe's.
        lr: peak learning rate. Default: the recipe's; with another optimiser than its own, 0.05 for sgd and
            0.001 for adamw.
        momentum: momentum of sgd. Default: the recipe's.
        weight_decay: L2 penalty of sgd, decoupled decay of adamw. Default: the recipe's.
        schedule: `constant` (as in the paper), `cosine` (to zero), or `step` (times `lr_gamma` after every
            `lr_step` epochs). Default: the recipe's.
        lr_step: epochs between the drops of `step`.
        lr_gamma: factor of a drop.
        warmup_epochs: epochs over which the learning rate rises linearly. Default: the recipe's.
        clip_norm: largest norm of the gradient; `inf` does not clip it. Default: the recipe's, if it has one.
        precision: `32-true`, `bf16-mixed`, `16-mixed` (loss scaling, on a GPU), or `auto`: bf16 where some
            steps of the joint model, before the first run, are clearly faster and have the same gradients.
        select: validation figure that picks the epoch whose weights are kept: one of the task's (`accuracy`,
            `macro_f1`, `r2`...) or `loss`. `accuracy` also stands for the main figure of other tasks.
        augment: `none` or `standard`, which changes frames, flow and spectrograms of training batches at
            random in each epoch, in the same way for every method. Default: the recipe's.
        augment_options: options of the augmentation; on the command line OPTION=VALUE, such as
            `crop_area=0.8`.
    """

    epochs: int = 60
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-3
    schedule: str = "constant"
    lr_step: int = 30
    lr_gamma: float = 0.1
    warmup_epochs: int = 0
    clip_norm: float | None = None
    precision: str = "32-true"
    select: str = "accuracy"
    augment: str = "none"
    augment_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from equipoise.data.format.augment import AUGMENTATIONS, AugmentOptions

        choices = {"optimizer": DEFAULT_LR, "schedule": SCHEDULES, "precision": PRECISIONS}
        for option, known in {**choices, "select": SELECTORS, "augment": AUGMENTATIONS}.items():
            check_known(option, [str(getattr(self, option))], known)
        object.__setattr__(self, "lr", DEFAULT_LR[self.optimizer] if self.lr is None else self.lr)
        for option in ("epochs", "batch_size", "lr_step"):
            if getattr(self, option) < 1:
                raise UsageError(f"{option} is {getattr(self, option)}; expected at least 1.")
        for option in ("lr", "momentum", "weight_decay", "lr_gamma", "warmup_epochs"):
            value = getattr(self, option)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{option} is {value}; expected a finite number of at least 0.")
        AugmentOptions.of(self.augment_options)
        if self.augment == "none" and self.augment_options:
            raise UsageError("augment_options are given and augment is 'none'; expected augment='standard'.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UsageError(f"clip_norm is {self.clip_norm}; expected a number above 0.")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise UsageError(
                f"warmup_epochs is {self.warmup_epochs} of {self.epochs} epochs; expected fewer than epochs."
            )

    def selector(self, task: Task) -> str:
        """Return the figure that picks the epoch.

        Raises:
            UsageError: the task has no such figure.
        """
        if self.select in task.figures or self.select == "loss":
            return self.select
        if self.select == USUAL_SELECTOR:
            return task.main
        raise UsageError(
            f"select is {self.select!r}, and {task.name} has no such figure; expected one of "
            f"{', '.join((*task.figures, 'loss'))}."
        )

    def augmentation(self) -> AugmentOptions | None:
        """Return how training batches are changed, or None."""
        from equipoise.data.format.augment import AugmentOptions

        return None if self.augment == "none" else AugmentOptions.of(self.augment_options)

    def learning_rates(self) -> list[float]:
        """Return the learning rate of each epoch."""
        assert self.lr is not None  # filled in by __post_init__
        rates = []
        for epoch in range(self.epochs):
            factor = 1.0
            if epoch < self.warmup_epochs:
                factor = (epoch + 1) / (self.warmup_epochs + 1)
            elif self.schedule == "cosine":
                done = (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)
                factor = (1 + math.cos(math.pi * done)) / 2
            elif self.schedule == "step":
                factor = self.lr_gamma ** (epoch // self.lr_step)
            rates.append(self.lr * factor)
        return rates


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One training run.

    Attributes:
        data: name of a dataset (`equipoise list datasets`), or folder of a prepared one.
        method: name of the method (`equipoise list methods`); `unimodal:NAME` for one modality alone, `a+b`
            for two methods in one run.
        modalities: those of the data that are used, by default all. The others are left out as if the data
            had been written without them.
        method_options: options of the method; on the command line OPTION=VALUE, and METHOD.OPTION=VALUE for a
            combination.
        seed: decides initial weights and the order of batches.
        split_seed: draws the splits of data that come without; `run` takes the run's seed.
        model: `auto` (encoders by modality and a fusion), or `module:attribute`, a model class or factory of
            yours.
        encoder: encoder of all modalities, or of each by name (`equipoise list models`); `auto` chooses by
            the kind of modality. On the command line NAME, or MODALITY=NAME for each.
        encoder_options: options of the encoders by modality; on the command line MODALITY.OPTION=VALUE.
        fusion: how features become logits (`equipoise list models`).
        fusion_options: options of the fusion; on the command line OPTION=VALUE.
        recipe: the defaults of the options of training: `auto` takes those of the encoders,
            `equipoise list recipes` shows all. `paper` has those of the D&R paper.
        budget: what a comparison holds equal.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: CPU threads of a run; by default one for a small model, else torch's choice.
        compile: mode in which `torch.compile` compiles the encoders' forward pass, for large models on a GPU:
            `default`, `reduce-overhead` (CUDA graphs), or `max-autotune`. Results agree to rounding.
        num_workers: processes that read data.
        diagnose_every: epochs between diagnoses of all samples, which change nothing; 0 for none. By default
            three to ten in a run (about ten with a trace), about 5 % of its time, on up to 2000 samples of a
            split; the last one is on all.
        trace: record how well train, validation and test features separate over the epochs and around each
            re-learning. The weights are kept on disk until training has ended, then measured and removed.
        checkpoint_every: epochs between checkpoints.
        allow_leaks: continue where samples, groups or contents occur in two splits.
        logger: trackers that get losses, figures, diagnoses and pictures of features: `tensorboard`, `wandb`,
            `mlflow`, `csv`, or several. Default: none.
    """

    data: str
    method: str = "joint"
    method_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    split_seed: int | Literal["run"] = 0
    model: str = "auto"
    encoder: str | Mapping[str, str] = "auto"
    encoder_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fusion: str = "concat"
    fusion_options: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = field(default=AUTO, compare=False)  # its values decide, not its name
    budget: Budget = field(default_factory=Budget)
    device: str = "auto"
    threads: int | None = None
    compile: str | None = None
    num_workers: int = 0
    diagnose_every: int | None = None
    trace: bool = False
    checkpoint_every: int = 5
    allow_leaks: bool = False
    modalities: list[str] | tuple[str, ...] | None = None
    logger: str | list[str] | tuple[str, ...] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        named = [self.logger] if isinstance(self.logger, str) else self.logger or []
        check_known("logger", named, LOGGERS)
        object.__setattr__(self, "logger", list(dict.fromkeys(named)) or None)
        check_known("device", [self.device], DEVICES)
        check_known("compile", [self.compile or COMPILE_MODES[0]], COMPILE_MODES)
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed is {self.seed}; expected a whole number from 0 to 2^63 - 1.")
        if self.num_workers < 0 or self.checkpoint_every < 1:
            raise UsageError("expected num_workers of at least 0 and checkpoint_every of at least 1.")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads is {self.threads}; expected at least 1.")
        if self.diagnose_every is not None and self.diagnose_every < 0:
            raise UsageError(f"diagnose_every is {self.diagnose_every}; expected 0 (never) or more.")
        if self.trace and self.diagnose_every == 0:
            said = "a trace follows the diagnoses in training, and diagnose_every is 0 (none)"
            raise UsageError(f"{said}; expected at least 1, or no trace.")

    @classmethod
    def from_options(cls, data: str | os.PathLike[str], **options: Any) -> Settings:
        """Build settings from a flat set of options, those of the budget among them.

        The recipe gives those of the budget that are left out; the result holds its name.

        Raises:
            UnknownNameError: an option, the recipe or the dataset does not exist.
            UsageError: an option is invalid.
            EquipoiseError: a recipe is to be chosen for the data, and they cannot be opened.
        """
        from equipoise.data.datasets import DATASETS

        options, data = plain(options), os.fspath(data) if isinstance(data, os.PathLike) else data
        own, shared = ({option.name for option in fields(kind)} - {"budget"} for kind in (cls, Budget))
        check_known("option", options, own | shared)
        check_types(cls, {"data": data, **options})
        check_types(Budget, options)
        if data not in DATASETS and (Path(data) / "dataset.json").is_file():
            data = str(Path(data).resolve())  # a record must not depend on the current folder
        if isinstance(options.get("encoder_options"), Mapping):
            options["encoder_options"] = _absolute_paths(options["encoder_options"])
        chosen = {key: value for key, value in options.items() if key in own}
        looked_at = {key: chosen[key] for key in ("encoder", "modalities") if key in chosen}
        given = {key: value for key, value in options.items() if key in shared}
        recipe, budget = budget_options(chosen.get("recipe", AUTO), data, given, **looked_at)
        return cls(data=data, budget=Budget(**budget), **chosen | {"recipe": recipe})

    @property
    def splitting_seed(self) -> int:
        """The seed that draws the splits."""
        return self.seed if self.split_seed == "run" else self.split_seed

    def with_method(self, method: str, options: Mapping[str, Any], seed: int) -> Settings:
        """Return the same run under another method and seed."""
        return replace(self, method=method, method_options=dict(options), seed=seed)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings flat, as plain values, under the names of the options.

        The recipe is not among them: the values that it gave are.
        """
        flat = asdict(self)
        del flat["recipe"]
        budget: dict[str, Any] = flat.pop("budget")
        return flat | budget


def data_name(data: str | os.PathLike[str]) -> str:
    """Return the name or path of a dataset as a text, or raise UsageError."""
    if not isinstance(data, str | os.PathLike):
        raise UsageError(
            f"data is a {type(data).__name__}; expected the name of a dataset, or the folder of one that "
            "equipoise.write_dataset made of arrays."
        )
    return str(os.fspath(data))


SETTING_NAMES: Final = {option.name for kind in (Settings, Budget) for option in fields(kind)} - {"budget"}


def _absolute_paths(encoder_options: Mapping[str, Any]) -> dict[str, Any]:
    """Make the files that encoders start from independent of the current folder."""
    return {
        modality: {
            name: str(Path(value).resolve())
            if name in ENCODER_FILES and isinstance(value, str) and Path(value).exists()
            else value
            for name, value in options.items()
        }
        if isinstance(options, Mapping)
        else options
        for modality, options in encoder_options.items()
    }
