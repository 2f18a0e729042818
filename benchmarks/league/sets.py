"""The sets of the league, each with how it is prepared and trained."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.experiments.paper.sets import Sources
from equipoise.training.settings import Settings

SHARED = {"split_seed": "run", "diagnose_every": 0, "checkpoint_every": 10_000}
"""Splits are drawn by the seed where a set has none of its own. Runs are short, and not looked at."""


@dataclass(frozen=True, kw_only=True)
class LeagueSet:
    """One set.

    Attributes:
        title: in tables.
        base: name of the set that it is made from.
        noise: modality to the level of noise on it, in standard deviations.
        redrawn: whether the noise is drawn anew in each epoch of training.
        modalities: those that are used; by default all.
        heavy: whether only some methods are run, because a run takes more than 15 s on a core.
        neglected: whether some modality carries noise, or is left behind by joint training; decided before
            any result of the league.
    """

    title: str
    base: str
    noise: Mapping[str, float] = field(default_factory=dict)
    redrawn: bool = False
    modalities: tuple[str, ...] = ()
    heavy: bool = False
    neglected: bool = False

    def settings(self, sources: Sources) -> Settings:
        """Prepare the set, if it is not yet, and return what all runs on it share."""
        data = sources.data(self.base, self.noise, redrawn=self.redrawn)
        chosen: dict[str, Any] = {"modalities": list(self.modalities)} if self.modalities else {}
        return Settings.from_options(data=data, **SHARED, **chosen)


SETS: Mapping[str, LeagueSet] = {
    "htad": LeagueSet(title="HTAD", base="htad"),
    "htad-noisy": LeagueSet(title="HTAD, noise on audio", base="htad", noise={"audio": 2.0}, neglected=True),
    "cmu-mosi": LeagueSet(title="MOSI, audio and raw text", base="cmu-mosi"),
    "phone-watch-2": LeagueSet(
        title="phone and watch, 2 sensors",
        base="phone-watch",
        modalities=("phone_acc", "watch_acc"),
        heavy=True,
    ),
    "phone-watch-4": LeagueSet(title="phone and watch, 4 sensors", base="phone-watch", heavy=True),
    "fsdd-mnist": LeagueSet(title="FSDD + MNIST", base="fsdd-mnist", heavy=True),
    "avletters": LeagueSet(title="AVLetters", base="avletters", heavy=True),
    "avletters-noisy": LeagueSet(
        title="AVLetters, noise on audio", base="avletters", noise={"audio": 2.0}, heavy=True, neglected=True
    ),
    "avletters-redrawn": LeagueSet(
        title="AVLetters, redrawn noise on audio",
        base="avletters",
        noise={"audio": 2.0},
        redrawn=True,
        heavy=True,
        neglected=True,
    ),
    "egogestar": LeagueSet(title="EgoGestAR", base="egogestar", heavy=True, neglected=True),
}


def sources_of(root: Path, folder: Path) -> Sources:
    """Return where the sets come from: archives in `root`, prepared in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Sources(root, True, folder, None, lambda what: nullcontext(print(what, flush=True)))
