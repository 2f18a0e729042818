"""The learning state of each modality: scores of both splits, their gap, and the re-learning strength."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from equipoise.decimals import bracketed, fixed
from equipoise.diagnosis.options import DiagnosisOptions
from equipoise.types import ByName, InNotebooks, UsageError, check_known

if TYPE_CHECKING:
    import pandas as pd

STRENGTH_KINDS = ("tanh", "linear", "fixed")


def relearning_strength(
    gap: float, lam: float = 3.0, *, kind: str = "tanh", max_strength: float = 1.0
) -> float:
    """Return the re-learning strength of a gap, `alpha = tanh(lam * gap)` (Wei et al., ECCV 2024).

    Args:
        gap: distance between the scores of training and validation features, at least 0.
        lam: the paper's `lambda`, at least 0.
        kind: `tanh` (the paper's), `linear` (`min(1, lam * gap)`), or `fixed` (`min(1, lam)` for any gap;
            with `lam=1` the encoder is re-initialised).
        max_strength: upper bound of the result.

    Returns:
        A strength in [0, 1]; 0 leaves an encoder unchanged, 1 restores its initial weights.

    Raises:
        UsageError: a value is negative or not finite.
        UnknownNameError: `kind` is unknown.
    """
    gap, lam, limit = float(gap), float(lam), float(max_strength)
    if not (math.isfinite(gap) and gap >= 0):
        raise UsageError(f"gap is {gap}; expected a finite number of at least 0, such as |train - val|.")
    if not (math.isfinite(lam) and lam >= 0):
        raise UsageError(f"lam is {lam}; expected a finite number of at least 0 (the paper uses 3).")
    if not 0 <= limit <= 1:
        raise UsageError(f"max_strength is {limit}; expected a number from 0 to 1.")
    check_known("kind of strength", [kind], STRENGTH_KINDS)
    unlimited = {"tanh": math.tanh(lam * gap), "linear": lam * gap, "fixed": lam}[kind]
    return min(unlimited, limit)


@dataclass(frozen=True)
class LearningState:
    """How well the encoder of one modality has been learnt.

    Attributes:
        modality: its name.
        train_score, val_score: separability of the training and validation features.
        gap: `|train_score - val_score|`, or its positive part with `sign="positive"`.
        interval: 95 % bootstrap interval of `train_score - val_score`; None if it was not requested.
        negligible: the gap is below `min_gap`, or negative with `sign="positive"`, and the strength is 0.
        metric: the measure of separability.
        n_train, n_val: numbers of samples that were scored.
        applied: strength of the re-learning that followed, if any.
    """

    modality: str
    train_score: float
    val_score: float
    gap: float
    interval: tuple[float, float] | None
    negligible: bool
    metric: str
    n_train: int
    n_val: int
    applied: float | None = None

    def strength(self, lam: float = 3.0, *, kind: str = "tanh", max_strength: float = 1.0) -> float:
        """Return the re-learning strength of the gap; see `relearning_strength`."""
        if self.negligible:
            return 0.0
        return relearning_strength(self.gap, lam, kind=kind, max_strength=max_strength)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain values, for a run record."""
        return {
            "modality": self.modality,
            "metric": self.metric,
            "train_score": self.train_score,
            "val_score": self.val_score,
            "gap": self.gap,
            "interval": list(self.interval) if self.interval else None,
            "negligible": self.negligible,
            "strength": self.strength() if self.applied is None else self.applied,
            "applied": self.applied,
            "n_train": self.n_train,
            "n_val": self.n_val,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LearningState:
        """Return the object that `to_dict` was called on."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        interval = known["interval"]
        return cls(**{**known, "interval": None if interval is None else (interval[0], interval[1])})


@dataclass(frozen=True)
class Diagnosis(ByName[LearningState], InNotebooks):
    """The learning states of all modalities, by name.

    Attributes:
        states: modality name to learning state.
        options: the options it was measured with.
    """

    shown_as = "diagnosis"

    states: Mapping[str, LearningState]
    options: DiagnosisOptions = field(default_factory=DiagnosisOptions)

    def _entries(self) -> Mapping[str, LearningState]:
        return self.states

    def applied(self, strengths: Mapping[str, float]) -> Diagnosis:
        """Return the diagnosis with the strength that is applied to each modality."""
        states = {name: replace(state, applied=strengths[name]) for name, state in self.states.items()}
        return Diagnosis(states, self.options)

    def to_frame(self, lam: float = 3.0) -> pd.DataFrame:
        """Return one row per modality.

        `difference` is training minus validation, with its interval. `strength` is the applied one, else
        `tanh(lam * gap)`.
        """
        import pandas as pd

        rows = [
            {
                "modality": name,
                "train_score": state.train_score,
                "val_score": state.val_score,
                "gap": state.gap,
                "difference": state.train_score - state.val_score,
                "difference_low": state.interval[0] if state.interval else math.nan,
                "difference_high": state.interval[1] if state.interval else math.nan,
                "strength": state.strength(lam) if state.applied is None else state.applied,
                "metric": state.metric,
                "n_train": state.n_train,
                "n_val": state.n_val,
            }
            for name, state in self.items()
        ]
        return pd.DataFrame(rows).set_index("modality")

    def to_dict(self) -> dict[str, Any]:
        """Return the diagnosis as plain values, for a run record."""
        return {name: state.to_dict() for name, state in self.items()}

    def __str__(self) -> str:
        unsigned = ["gap", "difference_low", "difference_high", "metric"]
        frame = self.to_frame().drop(columns=unsigned).rename(columns={"difference": "gap"})
        if any(state.interval for state in self.values()):
            frame.insert(3, "95 % interval", [bracketed(state.interval).strip() for state in self.values()])
        # Not from the options: a diagnosis read from a run record may lack them.
        metric = " and ".join(dict.fromkeys(state.metric for state in self.values()))
        return f"learning state by {metric}\n{frame.to_string(float_format=fixed)}"
