"""What is said of a file that cannot be read: one line, the cause, and no advice that would run its code."""

from __future__ import annotations

import errno
import pathlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.files.arrays import arrays_in, names_in, read_array
from equipoise.files.untrusted import first_line, parsing, read_json, read_yaml
from equipoise.training.record.checkpoints import load_checkpoint
from equipoise.types import DataError, MachineLimitError, RunFolderError


def test_no_message_repeats_how_to_run_the_code_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"a": pathlib.PurePosixPath("x")}, path)
    named = r"requests the Python object 'pathlib[.a-z_]*\.PurePosixPath'"  # 3.13 has another module
    with pytest.raises(RunFolderError, match=named) as caught:
        load_checkpoint(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(RunFolderError, match="is no file of torch, or damaged") as other:
        load_checkpoint(path)
    objects = tmp_path / "a.npy"
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects, expected numbers") as third:
        read_array(objects, DataError)
    for error in (caught, other, third):
        for word in ("weights_only", "allow_pickle", "safe_globals", "trust", "\n"):
            assert word not in str(error.value)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n  second"), "first"),
        (ValueError("\n\n last"), "last"),
        (ValueError(), "ValueError"),
        (KeyError("seed"), "it has no 'seed'"),
        (MemoryError(), "it needs more memory than there is"),
        (RecursionError("maximum"), "it is nested too deep"),
        (ValueError("a\x1b[2J"), r"a\x1b[2J"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_any_error_of_a_parser_becomes_the_one_asked_for() -> None:
    for raised in (
        AttributeError("a"),
        NotImplementedError(),
        AssertionError("b"),
        OSError(errno.EIO, "disk"),
    ):
        with pytest.raises(DataError), parsing(DataError):
            raise raised
    with pytest.raises(RunFolderError), parsing(DataError):
        raise RunFolderError("typed already")
    with pytest.raises(KeyError), parsing(DataError, KeyError):
        raise KeyError("passed")
    with pytest.raises(MachineLimitError, match="too many files"), parsing(DataError):
        try:
            raise OSError(errno.EMFILE, "Too many open files", "x.csv")
        except OSError as cause:
            raise ValueError("no table") from cause
    with pytest.raises(KeyboardInterrupt), parsing(DataError):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"[1]", "a list, expected a mapping"),
        (b'"a"', "a text, expected a mapping"),
        (b"\xff{}", "not utf-8 text"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "limit"),
        (b"", "Expecting value"),
    ],
)
def test_json_is_checked(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_json(path, DataError)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json", DataError)


def test_yaml_is_of_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for text in ("!!python/object/apply:os.getcwd []", "a: [", "a: " + "[" * 5000, "- 1", "a: 1:2:x: 3"):
        path.write_text(text)
        with pytest.raises(DataError):
            read_yaml(path, DataError)
    path.write_text("base: &b {lr: 0.1}\nown:\n  <<: *b\n  epochs: 3\nlist: [&x [1], *x]\n")
    assert read_yaml(path, DataError)["own"] == {"lr": 0.1, "epochs": 3}


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (header("(400000000,)") + bytes(80), "declares the shape"),
        (header("(2, -1)") + bytes(80), "declares the shape"),
        (header("(1,)", "'|O'") + bytes(80), "Python objects"),
        (header("(" * 60), "."),
        (header("(1,)", "'<f8" + "x" * 10), "."),
    ],
)
def test_a_header_is_compared_with_the_file(content: bytes, match: str, tmp_path: Path) -> None:
    import zipfile

    (tmp_path / "a.npy").write_bytes(content)
    for mapped in (False, True):
        with pytest.raises(DataError, match=match):
            read_array(tmp_path / "a.npy", DataError, mapped=mapped)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    assert names_in(tmp_path / "a.npz", DataError) == ["a"]
    with pytest.raises(DataError, match=match):
        arrays_in(tmp_path / "a.npz", DataError)


def test_an_archive_gives_what_numpy_wrote(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "x": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.ones((3, 2), np.float16)),
        "t": np.array(["a", "é"]),
        "zero": np.zeros((0, 4)),
        "one": np.float64(3.5),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **given)
        held = arrays_in(tmp_path / "a.npz", DataError)
        assert list(held) == list(given)
        for name, value in given.items():
            np.testing.assert_array_equal(held[name], value)
            assert held[name].dtype == np.asarray(value).dtype
    np.savez_compressed(tmp_path / "zeros.npz", x=np.zeros(10**6))  # the smallest that zeros become
    assert arrays_in(tmp_path / "zeros.npz", DataError, ["x"])["x"].shape == (10**6,)
    with pytest.raises(DataError, match="no 'y'"):
        arrays_in(tmp_path / "zeros.npz", DataError, ["y"])
