"""The epochs of re-learning, and whether they suit the planned training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.types import UsageError

LOW_LR = 0.1


@dataclass(frozen=True)
class RelearningSchedule:
    """The epochs (0-based) after which encoders are re-learnt.

    Attributes:
        every: distance `H` between re-learnings, in epochs.
        count: number `N` of re-learnings; they follow epochs `H, 2H, ..., N*H` (paper: 20 and 3).
        epochs: explicit epochs in place of the above.
    """

    every: int = 20
    count: int = 3
    epochs: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None and not hasattr(self.epochs, "__iter__"):
            raise UsageError(
                f"epochs is {self.epochs!r}; expected the epochs of the re-learnings, such as [20, 40]."
            )
        if self.epochs is not None:
            object.__setattr__(self, "epochs", tuple(self.epochs))
        for value in (self.every, self.count, *(self.epochs or ())):
            if not hasattr(value, "__index__"):
                raise UsageError(f"every, count and epochs are whole numbers; found {value!r}.")
        if self.every < 1:
            raise UsageError(f"every is {self.every}; expected at least 1 epoch between re-learnings.")
        if self.count < 0:
            raise UsageError(f"count is {self.count}; expected 0 (never) or more.")
        if self.epochs is not None and (min(self.epochs, default=0) < 0):
            raise UsageError(f"epochs are {list(self.epochs)}; expected epochs of at least 0.")

    @property
    def planned(self) -> tuple[int, ...]:
        """The epochs that a re-learning follows, in order."""
        if self.epochs is not None:
            return tuple(sorted(set(self.epochs)))
        return tuple(self.every * turn for turn in range(1, self.count + 1))

    def due(self, epoch: int) -> bool:
        """Return whether a re-learning follows this epoch (0-based)."""
        return epoch in self.planned

    def problems(self, total_epochs: int, lr: Sequence[float] | None = None) -> list[str]:
        """Return a line for each kind of problem of the planned re-learnings, with a remedy.

        `lr` is the learning rate of each epoch, where it is known.
        """
        never = [epoch for epoch in self.planned if epoch >= total_epochs - 1]
        fires = [epoch for epoch in self.planned if epoch < total_epochs - 1]
        # An encoder gets at least half a period to learn again; explicit epochs have no period.
        margin = self.every / 2 if self.epochs is None else total_epochs / 10
        late = [epoch for epoch in fires if total_epochs - 1 - epoch < margin]
        low = []
        if lr is not None and len(lr) and max(lr) > 0:
            low = [epoch for epoch in fires if lr[min(epoch + 1, len(lr) - 1)] < LOW_LR * max(lr)]
        lines = []
        if never:
            lines.append(
                f"re-learning after epoch {_listed(never)} never takes effect: training ends with epoch "
                f"{total_epochs - 1}. Train longer, or lower every ({self.every}) or count ({self.count})."
            )
        if late:
            lines.append(
                f"re-learning after epoch {_listed(late)} comes too late to recover: fewer than "
                f"{margin:g} of {total_epochs} epochs remain. Train longer, or re-learn earlier."
            )
        if low:
            lines.append(
                f"re-learning after epoch {_listed(low)} meets a learning rate below {LOW_LR:.0%} of its "
                "peak, too low to learn again. Re-learn earlier, decay later, or re-warm the learning rate."
            )
        return lines


def _listed(epochs: list[int]) -> str:
    return ", ".join(map(str, epochs))
