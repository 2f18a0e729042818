"""What the rows of the league say: ranks, gains over joint training, losses, costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from rows import records_of

from equipoise.experiments.compare.across import PER_MODALITY, AcrossDatasets, across_datasets
from equipoise.experiments.compare.comparison import BASELINE, Comparison, summary_of
from equipoise.experiments.compare.significance import holm
from equipoise.experiments.compare.statistics import MIN_SEEDS, student
from equipoise.tasks import task_named

ALPHA = 0.05
SEVERAL_NETWORKS = ("short-ensemble",)
"""Methods that run several networks for a prediction; all others run the encoders of one."""


@dataclass(frozen=True)
class SetRows:
    """The complete seeds of one set.

    Attributes:
        name: of the set.
        title: in tables.
        neglected: see `LeagueSet`.
        table: rows of the methods that have finished or failed with all seeds.
    """

    name: str
    title: str
    neglected: bool
    table: pd.DataFrame

    @classmethod
    def of(cls, name: str, title: str, neglected: bool, table: pd.DataFrame) -> SetRows:
        """Keep the seeds of joint training, and the methods that have all of them; others are still run."""
        seeds = set(table[table["method"] == BASELINE]["seed"])
        table = table[table["seed"].isin(seeds)]
        counts = table.groupby("method")["seed"].nunique()
        whole = set(counts[counts == len(seeds)].index)
        return cls(name, title, neglected, table[table["method"].isin(whole)])

    @property
    def seeds(self) -> list[int]:
        """Those that are complete."""
        return sorted(map(int, self.table["seed"].unique()))

    @property
    def failed(self) -> pd.DataFrame:
        """The runs that ended in an error."""
        return self.table[self.table["status"] != "ok"]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Test figure by seed (rows) and method (columns), of methods without a failed run."""
        table = self.table[~self.table["method"].isin(set(self.failed["method"]))]
        return table.pivot(index="seed", columns="method", values="test").astype(float)

    @cached_property
    def comparison(self) -> Comparison:
        """The same as a comparison, with its tests of fairness."""
        held = self.table
        task = task_named(str(held["task"].dropna().iloc[0]))
        renamed = held.rename(columns={"val": f"val_{task.main}", "test": f"test_{task.main}"})
        renamed = renamed.assign(test_macro_f1=math.nan) if task.main != "macro_f1" else renamed
        summary = summary_of(renamed, records_of(held), self.seeds, task, rank_anyway=True)
        summary["dataset"] = self.title
        return Comparison(Path(), renamed, summary)

    def gain(self, method: str, over: str = BASELINE) -> tuple[float, float, float, float]:
        """Return mean, ends of the 95 % interval and p-value of the paired difference of two methods."""
        found = [float(value) for value in self.scores[method] - self.scores[over]]
        mean = sum(found) / len(found)
        return (mean, *student(found, mean))

    def cost(self, method: str, column: str) -> float:
        """Return the mean of a cost as a multiple of that of joint training."""
        return self._mean(method, column) / self._mean(BASELINE, column)

    def passes(self, method: str) -> float:
        """Return the work of the encoders as a multiple of that of joint training.

        A sample backward counts as two forward. Seconds would depend on what else the machine did, and on
        which runs were trained side by side.
        """

        def work(name: str) -> float:
            return self._mean(name, "forward_samples") + 2 * self._mean(name, "backward_samples")

        return work(method) / work(BASELINE)

    def _mean(self, method: str, column: str) -> float:
        return float(self.table[self.table["method"] == method][column].astype(float).mean())


class League:
    """All sets with enough complete seeds."""

    def __init__(self, sets: Iterable[SetRows]) -> None:
        self.sets = [one for one in sets if len(one.seeds) >= MIN_SEEDS]

    @cached_property
    def across(self) -> AcrossDatasets:
        """Ranks of the methods that are ranked on all sets."""
        return across_datasets([one.comparison for one in self.sets])

    @property
    def names(self) -> Sequence[str]:
        """The methods that are ranked on all sets, best first."""
        return self.across.names

    @property
    def seeds(self) -> int:
        """The smallest number of seeds of a set."""
        return min(len(one.seeds) for one in self.sets)

    def over(self, sets: Iterable[SetRows]) -> AcrossDatasets:
        """Rank the methods over some of the sets."""
        return across_datasets([one.comparison for one in sets])

    def place(self, method: str, *, one_network: bool = False) -> tuple[int, int]:
        """Return the place of a method by mean rank, and the number of methods."""
        names = [name for name in self.names if not (one_network and name in SEVERAL_NETWORKS)]
        return names.index(method) + 1, len(names)

    def wins(self, method: str) -> int:
        """Return on how many sets no method has a better mean."""
        return int((self.across.ranks.loc[method] == self.across.ranks.min()).sum())

    def losses(self, method: str, to: str) -> list[SetRows]:
        """Return the sets on which a method is significantly below another, by Holm over the sets."""
        tests = {one.name: one.gain(method, to) for one in self.sets}
        corrected = holm({name: test[3] for name, test in tests.items()})
        return [one for one in self.sets if tests[one.name][0] < 0 and corrected[one.name] < ALPHA]

    def mean_gain(self, method: str, sets: Sequence[SetRows], over: str = BASELINE) -> float:
        """Return the mean over sets of the gain over another method."""
        return sum(one.gain(method, over)[0] for one in sets) / len(sets)

    def worst(self, method: str) -> tuple[float, SetRows]:
        """Return the smallest gain over joint training, and where it is."""
        return min(((one.gain(method)[0], one) for one in self.sets), key=lambda pair: pair[0])

    def cost(self, method: str, column: str) -> float:
        """Return the mean over sets of a cost in multiples of joint training."""
        return sum(one.cost(method, column) for one in self.sets) / len(self.sets)

    def passes(self, method: str) -> float:
        """Return the mean over sets of the work of the encoders, in multiples of joint training."""
        return sum(one.passes(method) for one in self.sets) / len(self.sets)

    def to_dict(self, commit: str) -> dict[str, Any]:
        """Return the content of `league.json`."""
        methods = {
            name: {
                "mean_rank": round(self.across.mean_ranks[name], 3),
                "wins": self.wins(name),
                "significant_losses_to": [
                    other for other in self.names if other != name and self.losses(name, other)
                ],
            }
            for name in self.names
        }
        return {
            "methods": methods,
            "sets": [one.name for one in self.sets],
            "seeds": self.seeds,
            "commit": commit,
        }


def best_on_validation(tables: Mapping[str, pd.DataFrame], count: int, without: Iterable[str]) -> list[str]:
    """Return the methods with the best mean rank of validation scores, those in `without` aside."""
    ranks = []
    for table in tables.values():
        means = table[table["status"] == "ok"].groupby("method")["val"].mean()
        failed = set(table[table["status"] != "ok"]["method"])
        ranks.append(means.drop(labels=[m for m in failed if m in means.index]).rank(ascending=False))
    together = pd.concat(ranks, axis=1).dropna().mean(axis=1).sort_values(kind="stable")
    left = [
        str(name)
        for name in together.index
        if name not in set(without) and not str(name).startswith(PER_MODALITY)
    ]
    return left[:count]
