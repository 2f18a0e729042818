"""Batches: equal values from memory and from disk, and a test split that opens once."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.data import (
    MEMORY_LIMIT,
    PreparedDataset,
    RunData,
    SplitData,
    Splits,
    draw_splits,
    fit_normalizers,
    make_loader,
    splits_of,
)
from equipoise.sharing import Blocks, SharedBatch
from equipoise.types import Batch, DataError, UsageError


def split_data(dataset: PreparedDataset, memory_limit: int = MEMORY_LIMIT) -> SplitData:
    splits = splits_of(dataset)
    return SplitData(dataset, splits.train, fit_normalizers(dataset, splits.train), memory_limit=memory_limit)


def assert_same(one: Batch, two: Batch) -> None:
    assert torch.equal(one.target, two.target)
    assert torch.equal(one.index, two.index)
    assert list(one.inputs) == list(two.inputs)
    for name in one.inputs:
        assert torch.equal(one.inputs[name], two.inputs[name])


@pytest.mark.usefixtures("small_chunks")
def test_memory_and_disk_give_the_same(dataset: PreparedDataset) -> None:
    kept, mapped = split_data(dataset), split_data(dataset, 0)
    assert kept.in_memory
    assert not mapped.in_memory
    for positions in ([0], [5, 3, 3, 30], list(range(36))):
        assert_same(kept[positions], mapped[positions])


def test_the_limit_counts_normalised_bytes(dataset: PreparedDataset) -> None:
    needed = 36 * 4 * (4 + 5 * 3 + 3 * 4 * 5 + 2 * 3 * 4 * 4)
    assert split_data(dataset, needed).in_memory
    assert not split_data(dataset, needed - 1).in_memory


def test_a_batch_contains_its_rows(dataset: PreparedDataset) -> None:
    splits = splits_of(dataset)
    normalizers = fit_normalizers(dataset, splits.train)
    batch = SplitData(dataset, splits.val, normalizers)[[4, 0, 7]]
    rows = splits.val[[4, 0, 7]]
    assert len(batch) == 3
    assert batch.index.tolist() == rows.tolist()
    assert batch.index.dtype == batch.target.dtype == torch.int64
    assert batch.target.tolist() == dataset.target[rows].tolist()
    for name, values in batch.inputs.items():
        assert values.dtype == torch.float32
        assert values.shape == (3, *dataset.modalities[name].shape)
        np.testing.assert_array_equal(
            values.numpy(), normalizers[name](np.asarray(dataset.array(name))[rows])
        )


@pytest.mark.parametrize("memory_limit", [0, MEMORY_LIMIT])
def test_loading_does_not_change_global_random_states(dataset: PreparedDataset, memory_limit: int) -> None:
    loader = make_loader(split_data(dataset, memory_limit), 8, shuffle=True)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        list(loader)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_the_order_does_not_depend_on_earlier_draws(dataset: PreparedDataset) -> None:
    data = split_data(dataset)
    first, second = make_loader(data, 8, seed=1, shuffle=True), make_loader(data, 8, seed=1, shuffle=True)
    list(first), torch.rand(3)
    for loader in (first, second):
        loader.sampler.set_epoch(5)  # type: ignore[attr-defined]
    for one, two in zip(first, second, strict=True):
        assert_same(one, two)


def test_workers_read_the_same(dataset: PreparedDataset) -> None:
    data = split_data(dataset, 0)
    size = len(pickle.dumps(data))
    data[[0]]  # an open memory map must not be pickled with the data
    assert len(pickle.dumps(data)) == size
    alone, helped = make_loader(data, 8, shuffle=True), make_loader(data, 8, shuffle=True, num_workers=2)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    for epoch in range(2):
        alone.sampler.set_epoch(epoch), helped.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for one, two in zip(alone, helped, strict=True):
            assert_same(one, two)
    assert torch.equal(torch.get_rng_state(), state)
    del helped
    gc.collect()
    assert multiprocessing.active_children() == []


def test_data_in_memory_need_no_workers(dataset: PreparedDataset) -> None:
    assert make_loader(split_data(dataset), 8, num_workers=4).num_workers == 0


def test_run_data(dataset: PreparedDataset) -> None:
    splits = splits_of(dataset)
    run = RunData(dataset, splits, 8, seed=2)
    assert run.class_count == 3
    assert run.classes == ("0", "1", "2")
    assert run.modality_specs == dataset.modalities
    assert run.sizes == {"train": 36, "val": 12, "test": 12}
    assert (run.dataset_fingerprint, run.split_fingerprint) == (dataset.fingerprint, splits.fingerprint)
    run.train.sampler.set_epoch(1)  # type: ignore[attr-defined]
    seen = torch.cat([batch.index for batch in run.train]).tolist()
    assert sorted(seen) == splits.train.tolist() != seen
    for loader, rows in (
        (run.train_eval, splits.train),
        (run.val, splits.val),
        (run.open_test(), splits.test),
    ):
        assert torch.cat([batch.index for batch in loader]).tolist() == rows.tolist()


def test_the_test_split_opens_once(dataset: PreparedDataset) -> None:
    run = RunData(dataset, splits_of(dataset), 8)
    assert len(run.open_test()) == 2
    with pytest.raises(UsageError, match="opened already; it is opened once in a run, after all decisions"):
        run.open_test()


def reachable(thing: Any, seen: set[int], depth: int = 6) -> list[Any]:
    """Everything reachable through public and private attributes and containers (not closures)."""
    if id(thing) in seen or depth == 0:
        return []
    seen.add(id(thing))
    found = [thing]
    children: list[Any] = list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    if isinstance(thing, dict):
        children += list(thing.values())
    elif isinstance(thing, (list, tuple)):
        children += list(thing)
    for child in children:
        if type(child).__module__ != "builtins" or isinstance(child, (dict, list, tuple)):
            found += reachable(child, seen, depth - 1)
    return found


def test_nothing_else_reaches_the_test_split(dataset: PreparedDataset) -> None:
    splits = splits_of(dataset)
    run = RunData(dataset, splits, 8)
    things = reachable(run, set())
    assert any(isinstance(thing, SplitData) for thing in things)
    assert not [thing for thing in things if isinstance(thing, (PreparedDataset, Splits))]
    rows = [set(thing.indices.tolist()) for thing in things if isinstance(thing, SplitData)]
    assert all(not part & set(splits.test.tolist()) for part in rows)


def test_features_are_normalised_with_train_statistics_only(dataset: PreparedDataset) -> None:
    splits = splits_of(dataset)
    run = RunData(dataset, splits, 100)
    (batch,) = run.train_eval
    np.testing.assert_allclose(batch.inputs["vector"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(batch.inputs["image"].std((0, 2, 3), correction=0), 1, atol=1e-5)
    expected = fit_normalizers(dataset, splits.train)
    assert all((run.normalizers[name].mean == expected[name].mean).all() for name in expected)


def test_processes_share_each_batch(dataset: PreparedDataset) -> None:
    splits = splits_of(dataset)
    whole = RunData(dataset, splits, 8, seed=1)
    shards = [RunData(dataset, splits, 8, seed=1, share=(rank, 3)) for rank in range(3)]
    assert not any(shard.train_samples.in_memory for shard in shards)
    for batch, *parts in zip(whole.train, *(shard.train for shard in shards), strict=True):
        for rank, part in enumerate(parts):
            assert isinstance(part, SharedBatch)
            assert torch.equal(part.target, batch.target)
            assert torch.equal(part.index, batch.index)
            assert torch.equal(part.own().index, batch.index[rank::3])
            for name, x in batch.inputs.items():
                assert torch.equal(part.inputs[name], x[rank::3])
    alone = shards[1].alone()
    assert_same(next(iter(alone.val)), next(iter(whole.val)))
    assert whole.alone() is whole


def test_blocks_of_processes_are_all_samples_in_order(
    dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = splits_of(dataset)
    found = []
    for rank in range(3):
        blocks = Blocks((12, 11, 13), rank)
        monkeypatch.setattr(Blocks, "shared", lambda count, blocks=blocks: blocks)
        data = RunData(dataset, splits, 8, share=(rank, 3))
        given = data.train_eval.own_block()
        assert given is not None
        found += list(given[1])
        assert max(map(len, given[1])) == 2  # a part of a batch, for as much memory
    assert torch.cat([batch.index for batch in found]).tolist() == splits.train.tolist()
    assert not any(isinstance(batch, SharedBatch) for batch in found)
    assert RunData(dataset, splits, 8).train_eval.own_block() is None


def test_samples_of_a_shared_batch_stay_with_their_process() -> None:
    rows = torch.arange(7)
    parts = []
    for rank in range(2):
        own = Batch({"a": rows[rank::2, None].float()}, rows[rank::2], rows[rank::2])
        shared = SharedBatch.of(own, rows, 10 * rows, rank, 2)
        kept = shared.chosen(torch.tensor([False, True, True, True, False, False, True]))
        parts.append(kept.followed_by(shared.chosen(rows < 2)))
    assert [part.inputs["a"][:, 0].tolist() for part in parts] == [[2, 6, 0], [1, 3, 1]]
    for part in parts:
        assert part.target.tolist() == [1, 2, 3, 6, 0, 1]
        assert part.index.tolist() == [10, 20, 30, 60, 0, 10]
        assert part.owner.tolist() == [1, 0, 1, 0, 0, 1]
        assert part.own().target.tolist() == part.inputs["a"][:, 0].tolist()
        assert isinstance(part.to("cpu"), SharedBatch)
        assert part.to("cpu").owner.tolist() == part.owner.tolist()


def test_refusals(dataset: PreparedDataset) -> None:
    splits = draw_splits(np.arange(90) % 3)
    with pytest.raises(DataError, match="the dataset has 60"):
        RunData(dataset, splits, 8)
    ids = dataset.ids
    with pytest.raises(DataError, match="split of 'kinds' is empty"):
        RunData(dataset, Splits.of(range(60), [], [], ids=ids, origin="x"), 8)
    with pytest.raises(UsageError, match="batch_size is 0"):
        RunData(dataset, splits_of(dataset), 0)
