"""MATLAB files are read as SciPy reads them, as long as they are whole."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from equipoise.data.prepare.media.matlab import read_matrices

VALUES = np.arange(-6, 6).reshape(3, 4)


def same(path: Path, name: str = "vid") -> None:
    expected, found = loadmat(path)[name], read_matrices(path, (name,))[name]
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_level_5_is_read(dtype: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    held = {"vid": np.abs(VALUES).astype(dtype), "x": "a text", "cell": [{"a": 1}], "siz": [60, 80, 3]}
    savemat(path, held, do_compression=compressed)
    same(path)
    same(path, "siz")
    assert set(read_matrices(path, ("vid", "other"))) == {"vid"}


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "i2", "u2", "u1"])
def test_level_4_is_read(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"x": "a text", "vid": np.abs(VALUES).astype(dtype), "siz": [60, 80, 3]}, format="4")
    same(path)
    same(path, "siz")


def test_numbers_of_other_machines_are_read(tmp_path: Path) -> None:
    """Values are stored smaller than they are, by MATLAB but not by SciPy, and the order of bytes differs."""
    path = tmp_path / "a.mat"
    parts = [(6, struct.pack(">2I", 6, 0)), (5, struct.pack(">2i", 1, 3)), (1, b"vid"), (3, b"\0\1\0\2\0\3")]
    raw = b"".join(struct.pack(">2I", kind, len(one)) + one + bytes(-len(one) % 8) for kind, one in parts)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    path.write_bytes(head + struct.pack(">2I", 14, len(raw)) + raw)
    same(path)
    assert read_matrices(path, ("vid",))["vid"].tolist() == [[1, 2, 3]]
    path.write_bytes(struct.pack(">5i", 1020, 1, 2, 0, 4) + b"vid\0" + struct.pack(">2i", 7, -7))
    same(path)


@pytest.mark.parametrize(
    ("held", "format_", "says"),
    [
        ({"vid": "a text"}, "5", "real numbers"),
        ({"vid": "a text"}, "4", "real numbers"),
        ({"vid": VALUES * 1j}, "5", "real numbers"),
        ({"vid": VALUES * 1j}, "4", "real numbers"),
        ({"vid": [{"a": 1}]}, "5", "real numbers"),
    ],
)
def test_other_values_are_refused(held: dict[str, object], format_: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, held, format=format_)
    with pytest.raises(ValueError, match=says):
        read_matrices(path, ("vid",))


def test_the_format_of_version_7_3_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(ValueError, match="save it with '-v7'"):
        read_matrices(path, ("vid",))
