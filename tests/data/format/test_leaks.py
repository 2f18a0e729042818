"""The leak guard names exactly what occurs in two splits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from equipoise.data import Leak, PreparedDataset, Splits, find_leaks, guard, splits_of
from equipoise.types import DataError, EquipoiseWarning, LeakError

RNG = np.random.default_rng(0)
Write = Callable[..., PreparedDataset]
SPLIT = np.array(["train"] * 30 + ["val"] * 15 + ["test"] * 15)
IDS = [f"clip{i:02d}" for i in range(60)]


def _ids(leak: Leak) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for _, name in leak.members))


def _refused(dataset: PreparedDataset, splits: Splits) -> LeakError:
    with pytest.raises(LeakError) as caught:
        guard(dataset, splits)
    return caught.value


def test_clean_splits_pass_without_warning(write: Write) -> None:
    dataset = write(split=SPLIT, group=np.arange(60) // 15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert guard(dataset, splits_of(dataset)) == []


def test_a_shared_id(write: Write) -> None:
    dataset = write(ids=IDS)
    splits = Splits.of(range(30), range(28, 45), range(45, 60), ids=dataset.ids, origin="by hand")
    leaks = find_leaks(dataset, splits)
    assert leaks == [
        Leak("id", "clip28", (("train", "clip28"), ("val", "clip28"))),
        Leak("id", "clip29", (("train", "clip29"), ("val", "clip29"))),
    ]
    with pytest.raises(LeakError, match=r"2 ids are in more than one split \(sample 'clip28' is in train"):
        guard(dataset, splits)


def test_a_shared_group(write: Write) -> None:
    group = np.array([f"speaker{i // 15}" for i in range(60)])
    group[50] = "speaker0"
    dataset = write(split=SPLIT, group=group, ids=IDS)
    leaks = find_leaks(dataset, splits_of(dataset))
    assert [(leak.kind, leak.value, leak.splits) for leak in leaks] == [
        ("group", "speaker0", ("train", "test"))
    ]
    assert _ids(leaks[0]) == (*IDS[:15], "clip50")
    with pytest.raises(LeakError) as caught:
        guard(dataset, splits_of(dataset))
    expected = (
        "dataset 'set': 1 groups are in more than one split (group 'speaker0' is in train ('clip00', "
        "'clip01', 'clip02' and 12 more) and test ('clip50')): correct split=..."
    )
    assert str(caught.value).startswith(expected)
    assert "--allow-leaks" in str(caught.value)


def test_identical_samples(write: Write) -> None:
    a, b = RNG.random((60, 3)), RNG.random((60, 4))
    for copy, original in ((40, 3), (50, 3), (20, 4)):  # the last pair is inside train
        a[copy], b[copy] = a[original], b[original]
    dataset = write(inputs={"a": a, "b": b}, split=SPLIT, ids=IDS)
    leaks = find_leaks(dataset, splits_of(dataset))
    assert [(leak.kind, leak.members) for leak in leaks] == [
        ("content", (("train", "clip03"), ("val", "clip40"), ("test", "clip50")))
    ]
    with pytest.raises(
        LeakError, match=r"1 whole contents .*train \('clip03'\) and val \('clip40'\) and test"
    ):
        guard(dataset, splits_of(dataset))


def test_content_of_one_modality_only_warns(write: Write) -> None:
    a, b = RNG.random((60, 3)), RNG.random((60, 4))
    b[40] = b[3]
    a[[1, 31, 55]] = 0  # a missing modality, filled with a constant
    dataset = write(inputs={"a": a, "b": b}, split=SPLIT, ids=IDS)
    splits = splits_of(dataset)
    found = find_leaks(dataset, splits)
    assert [(leak.kind, leak.modality, _ids(leak)) for leak in found] == [
        ("modality content", "b", ("clip03", "clip40"))
    ]
    with pytest.warns(
        EquipoiseWarning, match=r"1 single-modality contents .* modality 'b' is in train \('clip03'\)"
    ) as seen:
        assert guard(dataset, splits) == found
    assert len(seen) == 1
    assert seen[0].filename == __file__


def test_a_single_modality_is_the_full_content(write: Write) -> None:
    a = RNG.random((60, 3))
    a[40] = a[3]
    dataset = write(inputs={"a": a}, split=SPLIT)
    assert [leak.kind for leak in find_leaks(dataset, splits_of(dataset))] == ["content"]


def test_allowed_leaks_only_warn_and_long_lists_are_cut(write: Write) -> None:
    a = np.tile(RNG.random((15, 3)), (4, 1))
    dataset = write(inputs={"a": a}, split=SPLIT, ids=IDS, group=np.arange(60) % 30)
    splits = splits_of(dataset)
    with pytest.warns(EquipoiseWarning, match=r"30 groups and 15 whole contents .*; and 42 more") as caught:
        leaks = guard(dataset, splits, allow=True)
    assert len(leaks) == 45
    for message in (str(caught[0].message), str(_refused(dataset, splits))):
        assert message.count(" is in train (") == 3
        assert f"and 42 more, all listed in {dataset.path}.leaks.csv)" in message
    table = pd.read_csv(f"{dataset.path}.leaks.csv", dtype=str, keep_default_na=False)
    expected = [(leak.kind, "", leak.value, *member) for leak in leaks for member in leak.members]
    assert list(table.itertuples(index=False, name=None)) == expected
    assert table.columns.tolist() == ["kind", "modality", "value", "split", "id"]


def test_ten_leaks_are_in_the_message_without_a_file(write: Write) -> None:
    dataset = write(ids=IDS)
    splits = Splits.of(range(30), range(20, 45), range(45, 60), ids=dataset.ids, origin="by hand")
    message = str(_refused(dataset, splits))
    assert all(f"sample 'clip{number}' is in train" in message for number in range(20, 30))
    assert "; and" not in message
    assert not Path(f"{dataset.path}.leaks.csv").exists()


def test_a_folder_that_cannot_be_written_gives_the_number(write: Write) -> None:
    dataset = write(ids=IDS)
    Path(f"{dataset.path}.leaks.csv").mkdir()  # also root, who may write everywhere, cannot write here
    splits = Splits.of(range(30), range(15, 45), range(45, 60), ids=dataset.ids, origin="by hand")
    assert "; and 12 more):" in str(_refused(dataset, splits))


def test_the_file_lists_errors_and_warnings(write: Write) -> None:
    a = np.tile(RNG.random((15, 3)), (4, 1))
    dataset = write(inputs={"a": a, "b": RNG.random((60, 2))}, split=SPLIT, group=np.arange(60) % 20)
    with pytest.warns(EquipoiseWarning) as caught:
        leaks = guard(dataset, splits_of(dataset), allow=True)
    assert ["20 groups" in str(one.message) for one in caught] == [True, False]
    assert "15 single-modality contents" in str(caught[1].message)
    assert "; and 12 more, all listed in" in str(caught[1].message)
    listed = pd.read_csv(f"{dataset.path}.leaks.csv")["kind"]
    assert len(listed) == sum(len(leak.members) for leak in leaks)
    assert set(listed) == {"group", "modality content"}


def test_drawn_splits_never_leak(write: Write) -> None:
    a = np.repeat(RNG.random((20, 3)), 3, axis=0)
    dataset = write(inputs={"a": a}, target=np.arange(60) // 3 % 2, group=np.arange(60) // 6)
    for seed in range(5):
        assert guard(dataset, splits_of(dataset, seed)) == []


def test_splits_of_another_dataset(write: Write) -> None:
    dataset = write()
    splits = Splits.of(range(30), range(30, 45), range(45, 70), ids=np.arange(70).astype(str), origin="other")
    with pytest.raises(DataError, match="'test' names rows 45 to 69, the dataset has 60"):
        guard(dataset, splits)
