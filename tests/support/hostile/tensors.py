"""Weights and checkpoints: code in them, sizes that they only claim, archives that grow."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import equipoise as eq
from equipoise.files.pickle_pass import DEEPEST
from equipoise.models.encoders.base import Encoder
from equipoise.models.local_weights import load_weights
from equipoise.training.record.checkpoints import MARK, load_checkpoint
from hostile.case import Hostile, Place, content
from hostile.pickles import Calls, doubled, marked

RUN = Path(__file__).parents[1] / "earlier" / "run"
CODE = "requests the Python object|could run code"


class Convolution(Encoder):
    """The encoder that the weights are given to."""

    name, out_features = "convolution", 4

    def __init__(self) -> None:
        super().__init__(3)
        self.first = nn.Conv2d(3, 4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x).mean((2, 3))


def into_encoder(path: Path) -> None:
    load_weights(Convolution(), path)


def archive(pkl: bytes, more: Mapping[str, bytes] | None = None, kind: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive as `torch.save` writes it."""
    import io

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as file:
        held = {"data.pkl": pkl, "version": b"3\n", "byteorder": b"little", **(more or {})}
        for name, raw in held.items():
            file.writestr(f"archive/{name}", raw)
    return stream.getvalue()


def terabyte() -> bytes:
    """Return an archive with a tensor of 2^38 numbers, of which it has one."""
    number = b"\x8a\x06" + (2**38).to_bytes(6, "little")
    pkl = (
        b"\x80\x02}X\x0c\x00\x00\x00first.weightctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + number
        + b"tQK\x00"
        + number
        + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."
    )
    return archive(pkl, {"data/0": b"\0" * 4})


def saved(make: Callable[[Place], Any], **options: Any) -> Callable[[Place], Path]:
    """Return what writes an object with `torch.save`."""

    def write(place: Place) -> Path:
        path = place.given / "weights.pt"
        torch.save(make(place), path, **options)
        return path

    return write


def sealed(place: Place) -> bytes:
    """A checkpoint with code, whose digest is true."""
    raw = archive(pickle.dumps({"format": 4, "epoch": Calls(exec, marked(place))}, 2))
    return raw + MARK + hashlib.sha256(raw).hexdigest().encode()


def tarred(place: Place) -> Path:
    """A file of the first versions of torch, an archive of tar, with a name that leaves its folder."""
    path, inner = place.given / "weights.pt", place.given / "inner"
    inner.write_bytes(pickle.dumps(Calls(exec, marked(place)), 2))
    with tarfile.open(path, "w") as file:
        file.add(inner, "../outside/mark")
        file.add(inner, "storages")
    return path


def tensors(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    """Return a file of safetensors."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def one(shape: list[int], offsets: list[int], data: bytes = b"\0" * 16) -> bytes:
    """Return a file of safetensors with one tensor."""
    held = {"first.weight": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
    return tensors(json.dumps(held).encode(), data=data)


def run_of(model: str, shapes: Mapping[str, Any]) -> Callable[[Place], Path]:
    """Return what writes the record of a run whose model is something else."""

    def write(place: Place) -> Path:
        folder = Path(shutil.copytree(RUN, place.given / "run"))
        config = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(f"{config}\nmodel: {model}\n")
        result = json.loads((folder / "result.json").read_text())
        words = {word.replace("MARK", str(place.mark)): held for word, held in shapes.items()}
        result["model_spec"]["shapes"] = words
        (folder / "result.json").write_text(json.dumps(result))
        return folder

    return write


VECTOR = {"shape": [2], "kind": "vector"}
_WEIGHTS: dict[str, tuple[Callable[[Place], Path], str]] = {
    "code in an archive of torch": (
        content("weights.pt", lambda place: archive(pickle.dumps(Calls(exec, marked(place)), 2))),
        CODE,
    ),
    "code in a file of old versions of torch": (
        saved(lambda place: Calls(exec, marked(place)), _use_new_zipfile_serialization=False),
        CODE,
    ),
    "code among the weights": (
        saved(lambda place: {"first.weight": torch.ones(4, 3, 3, 3), "x": Calls(exec, marked(place))}),
        CODE,
    ),
    "TorchScript with code": (
        content(
            "weights.pt",
            lambda place: archive(b"\x80\x02}.", {"constants.pkl": b"\x80\x02).", "code/a.py": b"import os"}),
        ),
        "a program in TorchScript",
    ),
    "an archive of tar with ../": (tarred, "no file of torch|run code"),
    "a tuple of 2^60 numbers as a key": (
        content("weights.pt", archive(b"\x80\x02}" + doubled(60) + b"Ns.")),
        "no text or number|so often",
    ),
    f"more than {DEEPEST} tuples inside one another": (
        content("weights.pt", archive(b"\x80\x02N" + b"\x85" * 10**5 + b".")),
        "deep",
    ),
    "100 MB of zeros, compressed": (
        content("weights.pt", lambda _: archive(b"\x80\x02}.", {"data/0": bytes(10**8)}, zipfile.ZIP_BZIP2)),
        "compressed, which torch never writes",
    ),
    "a tensor that declares a terabyte": (
        content("weights.pt", lambda _: terabyte()),
        "cannot be read as weights",
    ),
    "a convolution of a billion channels in four bytes": (
        saved(lambda _: {"first.weight": torch.zeros(1).expand(4, 10**9, 3, 3)}),
        "is \\[4, 1000000000, 3, 3\\]",
    ),
    "a tensor without values": (
        saved(lambda _: {"first.weight": torch.empty(4, 3, 3, 3, device="meta")}),
        "meta tensor",
    ),
}
_SAFETENSORS: dict[str, tuple[bytes | Callable[[Place], bytes], str]] = {
    "a header of 2^63 bytes": (tensors(b"{}", 2**63), "cannot be read as weights"),
    "a header of a terabyte": (tensors(b"{}", 2**40), "cannot be read as weights"),
    "100,000 lists inside one another": (tensors(b'{"a":' + b"[" * 10**5), "cannot be read as weights"),
    "a tensor that declares a terabyte": (one([2**38], [0, 2**40]), "cannot be read as weights"),
    "a shape whose product overflows": (one([2**32, 2**32], [0, 16]), "cannot be read as weights"),
    "offsets that go back": (one([4], [16, 0]), "cannot be read as weights"),
    "offsets before the file": (one([4], [-16, 0]), "cannot be read as weights"),
    "a pickle with code": (lambda place: pickle.dumps(Calls(exec, marked(place))), "cannot be read"),
}
CASES = [
    *(Hostile("torch", tries, write, into_encoder, says) for tries, (write, says) in _WEIGHTS.items()),
    *(
        Hostile("safetensors", tries, content("weights.safetensors", raw), into_encoder, says)
        for tries, (raw, says) in _SAFETENSORS.items()
    ),
    Hostile(
        "checkpoint", "code, with a true digest", content("checkpoint.pt", sealed), load_checkpoint, CODE
    ),
    Hostile(
        "run",
        "a model that is subprocess.Popen",
        run_of("subprocess:Popen", {"touch": VECTOR, "MARK": VECTOR}),
        eq.load_run,
        "makes no model",
    ),
    Hostile(
        "run",
        "a model that is subprocess.call",
        run_of("subprocess:call", {"touch": VECTOR, "MARK": VECTOR}),
        eq.load_run,
        "makes no model",
    ),
]
