"""Contributions against their definition, for synthetic outputs."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from equipoise.diagnosis.contribution.shapley import antithetic_orders
from equipoise.diagnosis.contribution.subset_queries import Choices, queries
from equipoise.diagnosis.contribution.subset_scores import ScoredSplit, answers, contributions_from
from equipoise.types import UnknownNameError


def table_of(modalities: tuple[str, ...], n: int = 40, classes: int = 3, seed: int = 0, **options: Any):
    """A synthetic model: random logits for every query."""
    choices = Choices(**{"resamples": 50, **options})
    rng = np.random.default_rng(seed)
    y, y_train = rng.integers(classes, size=n), rng.integers(classes, size=n)
    said = {query: rng.normal(size=(n, classes)) for query in queries(modalities, choices)}
    answered = {query: answers(logits, y) for query, logits in said.items()}
    found = contributions_from(answered, ScoredSplit(modalities, y, y_train, classes), choices)
    return found, said, y, choices


@pytest.mark.parametrize("absence", ["mean", "zero"])
def test_every_figure_equals_its_definition(absence: str) -> None:
    names = ("a", "b", "c")
    found, said, y, choices = table_of(names, absence=absence)

    def score(present: Any, stand_in: str = absence, repeat: int = 0) -> float:
        for query, logits in said.items():
            full = len(query.present) == len(names)
            same = query.present == frozenset(present) and query.repeat == repeat
            if same and (full or query.stand_in == stand_in):
                return float(np.mean(logits.argmax(1) == y))
        raise AssertionError

    assert found.score == score(names)
    assert found.baseline == score(())
    for m in names:
        others = set(names) - {m}
        assert found[m].alone == score((m,))
        assert found[m].removed == score(others, "zero")
        assert found[m].averaged == score(others, "mean")
        permuted = [score(others, "permuted", r) for r in range(choices.repeats)]
        assert found[m].permuted == pytest.approx(np.mean(permuted))
        assert found[m].drop_removed == found.score - found[m].removed
        orders = list(permutations(names))
        gain = [score(o[: o.index(m) + 1]) - score(o[: o.index(m)]) for o in orders]
        assert found[m].shapley == pytest.approx(np.mean(gain), abs=1e-12)
    assert sum(found[m].shapley for m in names) == pytest.approx(found.score - found.baseline, abs=1e-12)
    counts = np.zeros((3, 3), dtype=int)
    full = next(iter(said.values())).argmax(1)
    for true, predicted in zip(y, full, strict=True):
        counts[true, predicted] += 1
    assert np.array(found.confusion).tolist() == counts.tolist()


def test_sampled_orders_keep_the_sum_and_approximate_the_values() -> None:
    names = tuple("abcde")
    exact, said, y, _ = table_of(names)
    choices = Choices(exact_up_to=4, order_pairs=200, resamples=10)
    held = {(q.present, q.stand_in, q.repeat): logits for q, logits in said.items()}
    answered = {q: answers(held[q.present, q.stand_in, q.repeat], y) for q in queries(names, choices)}
    sampled = contributions_from(answered, ScoredSplit(names, y, y, 3), choices)
    assert (sampled.exact, sampled.permutations, exact.exact) == (False, 400, True)
    total = sum(own.shapley for own in sampled.values())
    assert total == pytest.approx(sampled.score - sampled.baseline, abs=1e-12)
    for m in names:
        error = sampled[m].sampling_error
        assert error is not None
        assert 0 < error < 0.05
        assert abs(sampled[m].shapley - exact[m].shapley) < 4 * error
    hits = {
        q.present: (held[q.present, q.stand_in, q.repeat].argmax(1) == y).mean()
        for q in queries(names, choices)
        if q.stand_in in ("mean", "none")
    }
    pairs = [
        [hits[frozenset(o[: o.index("b") + 1])] - hits[frozenset(o[: o.index("b")])] for o in pair]
        for pair in zip(*[iter(choices.orders(names))] * 2, strict=True)
    ]
    assert sampled["b"].shapley == pytest.approx(np.mean(pairs), abs=1e-12)
    assert sampled["b"].sampling_error == pytest.approx(np.std(np.mean(pairs, 1), ddof=1) / np.sqrt(200))
    orders = antithetic_orders(names, 3, seed=1)
    assert all(one == other[::-1] for one, other in zip(orders[::2], orders[1::2], strict=True))


def test_intervals_equal_those_of_a_paired_bootstrap() -> None:
    found, said, y, _ = table_of(("a", "b"), n=400, resamples=400)
    by_query = {(q.present, q.stand_in): logits.argmax(1) == y for q, logits in said.items()}
    full = by_query[frozenset("ab"), "none"].astype(float)
    gone = by_query[frozenset("b"), "zero"].astype(float)
    spread = np.std(full - gone) / np.sqrt(len(y))
    low, high = found["a"].intervals["drop_removed"]
    assert low < found["a"].drop_removed < high
    assert (high - low) / (2 * 1.96 * spread) == pytest.approx(1, abs=0.15)
    for name in found["a"].intervals:
        low, high = found["a"].intervals[name]
        assert abs((low + high) / 2 - getattr(found["a"], name)) < 0.008
    assert set(found["a"].intervals) == {"drop_removed", "drop_permuted", "drop_averaged", "shapley"}


def listed(intervals):
    return {name: list(interval) for name, interval in intervals.items()}


def test_json_and_table() -> None:
    found = table_of(("a", "b"))[0]
    read = json.loads(json.dumps(found.to_dict()))
    assert read["contributions"]["b"] == {**vars(found["b"]), "intervals": listed(found["b"].intervals)}
    assert read["confusion"] == [list(row) for row in found.confusion]
    assert {name: read[name] for name in ("score", "n", "exact", "refitted")} == {
        name: getattr(found, name) for name in ("score", "n", "exact", "refitted")
    }
    frame = found.to_frame()
    assert frame.loc["b", "drop_permuted"] == found["b"].drop_permuted
    assert frame.loc["a", "shapley_high"] == found["a"].intervals["shapley"][1]
    assert "all modalities" in str(found)
    titles = str(found).splitlines()[1]
    assert "with it only" in titles
    assert "drop (removed)" in titles  # a loss, not the score that remains
    assert "alone" not in titles
    with pytest.raises(UnknownNameError):
        found["c"]
