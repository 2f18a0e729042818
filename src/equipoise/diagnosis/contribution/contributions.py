"""What each modality contributes to the joint prediction: scores, intervals, and a table of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from equipoise.decimals import fixed
from equipoise.types import ByName, InNotebooks

if TYPE_CHECKING:
    import pandas as pd

ABSENCES: Final = ("mean", "zero")
"""What replaces the feature of an absent modality: its mean over the training split, or zeros."""
DROPS: Final = ("drop_removed", "drop_permuted", "drop_averaged")
SHOWN: Final = {
    "alone": "with it only",
    "drop_removed": "drop (removed)",
    "drop_permuted": "drop (permuted)",
    "drop_averaged": "drop (averaged)",
    "shapley": "Shapley value",
    "refitted": "new head",
    "without": "new head on others",
}
"""Columns of a frame that are printed, and their titles."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Contribution:
    """What one modality contributes to a model's predictions.

    Attributes:
        modality: its name.
        score: with all modalities present.
        alone: score with this modality only (not that of a model trained on it, which is its score *alone*).
        removed: score if its feature is zero and all others are present.
        permuted: score if its feature is taken from other samples, by random permutations of the whole split;
            the mean over several permutations.
        averaged: score if its feature is its mean over the training split.
        shapley: its Shapley value: what it adds to the score, averaged over all orders in which modalities
            may join.
        intervals: 95 % bootstrap intervals, paired over samples, of `drop_removed`, `drop_permuted`,
            `drop_averaged` and `shapley`. They reflect the choice of samples, not that of the training run.
        sampling_error: standard error of `shapley` due to sampled orders; None if it is exact.
    """

    modality: str
    score: float
    alone: float
    removed: float
    permuted: float
    averaged: float
    shapley: float
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    sampling_error: float | None = None

    @property
    def drop_removed(self) -> float:
        """Loss of score if the feature is zero."""
        return self.score - self.removed

    @property
    def drop_permuted(self) -> float:
        """Loss of score if the feature is that of another sample."""
        return self.score - self.permuted

    @property
    def drop_averaged(self) -> float:
        """Loss of score if the feature is the mean of the training split."""
        return self.score - self.averaged


@dataclass(frozen=True)
class Contributions(ByName[Contribution], InNotebooks):
    """The contributions of all modalities, by name.

    Attributes:
        contributions: modality name to contribution.
        score: score of the predictions from all modalities.
        baseline: score if every modality is absent. The Shapley values add up to `score - baseline`, so a
            modality that the model ignores gets exactly 0, which would not hold for another value of the
            empty set.
        chance: score of the best constant prediction by the training split: its most frequent class, or its
            mean. `baseline` may be lower, as the model may predict a rare class if all modalities are absent.
        metric: `accuracy`, or `r2` for a continuous target.
        split: the split that was scored.
        absence: what replaces an absent modality in `alone`, `baseline` and `shapley`, see `ABSENCES`.
        n: number of samples.
        exact: whether the Shapley values are over all subsets; otherwise over sampled orders.
        permutations: number of sampled orders; 0 if exact.
        confusion: `[C][C]` counts with all modalities present, true class by predicted class; None for a
            continuous target.
        classes: names of the classes, if known.
        refitted: score of a new linear head, fitted on the training features of this modality alone: the
            information in the features, whether the joint model uses it or not. None if not measured.
        without: score of such a head on all other modalities.
        refitted_all: score of such a head on all modalities.
    """

    shown_as = "contributions"

    contributions: Mapping[str, Contribution]
    score: float
    baseline: float
    chance: float
    metric: str
    split: str
    absence: str
    n: int
    exact: bool
    permutations: int = 0
    confusion: tuple[tuple[int, ...], ...] | None = None
    classes: tuple[str, ...] | None = None
    refitted: Mapping[str, float] | None = None
    without: Mapping[str, float] | None = None
    refitted_all: float | None = None

    def _entries(self) -> Mapping[str, Contribution]:
        return self.contributions

    def to_frame(self) -> pd.DataFrame:
        """Return one row per modality; `*_low` and `*_high` are the ends of the intervals."""
        import pandas as pd

        return pd.DataFrame([self._row(name) for name in self]).set_index("modality")

    def _row(self, modality: str) -> dict[str, Any]:
        own = self[modality]
        row: dict[str, Any] = {
            name: getattr(own, name)
            for name in ("modality", "alone", "removed", "permuted", "averaged", *DROPS, "shapley")
        }
        for name, (low, high) in own.intervals.items():
            row[f"{name}_low"], row[f"{name}_high"] = low, high
        row["refitted"] = (self.refitted or {}).get(modality, math.nan)
        row["without"] = (self.without or {}).get(modality, math.nan)
        return row

    def to_dict(self) -> dict[str, Any]:
        """Return the contributions as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        frame = self.to_frame()[list(SHOWN)].rename(columns=SHOWN).dropna(axis="columns", how="all")
        orders = "" if self.exact else f", Shapley values from {self.permutations} orders"
        return (
            f"contribution by {self.metric} on {self.split} ({self.n} samples{orders}): all modalities "
            f"{self.score:.3f}, none {self.baseline:.3f}, chance {self.chance:.3f}\n"
            + frame.to_string(float_format=fixed)
        )
