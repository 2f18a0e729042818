"""Pickles of arrays are read; code in pickles is not run."""

from __future__ import annotations

import collections
import fractions
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.sentiment.pickles import read_pickle
from equipoise.types import DataError

Save = Callable[[bytes], Path]


class Calls:
    """Its pickle is a function call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def global_and_call(module: str, name: str, argument: str) -> bytes:
    """A pickle of protocol 4 that calls `module.name(argument)`, with the names unchanged."""

    def text(value: str) -> bytes:
        raw = value.encode()
        return b"\x8c" + bytes([len(raw)]) + raw

    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text(argument) + b"\x85R."


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_arrays_and_containers_are_read_unchanged(protocol: int, save: Save) -> None:
    rng = np.random.default_rng(0)
    given = {
        "f8": rng.normal(size=(3, 4, 2)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4))),
        "strided": rng.normal(size=(6, 4))[::2].T,
        "f4 big": rng.normal(size=5).astype(">f4"),
        "i2": rng.integers(-9, 9, 7).astype(np.int16),
        "bool": np.array([True, False]),
        "bytes": np.array([[b"abc", b"0", b"1"]]),
        "texts": np.array(["é", "long text"]),
        "objects": np.array(["a", None, (1, 2.5), [np.arange(3)]], dtype=object),
        "empty": np.zeros((0, 5), np.float32),
        "scalars": [np.float64(2.5), np.int64(-3), np.float32(0.5), np.bool_(True)],
        "plain": (1, "ü", b"\xff", None, {1, 2}, frozenset("ab"), 2j, bytearray(b"xy")),
        "ordered": collections.OrderedDict([("b", 1), ("a", [2])]),
    }
    read = read_pickle(save(pickle.dumps(given, protocol)))
    assert list(read) == list(given)
    for name, value in given.items():
        if isinstance(value, np.ndarray) and name != "objects":
            assert type(read[name]) is np.ndarray
            np.testing.assert_array_equal(read[name], value)
            assert read[name].dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
    objects = read["objects"]
    assert objects[:3].tolist() == ["a", None, (1, 2.5)]
    assert type(objects[3][0]) is np.ndarray
    assert objects[3][0].tolist() == [0, 1, 2]
    assert read["scalars"] == given["scalars"]
    assert [type(x) for x in read["scalars"]] == [np.float64, np.int64, np.float32, np.bool_]
    assert read["plain"] == given["plain"]
    assert list(read["ordered"].items()) == [("b", 1), ("a", [2])]


def test_an_array_referenced_twice_is_one_object(save: Save) -> None:
    array, inside = np.arange(4.0), [1]
    read = read_pickle(save(pickle.dumps([array, array, (inside, inside)], 4)))
    assert read[0] is read[1]
    assert read[2][0] is read[2][1]


def test_a_python_2_pickle_is_read(save: Save) -> None:
    values = np.array([1.5, -np.inf, 3.0])
    # As cPickle of Python 2 writes it: short strings of bytes, and the old module name of NumPy.
    raw = values.tobytes()
    content = (
        b"\x80\x02}U\x05audiocnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tbsU\x04name" + b"U\x02\xe9a" + b"s."
    )
    read = read_pickle(save(content))
    np.testing.assert_array_equal(read["audio"], values)
    assert read["name"] == "éa"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_calls_in_a_pickle_are_not_run(protocol: int, save: Save, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    np.save(tmp_path / "inner.npy", np.array([Calls(os.mkdir, str(mark))], dtype=object), allow_pickle=True)
    attacks = [
        Calls(os.system, f"touch {mark}"),
        Calls(eval, f"open({str(mark)!r}, 'w')"),
        Calls(exec, f"open({str(mark)!r}, 'w')"),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(np.load, str(tmp_path / "inner.npy"), None, True),
        {"train": [np.arange(3), (Calls(os.mkdir, str(mark)),)]},
        np.array([Calls(os.mkdir, str(mark))], dtype=object),
        Calls(open, str(mark), "w"),
    ]
    for attack in attacks:
        path = save(pickle.dumps(attack, protocol))
        with pytest.raises(DataError, match="requests the Python object") as caught:
            read_pickle(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not mark.exists()
    pickle.loads(pickle.dumps(attacks[5], protocol))
    assert mark.exists()  # so the attacks work with plain pickle


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "core.multiarray.os.system"),
        ("numpy", "f2py.os.system"),
        ("numpy.f2py", "os.system"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("numpy._core.numeric", "_frombuffer.__globals__"),
        ("builtins", "set.__class__"),
        ("builtins", "getattr"),
        ("posix", "system"),
        ("copyreg", "_reconstructor"),
        ("numpy", "memmap"),
    ],
)
def test_hidden_names_are_refused(module: str, name: str, save: Save, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = save(global_and_call(module, name, f"touch {mark}"))
    with pytest.raises(DataError, match="requests the Python object") as caught:
        read_pickle(path)
    assert f"'{module}.{name}'" in str(caught.value)
    assert not mark.exists()


def test_old_opcodes_are_not_run(save: Save, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for content in (
        f"cposix\nsystem\n(S'touch {mark}'\ntR.",
        f"(S'touch {mark}'\niposix\nsystem\n.",
        f"(cposix\nsystem\nS'touch {mark}'\no.",
    ):
        with pytest.raises(DataError, match="'posix.system'"):
            read_pickle(save(content.encode()))
        assert not mark.exists()
    with pytest.raises(DataError, match="outside itself"):
        read_pickle(save(b"Psecret\n."))


def test_allowed_globals_cannot_be_altered_or_returned(save: Save) -> None:
    with pytest.raises(DataError, match="change a function"):
        read_pickle(save(b"\x80\x02c_codecs\nencode\n}X\x08\x00\x00\x00__code__NsbS'x'\n."))
    with pytest.raises(DataError, match="a function instead of a value"):
        read_pickle(save(b"\x80\x02]c_codecs\nencode\na."))
    with pytest.raises(DataError, match="is not a pickle|encoded as by NumPy"):
        read_pickle(save(b"\x80\x02cnumpy\nndarray\n(I1000000000000\ntR."))


def test_a_dtype_cannot_turn_numbers_into_objects(save: Save) -> None:
    fields = np.dtype([("a", object)])
    with pytest.raises(DataError, match="type"):
        read_pickle(save(pickle.dumps(np.zeros(2, fields), 2)))
    # An object array with bytes as its state would contain pointers chosen by the file.
    forged = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x08" + struct.pack("<Q", 16) + b"tb."
    )
    with pytest.raises(DataError, match="data.pkl"):
        read_pickle(save(forged))


@pytest.mark.parametrize(
    "state",
    [
        b"(K\x01K\x02\x85%s\x89C\x08\0\0\0\0\0\0\0\0tb",  # two numbers in the bytes of one
        b"(K\x01K\x01\x85%s\x89]tb",  # a list instead of bytes
        b"(K\x01J\xff\xff\xff\xff\x85%s\x89C\x08\0\0\0\0\0\0\0\0tb",  # a negative length
        b"(K\x01K\x01\x85N\x89C\x08\0\0\0\0\0\0\0\0tb",  # no dtype
        b"(K\x01K\x00\x85%s\x89C\0tb(K\x01K\x00\x85h\x09\x89C\0tb",  # filled twice
        b"",  # never filled
    ],
)
def test_an_inconsistent_array_is_refused(state: bytes, save: Save) -> None:
    dtype = (
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbq\x09"
    )
    begin = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    with pytest.raises(DataError, match="encoded as by NumPy|has [08] bytes"):
        read_pickle(save(begin + state.replace(b"%s", dtype) + b"."))


def test_a_small_file_cannot_allocate_all_memory(save: Save) -> None:
    for name in (b"bytes", b"bytearray"):
        with pytest.raises(DataError):
            read_pickle(save(b"\x80\x02cbuiltins\n" + name + b"\nL1000000L\n\x85R."))


def test_other_classes_are_refused_by_name(save: Save) -> None:
    with pytest.raises(DataError, match=r"'fractions\.Fraction'.*get it from its source"):
        read_pickle(save(pickle.dumps({"a": fractions.Fraction(1, 2)}, 4)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "lfs-pointer"),
        (pickle.dumps({"a": np.zeros(1000)}, 4)[:900], "truncated"),
        (pickle.dumps({"a": np.zeros(1000)}, 2)[:900], "truncated"),
        (b"PK\x03\x04 a zip file", "wrong-format"),
        (b"\x89HDF\r\n\x1a\n", "wrong-format"),
    ],
)
def test_an_incomplete_pickle_is_named(content: bytes, reason: str, save: Save) -> None:
    path = save(content)
    with pytest.raises(MediaError) as caught:
        read_pickle(path)
    assert caught.value.reason == reason
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        read_pickle(tmp_path / "none.pkl")
    assert caught.value.reason == "missing"


def test_nesting_is_limited(save: Save) -> None:
    with pytest.raises(DataError, match="deep"):
        read_pickle(save(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b"."))


def test_an_array_is_not_copied_in_memory(save: Save) -> None:
    import tracemalloc

    path = save(pickle.dumps({"a": np.zeros(16_000_000, np.uint8)}, 4))
    tracemalloc.start()
    try:
        read_pickle(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.4 * 16_000_000
