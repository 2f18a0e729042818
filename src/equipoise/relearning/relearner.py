"""Diagnosing & Re-learning for any training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from equipoise.diagnosis import Diagnosis, LearningState, collect_features, diagnose_with
from equipoise.diagnosis.diagnose import kind_of, usual_options
from equipoise.diagnosis.features.encoder_outputs import Pool
from equipoise.diagnosis.features.reading import BatchReader
from equipoise.distributed import agreed, buffers_of_first, refuse_flattened, whole
from equipoise.relearning.blending import Blending
from equipoise.relearning.optimizer_state import Optimizers
from equipoise.relearning.options import split_options
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.types import UsageError, warn


class DiagnoseRelearn:
    """Diagnosing & Re-learning (Wei, Li, Feng, Hu, ECCV 2024, arXiv 2407.09705) in three lines of any loop.

    Every few epochs the features of each encoder are clustered, on training and on validation data; with
    purities `P_T` and `P_V`, the encoder is pulled toward its initial weights:
    `theta <- (1 - alpha) * theta + alpha * theta_0`, `alpha = tanh(lam * |P_T - P_V|)`.

    Construct it before training: it remembers the encoders as they are then.

    In a distributed training every process constructs it and calls `step`: each reads its share of the
    samples (`DistributedSampler`), the diagnosis is that of all of them, and all encoders end with the
    weights of the first process.

    Args:
        encoders: modality name to encoder module. One module under several names is blended once, with the
            mean of their strengths.
        every: distance between re-learnings in epochs; with `count` they follow the 0-based epochs
            `every, 2 * every, ...` (paper: 20 and 3).
        count: number of re-learnings.
        lam: the paper's `lambda`, for all modalities or by name.
        epochs: explicit epochs in place of `every` and `count`.
        preset: `paper`, or `robust` (a steadier estimate of the gap, see `DiagnosisOptions`; an encoder
            whose interval of the gap includes zero is left alone, see `RelearnOptions`).
        optimizer: needed by `optimizer_state` other than `keep`, by `rewarm_steps` and `head_refit_steps`;
            one, or all those that hold the encoders' parameters.
        ema: averaged copies of the model that are to follow a re-learning, such as an `AveragedModel`; see
            `RelearnOptions.ema_policy`. A copy that is not named keeps the encoders it has.
        pool: from an encoder's output to `[B, d]`, for all encoders or by name.
        head: fusion and head, needed by `head_policy` other than `keep`.
        inputs_of, target_of, forward: how batches are read, see `BatchReader`.
        **options: fields of `RelearnOptions` and `DiagnosisOptions`. Where no `metric` is named, targets that
            are numbers are measured by `ridge-r2` and labels `[N, C]` by `linear-map`, both cross-fitted.

    Attributes:
        history: one entry for each re-learning: epoch, and by modality scores, gap and strength; where
            encoders were left alone, why.

    Raises:
        UsageError: an option does not exist, makes no sense, or needs another one.
        ModelError: a `target` or a selection of parameters does not fit its encoder.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        every: int = 20,
        count: int = 3,
        lam: float | Mapping[str, float] = 3.0,
        *,
        epochs: Sequence[int] | None = None,
        preset: str = "paper",
        optimizer: Optimizers | None = None,
        ema: nn.Module | Sequence[nn.Module] | None = None,
        pool: Pool | Mapping[str, Pool] | None = None,
        head: nn.Module | None = None,
        inputs_of: Callable[[Any], Any] | None = None,
        target_of: Callable[[Any], Tensor] | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        **options: Any,
    ) -> None:
        if not encoders:
            raise UsageError("no encoder was given; expected a mapping from modality name to module.")
        for name, module in encoders.items():
            if not isinstance(module, nn.Module):
                raise UsageError(f"the handle of {name!r} is a {type(module).__name__}; expected a module.")
        self.encoders = dict(encoders)
        self.schedule = RelearningSchedule(every, count, tuple(epochs) if epochs is not None else None)
        self.choices, self.diagnosis = split_options(preset, options)
        self._named = frozenset(options)
        self.lam = self.choices.lam_by_modality(lam, self.encoders)
        self.pool, self.reader = pool, BatchReader(inputs_of, target_of, forward)
        self.history: list[dict[str, Any]] = []
        self.samples_forwarded = 0
        copies = [ema] if isinstance(ema, nn.Module) else list(ema or ())
        self._blending = Blending(self.encoders, self.choices, self.reader, optimizer, head, copies)

    def due(self, epoch: int) -> bool:
        """Tell whether a re-learning follows this epoch (0-based)."""
        return self.schedule.due(epoch)

    def check(self, total_epochs: int, lr: Sequence[float] | None = None) -> list[str]:
        """Warn of re-learnings that never fire, meet a tiny learning rate, or come too late; before training.

        Args:
            total_epochs: length of the training.
            lr: learning rate of each epoch, where it is known.

        Returns:
            The warnings, also issued as `EquipoiseWarning`.
        """
        problems = self.schedule.problems(total_epochs, None if self._blending.rewarm else lr)
        for problem in problems:
            warn(problem)
        return problems

    def step(
        self, epoch: int, model: nn.Module, train_loader: Iterable[Any], val_loader: Iterable[Any]
    ) -> Diagnosis:
        """Diagnose every modality and re-learn its encoder in place.

        Only forward passes are made, in evaluation mode and without gradients; modes, gradients, the global
        random states and those of the loaders are as before.

        Args:
            epoch: the epoch that has ended (0-based), for the history.
            model: the whole model; the encoders must be inside.
            train_loader: training batches, best without augmentation.
            val_loader: validation batches; never those of the test split.

        Returns:
            The diagnosis, with the strength that was `applied` to each modality.

        Raises:
            ModelError: an encoder is no part of the model, or is not called exactly once in a pass.
            DataError: a loader is empty, a class is missing, or features are not finite.
        """
        planned = self.plan(model, train_loader, val_loader)
        self.carry_out(planned, epoch, model, train_loader)
        return planned

    def plan(self, model: nn.Module, train_loader: Iterable[Any], val_loader: Iterable[Any]) -> Diagnosis:
        """Take the first half of `step`: diagnose, and say by which strengths `carry_out` will re-learn."""
        refuse_flattened(model, "the model")
        with buffers_of_first(model):
            diagnosis = self.diagnose(model, train_loader, val_loader)
        strengths = agreed(self._strengths(diagnosis))
        return Diagnosis(
            {name: replace(state, applied=strengths[name]) for name, state in diagnosis.items()},
            diagnosis.options,
        )

    def carry_out(
        self, planned: Diagnosis, epoch: int, model: nn.Module, train_loader: Iterable[Any]
    ) -> None:
        """Take the second half of `step`: re-learn each encoder by the strength that `plan` has given it."""
        strengths = _applied(planned)
        left_alone = self.left_alone(planned)
        if any(strength > 0 for strength in strengths.values()):
            self._blending.carry_out(strengths, len(self.history), model, train_loader)
        why = {"left_alone": left_alone} if left_alone else {}
        self.history.append({"epoch": epoch, "modalities": planned.to_dict(), **why})

    def layers(self, planned: Diagnosis) -> dict[str, dict[str, float]]:
        """Return modality to parameter to planned strength; empty where layers do not differ."""
        return self._blending.layers(_applied(planned))

    def left_alone(self, planned: Diagnosis) -> dict[str, str]:
        """Return modality to the reason why its encoder is left as it is; the others are re-learnt."""
        return {
            name: reason
            for name, state in planned.items()
            if not state.applied and (reason := self._reason(name, state))
        }

    def diagnose(self, model: nn.Module, train_loader: Iterable[Any], val_loader: Iterable[Any]) -> Diagnosis:
        """Measure the learning state of every modality and change nothing; see `step`."""
        train, val = (
            collect_features(self.encoders, model, loader, reader=self.reader, pool=self.pool)
            for loader in (train_loader, val_loader)
        )
        self.samples_forwarded += len(train.target) + len(val.target)
        options = replace(self.diagnosis, **usual_options(kind_of(train.target, val.target), self._named))
        return diagnose_with(options, train.features, train.target, val.features, val.target)

    def track(self) -> None:
        """Update the moving averages of `target="ema"`; call it at the end of every epoch."""
        self._blending.track()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: the targets, the history, and the re-warming in progress.

        Where weights are sharded by `fully_shard`, all processes call it, and each gets whole targets.
        """
        return {
            "targets": {name: _whole(target) for name, target in self._blending.targets.items()},
            "head_target": _whole(self._blending.head_target),
            "history": list(self.history),
            "samples_forwarded": self.samples_forwarded,
            "rewarmed": [rewarm.done for rewarm in self._blending.rewarm],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of an interrupted training.

        Raises:
            UsageError: it is the state of other modalities.
        """
        if set(state["targets"]) != set(self.encoders):
            raise UsageError(
                f"the state is one of the modalities {', '.join(state['targets'])}; expected "
                f"{', '.join(self.encoders)}."
            )
        # Copies, as moving averages are updated in place.
        self._blending.targets = {
            name: {key: value.clone() for key, value in target.items()}
            for name, target in state["targets"].items()
        }
        self._blending.head_target = dict(state["head_target"])
        self.history = list(state["history"])
        self.samples_forwarded = int(state["samples_forwarded"])
        for rewarm, done in zip(self._blending.rewarm, state["rewarmed"], strict=False):
            rewarm.done = int(done)

    def _strengths(self, diagnosis: Diagnosis) -> dict[str, float]:
        """Return the strength of each modality; those that share an encoder share the mean of theirs."""
        choices = self.choices
        strengths: dict[str, float] = {}
        for names in self._blending.distinct().values():
            own = [
                diagnosis[name].strength(
                    self.lam[name], kind=choices.strength, max_strength=choices.max_alpha
                )
                for name in names
            ]
            mean = sum(own) / len(own) if self._blending.selected(names[0]) else 0.0
            strengths |= dict.fromkeys(names, mean)
        return {name: strengths[name] for name in self.encoders}

    def _reason(self, name: str, state: LearningState) -> str:
        if not self._blending.selected(name):
            return f"its parameters are frozen ({self._blending.selections[name]})"
        if not state.negligible:
            return ""  # a strength of 0 was asked for
        if isinstance(self.diagnosis.min_gap, str) and state.interval is not None:
            low, high = state.interval
            return f"the interval of its gap, [{low:.3f}, {high:.3f}], includes 0"
        return f"its gap {state.gap:.3f} is below min_gap {self.diagnosis.min_gap}"


def _whole(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: whole(value) for name, value in state.items()}


def _applied(planned: Diagnosis) -> dict[str, float]:
    return {name: state.applied or 0.0 for name, state in planned.items()}
