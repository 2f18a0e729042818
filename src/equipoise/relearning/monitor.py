"""Diagnosing & Re-learning without the re-learning: measure, log and keep, and change nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, cast

from torch import Tensor, nn

from equipoise.diagnosis.features.reading import BatchReader
from equipoise.diagnosis.options import ACCURACY_LIKE, DiagnosisOptions
from equipoise.diagnosis.state import Diagnosis, LearningState
from equipoise.diagnosis.verdict.rules import OVER_TRAINED
from equipoise.diagnosis.verdict.verdict import Verdict, verdicts
from equipoise.distributed import process_rank
from equipoise.pooling import Pool
from equipoise.randomness import isolated_rng
from equipoise.relearning.figures import flat, named
from equipoise.relearning.options import DIAGNOSIS_OPTIONS, split_options
from equipoise.relearning.planner import Planner
from equipoise.tracking.outlets import Logger
from equipoise.tracking.relearnings import RelearnLog
from equipoise.types import DataError, InNotebooks, UsageError, check_known, warn

if TYPE_CHECKING:
    import pandas as pd

Log = Callable[[dict[str, float], int], object]
"""Called with numbers by name, and the epoch (0-based) after which they were measured."""

DECIDING: Final = frozenset(
    {"strength", "max_alpha", "allocation", "sharpness", "only", "parameters", "leave_alone"}
)
"""Fields of `RelearnOptions` that the strength of a re-learning depends on."""
MONITOR_OPTIONS: Final = DECIDING | DIAGNOSIS_OPTIONS
NOT_OVER_TRAINED: Final = f"not {OVER_TRAINED}"


class Monitor(Planner, InNotebooks):
    """Watch how well each modality is learnt, in any training loop, without a change to the training.

    It measures what `DiagnoseRelearn` does, and the strength that it would re-learn each encoder with.
    Weights, gradients, modes, running statistics, random states and the order of batches stay bit for bit as
    they are without it, and no hook is left behind. A look costs a pass over both loaders in evaluation mode
    and the clustering of the features; `seconds` has what the looks of a training took.

    In distributed training every process constructs it and calls `step`, as with `DiagnoseRelearn`.

    Args:
        encoders: modality name to encoder module. Any number of modalities.
        every: epochs between looks; they follow the 0-based epochs `0, every, 2 * every, ...`, of which
            `DiagnoseRelearn(every=...)` re-learns after those above 0.
        lam: the paper's `lambda`, for all modalities or by name.
        log: called as `log(numbers, epoch)` after each look, with a dict of floats named
            `equipoise/gap/MODALITY`, `equipoise/strength/MODALITY`, `equipoise/purity/MODALITY/train` and
            `.../val` (or another metric) and `equipoise/seconds`, in the first process only:
            `lambda numbers, epoch: run.log(numbers, step=epoch)`. Or a logger of Lightning or Fabric, or
            several, as in `DiagnoseRelearn`.
        preset: `robust`, by which verdicts are given, `held-out`, or `paper`, which `DiagnoseRelearn` has by
            default.
        pool: from an encoder's output to `[B, d]`, for all encoders or by name.
        heads: modality to its own classifier of the pooled features, for `metric="auxiliary-head"`.
        inputs_of, target_of, forward: how batches are read, see `BatchReader`.
        **options: fields of `DiagnosisOptions`, and those of `RelearnOptions` that a strength depends on
            (`strength`, `max_alpha`, `allocation`, `sharpness`, `only`, `parameters`, `leave_alone`). Without
            a `metric`, targets that are numbers are measured by `ridge-r2` and labels `[N, C]` by
            `linear-map`, both cross-fitted.

    Attributes:
        history: one entry for each look: `epoch`, `seconds`, `modalities`, by name the scores, gap, strength
            and `verdict` (None where the measure is no share of samples), and the `options` that differ from
            the paper's.
        last: the diagnosis of the last look; None before the first.

    Raises:
        UsageError: an option does not exist, makes no sense, or would change the training.
    """

    shown_as = "monitor"

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        every: int = 5,
        lam: float | Mapping[str, float] = 3.0,
        *,
        log: Log | Logger | Sequence[Logger] | None = None,
        preset: str = "robust",
        pool: Pool | Mapping[str, Pool] | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        inputs_of: Callable[[Any], Any] | None = None,
        target_of: Callable[[Any], Tensor] | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        **options: Any,
    ) -> None:
        check_known("option of Monitor", options, {*MONITOR_OPTIONS, *signature(Monitor).parameters})
        if not hasattr(every, "__index__") or every < 1:
            raise UsageError(f"every is {every!r}; expected a whole number of epochs, at least 1.")
        own = log if callable(log) and not isinstance(log, Logger) else None
        loggers = RelearnLog(cast("Logger", log) if own is None else None)
        super().__init__(
            encoders,
            lam,
            *split_options(preset, options),
            named=options,
            pool=pool,
            heads=heads,
            reader=BatchReader(inputs_of, target_of, forward),
        )
        self.every, self.log, self._log = int(every), own, loggers
        self.history: list[dict[str, Any]] = []
        self.last: Diagnosis | None = None

    @property
    def seconds(self) -> float:
        """What all looks took together."""
        return float(sum(entry["seconds"] for entry in self.history))

    def due(self, epoch: int) -> bool:
        """Return whether a look follows this epoch (0-based)."""
        return epoch >= 0 and epoch % self.every == 0

    def step(
        self, epoch: int, model: nn.Module, train_loader: Iterable[Any], val_loader: Iterable[Any]
    ) -> Diagnosis | None:
        """Measure every modality, log the numbers and keep them; see `DiagnoseRelearn.step`.

        Args:
            epoch: the epoch that has ended (0-based).
            model: the whole model; the encoders must be inside.
            train_loader: training batches, best without augmentation.
            val_loader: validation batches; never those of the test split.

        Returns:
            The diagnosis, with the strength that a re-learning would have as `applied`. None, with a warning,
            where features cannot be measured that could be before, as in a training that diverges.

        Raises:
            ModelError: an encoder is no part of the model, or is not called exactly once in a pass.
            DataError: in the first look, a loader is empty, a class is missing, or features are not finite.
        """
        begun = time.perf_counter()
        try:
            diagnosis = self.plan(model, train_loader, val_loader).diagnosis
        except DataError as error:
            if not self.history:
                raise
            warn(f"nothing was measured after epoch {epoch}, and the training goes on: {error}")
            return None
        seconds = time.perf_counter() - begun
        self.last = diagnosis
        found = verdicts_of(diagnosis)
        states = {
            name: {**state, "verdict": _word(found.get(name))} for name, state in diagnosis.to_dict().items()
        }
        options = diagnosis.options.departures()
        self.history.append(
            {"epoch": int(epoch), "seconds": seconds, "modalities": states, "options": options}
        )
        if self.log is not None and process_rank() == 0:
            with isolated_rng():
                self.log(named({**flat(diagnosis), "seconds": seconds}), int(epoch))
        self._log.relearnt(int(epoch), diagnosis)
        return diagnosis

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """The verdict on each modality by the last look: the gap only, so `lacks` says what is not judged.

        Modalities are left out where the measure is no share of samples, for which there are no thresholds.
        """
        return {} if self.last is None else verdicts_of(self.last)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per look and modality, with the columns of `Diagnosis.to_frame` and the verdict."""
        import pandas as pd

        if not self.history:
            return pd.DataFrame()
        frames = []
        for entry in self.history:
            frame = diagnosis_of(entry).to_frame()
            frame["verdict"] = [state["verdict"] for state in entry["modalities"].values()]
            frames.append(frame)
        epochs = [entry["epoch"] for entry in self.history]
        return pd.concat(frames, keys=epochs, names=["epoch", "modality"])

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold for a complete history."""
        return {"history": list(self.history), "samples_forwarded": self.samples_forwarded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the history of an interrupted training.

        Raises:
            UsageError: the state has other modalities.
        """
        history = list(state["history"])
        for entry in history[-1:]:
            if set(entry["modalities"]) != set(self.encoders):
                raise UsageError(
                    f"the state has the modalities {', '.join(entry['modalities'])}; expected "
                    f"{', '.join(self.encoders)}."
                )
        self.history, self.samples_forwarded = history, int(state["samples_forwarded"])
        self.last = diagnosis_of(history[-1]) if history else None

    def __str__(self) -> str:
        if not self.history:
            return f"nothing measured yet: {', '.join(self.encoders)}"
        assert self.last is not None
        looks = "1 look" if len(self.history) == 1 else f"{len(self.history)} looks"
        said = [f"{looks} took {self.seconds:.1f} s, the last after epoch {self.history[-1]['epoch']}"]
        said += [str(self.last)]
        for name, verdict in self.verdicts.items():
            said.append(f"{name}: {_word(verdict)}. {' '.join(verdict.reasons)}")
        return "\n".join(said)


def verdicts_of(diagnosis: Diagnosis) -> dict[str, Verdict]:
    """Return the verdict by its gap on each modality that there are thresholds for."""
    known = {name: state for name, state in diagnosis.items() if state.metric in ACCURACY_LIKE}
    return verdicts(known)


def diagnosis_of(entry: Mapping[str, Any]) -> Diagnosis:
    """Return the diagnosis that an entry of a history keeps."""
    states = {name: LearningState.from_dict(state) for name, state in entry["modalities"].items()}
    return Diagnosis(states, DiagnosisOptions(**entry["options"]))


def _word(verdict: Verdict | None) -> str | None:
    """Return the verdict in a word; a gap by itself says of an encoder only whether it is over-trained."""
    if verdict is None:
        return None
    return OVER_TRAINED if verdict.state == OVER_TRAINED else NOT_OVER_TRAINED
