"""Arrays and tables: headers that claim terabytes, archives that grow, links out of the file."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.prepare.media.archives import read_idx
from equipoise.data.prepare.readers.avletters import read_htk, read_lips
from equipoise.data.prepare.readers.table import array_in
from equipoise.data.prepare.readers.table_file import read_table
from equipoise.data.prepare.sentiment.csd import open_csd
from hostile.case import Hostile, Place, command, content
from hostile.pickles import Calls, marked

DIAGNOSE = command("diagnose", "--features", "PATH", "--out", "page.html")
TABLE = command(
    *("prepare", "table", "--source", "PATH", "--out", "prepared"),
    *("--modalities-from", "x=array", "--workers", "1"),
)


def header(shape: str, descr: str = "'<f8'", end: str = "") -> bytes:
    """Return the header of a `.npy` file."""
    held = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {end}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(held).to_bytes(2, "little") + held.encode()


def array_of_objects(place: Place) -> bytes:
    """An array of objects, which are a pickle with code."""
    stream = io.BytesIO()
    np.save(stream, np.array([Calls(exec, marked(place))], dtype=object), allow_pickle=True)
    return stream.getvalue()


def zipped(members: Mapping[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    return stream.getvalue()


def features(**changed: bytes) -> dict[str, bytes]:
    """Return the members of an archive of features; keywords replace some."""
    x, y = header("(4, 2)") + bytes(64), header("(4,)", "'<i8'") + struct.pack("<4q", 0, 1, 0, 1)
    held = {"train_a.npy": x, "val_a.npy": x, "train_labels.npy": y, "val_labels.npy": y}
    return held | {f"{name}.npy": raw for name, raw in changed.items()}


def overlapping(_: Place) -> bytes:
    """An archive of 2000 arrays that are all the same 500 kB, which bzip2 brings to a few bytes."""
    raw = header("(62500,)") + bytes(500_000)
    names = [f"{split}_{n:04}.npy" for n in range(1000) for split in ("train", "val")]
    held = bytearray(zipped(dict.fromkeys(names, b"") | {names[0]: raw} | features(), zipfile.ZIP_BZIP2))
    place = first = held.index(b"PK\x01\x02")
    for _name in names:  # every entry of the directory is made to point to the first
        held[place + 16 : place + 28] = held[first + 16 : first + 28]
        held[place + 42 : place + 46] = held[first + 42 : first + 46]
        place += 46 + sum(struct.unpack_from("<HHH", held, place + 28))
    return bytes(held)


def hdf5(fill: Callable[[Any, Place], None]) -> Callable[[Place], Path]:
    """Return what writes a computational sequence: a good video `a`, and `b` by `fill`."""

    def write(place: Place) -> Path:
        import h5py

        with h5py.File(place.given / "data.csd", "w") as file:
            good = file.create_group("X/data/a")
            good["features"], good["intervals"] = np.ones((1, 2)), np.array([[0.0, 1.0]])
            bad = file.create_group("X/data/b")
            bad["intervals"] = np.array([[0.0, 1.0]])
            fill(bad, place)
        return place.given / "data.csd"

    return write


def whole_csd(path: Path) -> None:
    with open_csd(path) as sequence:
        for video in sequence.videos:
            sequence.read(video)


def elsewhere(group: Any, place: Place) -> None:
    import h5py

    with h5py.File(place.outside / "other.h5", "w") as file:
        file["x"] = np.ones((1, 2))
    group["features"] = h5py.ExternalLink("../outside/other.h5", "/x")


def virtual(group: Any, place: Place) -> None:
    import h5py

    layout = h5py.VirtualLayout((1, 2), "f8")
    layout[:] = h5py.VirtualSource(str(place.outside / "other.h5"), "x", (1, 2))
    group.create_virtual_dataset("features", layout)


def raw_bytes(group: Any, place: Place) -> None:
    external = [(str(place.outside / "secret.npy"), 0, 16)]
    group.create_dataset("features", (1, 2), "f8", external=external)


def references(group: Any, _: Place) -> None:
    import h5py

    group.create_dataset("features", data=np.array([[group.ref] * 2]), dtype=h5py.ref_dtype)


def parquet(columns: Callable[[], list[Mapping[str, Any]]]) -> Callable[[Place], Path]:
    """Return what writes a table in Parquet, part after part."""

    def write(place: Place) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        parts = [pa.table(dict(part)) for part in columns()]
        path = place.given / "table.parquet"
        with pq.ParquetWriter(path, parts[0].schema, compression="zstd") as file:
            for part in parts:
                file.write_table(part)
        return path

    return write


def many_rows() -> list[Mapping[str, Any]]:
    return [{"x": np.zeros(2 * 10**7, np.int8)}]


def long_texts() -> list[Mapping[str, Any]]:
    return [{"text": ["x" * 10**6] * 20}] * 10


def long_lists() -> list[Mapping[str, Any]]:
    return [{"x": [np.zeros(10**7)] * 2}]


def deep_lists() -> list[Mapping[str, Any]]:
    return [{"x": [[[{"a": [None]}] * 10**6]]}] * 4


def table_of(cell: str) -> Callable[[Place], Path]:
    """Return what writes a table of which a cell names a file."""

    def write(place: Place) -> Path:
        np.save(place.given / "good.npy", np.ones(4))
        named = cell.replace("OUTSIDE", str(place.outside))
        rows = [f"{n},good.npy,{'ab'[n % 2]}" for n in range(9)]
        path = place.given / "table.csv"
        path.write_text("id,x,target\n" + "\n".join([*rows, f"{named}"]) + "\n")
        return path

    return write


def pipe(place: Place) -> Path:
    os.mkfifo(place.given / "pipe.npy")
    return place.given / "pipe.npy"


def endless(place: Place) -> Path:
    (place.given / "a.npy").symlink_to("/dev/zero")
    return place.given / "a.npy"


_NPY: dict[str, tuple[bytes | Callable[[Place], bytes], str]] = {
    "a header that claims a terabyte": (header("(137438953472,)") + bytes(80), "declares the shape"),
    "a shape whose product overflows": (header("(4294967296, 4294967296, 0x10)") + bytes(80), "declares"),
    "a negative length": (header("(-1, 4)") + bytes(80), "declares the shape"),
    "objects with code": (array_of_objects, "Python objects"),
    "a header that is an expression": (
        header("__import__('os').system('touch mark')"),
        "no array|not an array",
    ),
    "100,000 brackets in the header": (
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 100_000) + b"(" * 100_000,
        "not an array",
    ),
    "a header of 4 GB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "not an array"),
}
_NPZ: dict[str, tuple[bytes | Callable[[Place], bytes], str]] = {
    "a member that claims a terabyte": (zipped(features(train_a=header("(137438953472,)"))), "declares"),
    "objects with code": (lambda place: zipped(features(train_a=array_of_objects(place))), "Python objects"),
    "100 MB of zeros in 200 bytes": (
        lambda _: zipped(features(train_a=header("(12500000,)") + bytes(10**8)), zipfile.ZIP_BZIP2),
        "its arrays declare 100000\\d+ bytes in a file of",
    ),
    "2000 members of 500 kB that are one": (overlapping, "its arrays declare \\d+ bytes"),
    "names with ../ and an absolute path": (
        zipped(features(**{"train_../../outside/mark": b"", "val_/tmp/mark": b""})),
        ".",
    ),
}
_HDF5: dict[str, tuple[Callable[[Any, Place], None], str]] = {
    "a header that claims a terabyte": (
        lambda group, _: group.create_dataset("features", (2**37, 1), "f8", chunks=(1024, 1)),
        "features \\[137438953472, 1\\]|declares",
    ),
    "a piece that claims a gigabyte": (
        lambda group, _: group.create_dataset("features", (1, 2**27), "f8", chunks=(1, 2**27 - 1)),
        "declares",
    ),
    "a link to another file": (elsewhere, "no features in this file"),
    "a view of another file": (virtual, "in another file"),
    "bytes of another file": (raw_bytes, "in another file"),
    "references to objects": (references, "expected numbers or words"),
}
CASES = [
    *(Hostile("npy", tries, content("a.npy", raw), array_in, says) for tries, (raw, says) in _NPY.items()),
    *(Hostile("npz", tries, content("a.npz", raw), DIAGNOSE, says) for tries, (raw, says) in _NPZ.items()),
    *(Hostile("HDF5", tries, hdf5(fill), whole_csd, says, ["h5py"]) for tries, (fill, says) in _HDF5.items()),
    Hostile(
        "gzip",
        "100 MB of zeros",
        content(
            "images.gz",
            lambda _: gzip.compress(b"\0\0\x08\x03" + b"\0\0\0\x01\0\0\0\x1c\0\0\0\x1c" + bytes(10**8), 9),
        ),
        lambda path: read_idx(path, ("N", 28, 28)),
        "its header says 784",
    ),
    Hostile(
        "gzip",
        "a header that claims 2^96 values",
        content("images.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12)),
        lambda path: read_idx(path, ("N", 28, 28)),
        "has 0 values",
    ),
    Hostile(
        "HTK",
        "a header that claims 2^31 vectors",
        content("a.mfcc", struct.pack(">iihh", 2**31 - 1, 1, 32764, 6) + bytes(8)),
        read_htk,
        "but its header says",
    ),
    Hostile(
        "MATLAB",
        "an element that claims 4 GB",
        content(
            "a.mat", b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 14, 2**32 - 8)
        ),
        read_lips,
        "not a readable MATLAB file",
    ),
    Hostile("Parquet", "20 million rows in 1 kB", parquet(many_rows), read_table, "rows|values", ["pyarrow"]),
    Hostile("Parquet", "200 MB of text in 10 kB", parquet(long_texts), read_table, "", ["pyarrow"]),
    Hostile(
        "Parquet", "lists of 160 MB in 1 kB", parquet(long_lists), read_table, "its lists grow", ["pyarrow"]
    ),
    Hostile(
        "Parquet",
        "lists in records in lists, of nothing",
        parquet(deep_lists),
        read_table,
        "its lists grow",
        ["pyarrow"],
    ),
    Hostile(
        "table",
        "a cell that names a text outside",
        table_of("9,../outside/secret.txt,a"),
        TABLE,
        "1 of 10 samples cannot be prepared",
        slow=True,
    ),
    Hostile("npy", "a pipe, which never ends", pipe, array_in, "has zero length"),
    Hostile("npy", "a link to /dev/zero", endless, array_in, "has zero length"),
]
