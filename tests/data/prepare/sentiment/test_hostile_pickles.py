"""Pickles that are made to crash, to hang or to take all memory are refused; damaged ones too."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data.prepare.sentiment.pickles import read_pickle
from equipoise.files.pickle_scan import scan
from equipoise.types import DataError
from mutations import refuses_all

Save = Callable[[bytes], Path]


def refused(path: Path, match: str) -> None:
    """The file is refused, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match) as caught:
            read_pickle(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000
    assert "\n" not in str(caught.value)


def doubled(times: int) -> bytes:
    """The instructions for ((((1, 1), (1, 1)), ...): each tuple holds the one before twice."""
    pairs = [b"q" + bytes([place]) + b"h" + bytes([place]) + b"\x86" for place in range(1, times + 1)]
    return b"K\x01" + b"".join(pairs)


@pytest.mark.parametrize("content", [b"N" + b"\x85" * 10**5, b"(" * 10**5 + b"t" * 10**5])
def test_deep_tuples_do_not_overflow_the_stack(content: bytes, save: Save) -> None:
    refused(save(b"\x80\x02" + content + b"."), "100 deep")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}" + doubled(60) + b"Ns.",
        b"\x80\x02(" + doubled(60) + b"Nd.",
        b"\x80\x04\x8f(" + doubled(60) + b"\x90.",
        b"\x80\x04(" + doubled(60) + b"\x91.",
        b"\x80\x02c__builtin__\nset\n]" + doubled(60) + b"a\x85R.",
        b"\x80\x02" + doubled(60) + b".",
    ],
)
def test_a_doubled_tuple_is_never_hashed_or_walked_through(content: bytes, save: Save) -> None:
    refused(save(content), "no text or number|so often|containers in a set")


@pytest.mark.parametrize("place", [b"r" + struct.pack("<I", 2**28), b"q\xff", b"p268435456\n"])
def test_a_number_in_the_file_is_no_size_of_memory(place: bytes, save: Save) -> None:
    refused(save(b"\x80\x02N" + place + b"."), "numbers an object")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
        b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.",
        b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"abc.",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x02T\xff\xff\xff\x7fabc.",
    ],
)
def test_a_declared_size_is_compared_with_the_file(content: bytes, save: Save) -> None:
    refused(save(content), "ends within the pickle")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"\x80\x02]q\x01h\x01a.", "another one holds"),  # a list in itself
        (b"\x80\x02]q\x01(h\x01h\x01e.", "another one holds"),
        (b"\x80\x02c__builtin__\nset\n)\x81.", "NEWOBJ"),
        (b"\x80\x022.", "DUP"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02\x8b\x00\x01\x00\x00" + b"\x7f" * 256 + b".", "LONG4"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02(icollections\nOrderedDict\n.", "INST"),
        (b"\x80\x02]Nb.", "change an object"),
        (b"a.", "lacks its object"),
        (b"(a.", "lacks its object"),
        (b"\x80\x02e.", "lacks its mark"),
        (b"\xff.", "no instruction"),
    ],
)
def test_what_no_file_of_arrays_needs_is_refused(content: bytes, match: str, save: Save) -> None:
    refused(save(content), match)


def test_a_text_that_is_repeated_may_not_outgrow_the_file(save: Save) -> None:
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00"
    refused(save(b"\x80\x02](" + text + b"h\x00" * 10_000 + b"e."), "so often")
    usual = b"X" + struct.pack("<I", 8) + b"Negative" + b"q\x00"
    assert read_pickle(save(b"\x80\x02](" + usual + b"h\x00" * 10_000 + b"e.")) == ["Negative"] * 10_001


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_the_pass_needs_no_more_than_the_file_has(protocol: int) -> None:
    """It follows 30,000 objects, shared ones too, and ends at the end of the pickle."""
    shared = {"a": 1}
    given = {"id": [f"video[{one}]" for one in range(20_000)], "labels": ["Negative", shared] * 5_000}
    raw = pickle.dumps(given, protocol)
    stream = io.BytesIO(raw + b"more")
    scan(stream, len(raw), ())
    assert stream.tell() == len(raw)


def published(protocol: int) -> bytes:
    """A small pickle with everything that the published ones have."""
    rng = np.random.default_rng(0)
    splits: dict[str, Any] = {
        split: {
            "text": rng.normal(size=(3, 4, 2)).astype(np.float32),
            "labels": rng.normal(size=(3, 1, 1)),
            "id": np.array([["a[0]", "0", "1"]] * 3, dtype=object),
            "raw_text": np.array(["hello there"] * 3),
            "annotations": ["Negative"] * 3,
        }
        for split in ("train", "valid", "test")
    }
    return pickle.dumps(splits, protocol)


@pytest.mark.mutations
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_damaged_pickle_is_refused(protocol: int, save: Save) -> None:
    assert (
        refuses_all(
            read_pickle,
            save(published(protocol)),
            reader=f"pickle, protocol {protocol}",
            other=doubled(20),
        )
        > 50
    )
