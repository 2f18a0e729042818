"""Order: a pure function of (seed, epoch), the same global batches on every number of processes."""

from __future__ import annotations

import random
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.data import EpochOrder
from equipoise.types import DataError, UsageError


def batches(epoch: int = 0, count: int = 23, size: int = 5, **options: object) -> list[list[int]]:
    order = EpochOrder(count, size, **options)  # type: ignore[arg-type]
    order.set_epoch(epoch)
    return list(order)


def test_a_pure_function_of_seed_and_epoch() -> None:
    expected = batches(epoch=3, seed=1, shuffle=True)
    torch.manual_seed(5)
    random.seed(5)
    used = EpochOrder(23, 5, seed=1, shuffle=True)
    for epoch in (0, 7, 3):  # as after a resume, in any order
        used.set_epoch(epoch)
        found = list(used)
    assert found == expected
    assert list(used) == expected  # and calling it does not advance it
    assert batches(epoch=4, seed=1, shuffle=True) != expected
    assert batches(epoch=3, seed=2, shuffle=True) != expected


def test_the_order_of_earlier_versions_is_kept() -> None:
    # Results of earlier versions are reproducible only while this holds.
    assert batches(count=6, size=4, seed=0, shuffle=True) == [[5, 2, 1, 3], [4, 0]]


def test_sequential() -> None:
    assert batches(count=7, size=3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches(epoch=9, count=7, size=3) == batches(count=7, size=3)


def test_a_last_batch_of_one_is_merged_with_the_previous_one() -> None:
    assert [len(b) for b in batches(count=7, size=3, shuffle=True)] == [3, 4]
    assert [len(b) for b in batches(count=8, size=3, shuffle=True)] == [3, 3, 2]
    assert [len(b) for b in batches(count=3, size=1, shuffle=True)] == [1, 1, 1]
    assert [len(b) for b in batches(count=1, size=8, shuffle=True)] == [1]
    # Every process has a sample of every batch.
    assert [len(b) for b in batches(count=17, size=8, processes=2)] == [8, 9]
    assert [len(b) for b in batches(count=18, size=8, processes=2)] == [8, 8, 2]
    assert [len(b) for b in batches(count=19, size=8, shuffle=True, processes=4)] == [8, 11]


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(1, 60),
    size=st.integers(1, 20),
    processes=st.integers(1, 5),
    shuffle=st.booleans(),
    epoch=st.integers(0, 5),
)
def test_the_batches_do_not_depend_on_the_number_of_processes(
    count: int, size: int, processes: int, shuffle: bool, epoch: int
) -> None:
    if count < processes or size < processes:
        return
    options = {"seed": 3, "shuffle": shuffle}
    shared, alone = (
        batches(epoch, count, size, processes=processes, **options),
        batches(epoch, count, size, **options),
    )
    assert len(shared) == len(EpochOrder(count, size, processes=processes, **options))  # type: ignore[arg-type]
    assert min(map(len, shared)) >= processes
    assert list(chain(*shared)) == list(chain(*alone))
    assert sorted(chain(*shared)) == list(range(count))
    assert shared[:-1] == alone[: len(shared) - 1]


def test_refusals() -> None:
    with pytest.raises(UsageError, match="batch_size is 0"):
        EpochOrder(10, 0)
    with pytest.raises(UsageError, match="batch_size is 1 for 2 processes"):
        EpochOrder(10, 1, processes=2)
    with pytest.raises(DataError, match="1 samples for 2 processes"):
        EpochOrder(1, 4, processes=2)
