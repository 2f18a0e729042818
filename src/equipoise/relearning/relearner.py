"""Diagnosing & Re-learning (Wei, Li, Feng, Hu, ECCV 2024, arXiv 2407.09705) for any training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, Unpack

from torch import Tensor, nn

from equipoise.diagnosis.features.reading import BatchReader
from equipoise.diagnosis.state import Diagnosis
from equipoise.distributed import reshard, share_values, whole_state
from equipoise.keywords import RelearnKeywords
from equipoise.pooling import Pool
from equipoise.relearning.aftermath import Aftermath, frozen_statistics
from equipoise.relearning.blend import soft_reinitialize
from equipoise.relearning.optimizer_state import Optimizers
from equipoise.relearning.options import split_options
from equipoise.relearning.planner import Planner
from equipoise.relearning.schedule import RelearningSchedule
from equipoise.relearning.selection import select_buffers
from equipoise.relearning.strength import PlannedRelearning, layer_strengths
from equipoise.relearning.targets import initial_targets, redrawn, update_average
from equipoise.tracking.outlets import Logger
from equipoise.tracking.relearnings import RelearnLog
from equipoise.types import UsageError, warn


class DiagnoseRelearn(Planner):
    """Diagnosing & Re-learning in three lines of any training loop.

    Every few epochs the features of each encoder are clustered, on training and on validation data; with
    purities `P_T` and `P_V`, the encoder is pulled toward its initial weights:
    `theta <- (1 - alpha) * theta + alpha * theta_0`, `alpha = tanh(lam * |P_T - P_V|)`.

    Construct it before training: it copies the initial weights of the encoders.

    In distributed training every process constructs it and calls `step`: each reads its share of the samples
    (`DistributedSampler`), the diagnosis covers all, and encoders end with the weights of the first process.

    Args:
        encoders: modality name to encoder module. One module under several names is blended once, with the
            mean of their strengths.
        every: distance between re-learnings in epochs; with `count` they follow the 0-based epochs
            `every, 2 * every, ...` (paper: 20 and 3).
        count: number of re-learnings.
        lam: the paper's `lambda`, for all modalities or by name.
        epochs: explicit epochs in place of `every` and `count`.
        preset: `paper`, which warns of few validation samples per class, or `robust`, a steadier estimate by
            which an encoder is left alone unless the interval of its gap lies above zero.
        optimizer: one, or all that hold the encoders' parameters; needed by `optimizer_state` other than
            `keep`, by `rewarm_steps` and `head_refit_steps`.
        ema: averaged copies of the model that follow a re-learning, such as an `AveragedModel`; see
            `RelearnOptions.ema_policy`. Copies that are not given keep their encoders.
        pool: from an encoder's output to `[B, d]`, for all encoders or by name.
        head: fusion and head, needed by `head_policy` other than `keep`.
        heads: modality to its own classifier of the pooled features, for `metric="auxiliary-head"`.
        inputs_of, target_of, forward: how batches are read, see `BatchReader`.
        log: loggers of Lightning or Fabric, which get scores, gaps, strengths and pictures by epoch.
        **options: fields of `RelearnOptions` and `DiagnosisOptions`. Without a `metric`, targets that are
            numbers are measured by `ridge-r2` and labels `[N, C]` by `linear-map`, both cross-fitted.

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
        heads: Mapping[str, nn.Module] | None = None,
        inputs_of: Callable[[Any], Any] | None = None,
        target_of: Callable[[Any], Tensor] | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        log: Logger | Sequence[Logger] | None = None,
        **options: Unpack[RelearnKeywords],
    ) -> None:
        self.schedule = RelearningSchedule(every, count, epochs)
        super().__init__(
            encoders,
            lam,
            *split_options(preset, options, signature(DiagnoseRelearn).parameters),
            named=options,
            pool=pool,
            heads=heads,
            reader=BatchReader(inputs_of, target_of, forward),
        )
        self.history: list[dict[str, Any]] = []
        self._log = RelearnLog(log)
        copies = [ema] if isinstance(ema, nn.Module) else list(ema or ())
        self._aftermath = Aftermath(self.choices, self.reader, optimizer, head, copies)
        self._targets = initial_targets(self._inside, self.choices, self._selected())

    def due(self, epoch: int) -> bool:
        """Return whether a re-learning follows this epoch (0-based)."""
        return self.schedule.due(epoch)

    def check(self, total_epochs: int, lr: Sequence[float] | None = None) -> list[str]:
        """Warn, before training, of re-learnings that never happen, come too late, or meet a tiny rate.

        `lr` is the learning rate of each epoch, where it is known. The warnings are issued as
        `EquipoiseWarning`, and returned.
        """
        problems = self.schedule.problems(total_epochs, None if self._aftermath.rewarm else lr)
        for problem in problems:
            warn(problem)
        return problems

    def step(
        self, epoch: int, model: nn.Module, train_loader: Iterable[Any], val_loader: Iterable[Any]
    ) -> Diagnosis:
        """Diagnose every modality and re-learn its encoder in place.

        Only forward passes are made, in evaluation mode and without gradients. Modes, gradients, the global
        random states and those of the loaders are restored. Samples of class -100, which the cross-entropy of
        PyTorch ignores, are left out.

        Args:
            epoch: the epoch that has ended (0-based), for the history.
            model: the whole model; the encoders must be inside.
            train_loader: training batches, best without augmentation.
            val_loader: validation batches; never those of the test split.

        Returns:
            The diagnosis, with the strength that was `applied` to each modality.

        Raises:
            ModelError: an encoder is no part of the model, or is not called exactly once in a pass.
            DataError: a loader is empty, a class is missing, features are not finite, or labels one-hot.
        """
        planned = self.plan(model, train_loader, val_loader)
        self.carry_out(planned, epoch, model, train_loader)
        return planned.diagnosis

    def carry_out(
        self, planned: PlannedRelearning, epoch: int, model: nn.Module, train_loader: Iterable[Any]
    ) -> None:
        """Take the second half of `step`: `theta_m <- (1 - alpha_m) * theta_m + alpha_m * theta_m^0`."""
        alphas = planned.strengths
        if any(alphas.values()):
            reshard(model)
            relearnt = {encoder: names[0] for encoder, names in self._sharing.items() if alphas[names[0]]}
            blended: dict[nn.Parameter, float] = {}
            for encoder, modality in relearnt.items():
                # A parameter that two encoders share is blended with the first of them only.
                own = dict(encoder.named_parameters())
                chosen = [name for name in planned.selected[modality] if own[name] not in blended]
                blended |= self._blend(modality, alphas[modality], chosen, planned.selected[modality], model)
            mean = sum(alphas.values()) / len(alphas)
            self._aftermath.settle(blended, relearnt, mean, model, train_loader)
        why = {"left_alone": planned.left_alone} if planned.left_alone else {}
        self.history.append({"epoch": epoch, "modalities": planned.diagnosis.to_dict(), **why})
        self._log.relearnt(epoch, planned.diagnosis)

    def _blend(
        self, modality: str, alpha: float, chosen: Sequence[str], selected: Sequence[str], model: nn.Module
    ) -> dict[nn.Parameter, float]:
        """Blend an encoder and its averaged copies; return the parameters with their strengths."""
        choices, encoder, target = self.choices, self._inside[modality], self._targets[modality]
        if choices.target == "redraw":
            target = redrawn(modality, encoder, choices, selected, len(self.history))
        buffers = choices.norm_stats if choices.norm_stats in ("blend", "reset") else "keep"
        kept = () if buffers == "keep" else frozen_statistics(encoder, model)
        moved = (name for name in select_buffers(encoder, self._selections[modality]) if name not in kept)
        names = [*chosen, *moved]
        strengths = layer_strengths(alpha, names, encoder, selected, choices)
        soft_reinitialize(encoder, target, strengths, parameters=chosen, buffers=buffers)
        # Also where processes started from different weights, or drew different ones.
        share_values([*encoder.parameters(), *encoder.buffers()])
        for copy in self._aftermath.copies_of(encoder, model):
            if choices.ema_policy == "copy":
                soft_reinitialize(copy, encoder.state_dict(), 1.0, parameters=chosen, buffers="reset")
            else:
                soft_reinitialize(copy, target, strengths, parameters=chosen, buffers=buffers)
            share_values([*copy.parameters(), *copy.buffers()])
        return {encoder.get_parameter(name): strengths[name] for name in chosen}

    def track(self) -> None:
        """Update the moving averages of `target="ema"`; call it at the end of every epoch."""
        if self.choices.target == "ema":
            for name, encoder in self._inside.items():
                update_average(self._targets[name], encoder, self.choices.ema_decay)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: the targets, the history, and the progress of the re-warming.

        Where weights are sharded by `fully_shard`, all processes call it, and each gets whole targets.
        """
        return {
            "targets": {name: whole_state(target) for name, target in self._targets.items()},
            "head_target": whole_state(self._aftermath.head_target),
            "history": list(self.history),
            "samples_forwarded": self.samples_forwarded,
            "rewarmed": [rewarm.done for rewarm in self._aftermath.rewarm],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of an interrupted training.

        Raises:
            UsageError: the state has other modalities.
        """
        if set(state["targets"]) != set(self.encoders):
            found, expected = (", ".join(names) for names in (state["targets"], self.encoders))
            raise UsageError(f"the state has the modalities {found}; expected {expected}.")
        held = state["targets"].items()  # copied, as moving averages are updated in place
        self._targets = {m: {key: value.clone() for key, value in own.items()} for m, own in held}
        self._aftermath.head_target = dict(state["head_target"])
        self.history = list(state["history"])
        self.samples_forwarded = int(state["samples_forwarded"])
        for rewarm, done in zip(self._aftermath.rewarm, state["rewarmed"], strict=False):
            rewarm.done = int(done)
