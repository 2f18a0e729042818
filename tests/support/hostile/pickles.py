"""Pickles with each instruction that can call something, or let memory grow."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import numpy as np

from equipoise.data.prepare.sentiment.pickles import read_pickle
from hostile.case import Hostile, Place, content

HEAD = b"\x80\x04"
NOT_ALLOWED = "requests the Python object '{}'"


def text(value: str) -> bytes:
    """Return the instruction that pushes a text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def named(module: str, name: str) -> bytes:
    """Return the instructions that push a function or class, by its name on the stack."""
    return text(module) + text(name) + b"\x93"


def doubled(times: int) -> bytes:
    """Return the instructions for ((((1, 1), (1, 1)), ...), which holds 2^times numbers."""
    return b"K\x01" + b"".join(b"q%ch%c\x86" % (place, place) for place in range(1, times + 1))


class Calls:
    """Its pickle is a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def loads(place: Place) -> bytes:
    """A call of numpy.load, of an array of objects that is a call itself."""
    np.save(
        place.given / "inner.npy", np.array([Calls(exec, marked(place))], dtype=object), allow_pickle=True
    )
    return pickle.dumps(Calls(np.load, str(place.given / "inner.npy"), None, True))


def marked(place: Place) -> str:
    """Return a program in Python that leaves the mark."""
    return f"open({str(place.mark)!r}, 'w').close()"


FORGED = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"
    b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x08" + struct.pack("<Q", 16) + b"tb."
)

_CASES: dict[str, tuple[Any, str]] = {
    "GLOBAL and REDUCE call os.system": (
        lambda place: f"cos\nsystem\n(S'{place.program}'\ntR.".encode(),
        NOT_ALLOWED.format("os.system"),
    ),
    "STACK_GLOBAL and REDUCE call exec": (
        lambda place: HEAD + named("builtins", "exec") + text(marked(place)) + b"\x85R.",
        NOT_ALLOWED.format("builtins.exec"),
    ),
    "INST calls os.system": (
        lambda place: f"(S'{place.program}'\nios\nsystem\n.".encode(),
        NOT_ALLOWED.format("os.system"),
    ),
    "OBJ calls os.system": (
        lambda place: f"(cos\nsystem\nS'{place.program}'\no.".encode(),
        NOT_ALLOWED.format("os.system"),
    ),
    "NEWOBJ makes a subprocess.Popen": (
        lambda place: (
            HEAD
            + named("subprocess", "Popen")
            + b"]("
            + b"".join(map(text, place.program.split()))
            + b"e\x85\x81."
        ),
        NOT_ALLOWED.format("subprocess.Popen"),
    ),
    "NEWOBJ of a class that is allowed": (b"\x80\x02c__builtin__\nset\n)\x81.", "NEWOBJ"),
    "NEWOBJ_EX makes a subprocess.Popen": (
        lambda place: HEAD + named("subprocess", "Popen") + text(place.program) + b"\x85}\x92.",
        NOT_ALLOWED.format("subprocess.Popen"),
    ),
    "BUILD changes the code of a function": (
        b"\x80\x02c_codecs\nencode\n}X\x08\x00\x00\x00__code__NsbS'x'\n.",
        "change a function",
    ),
    "EXT1 calls from the registry of extensions": (b"\x80\x02\x82\x01.", "EXT1"),
    "EXT2 calls from the registry of extensions": (b"\x80\x02\x83\x01\x00.", "EXT2"),
    "EXT4 calls from the registry of extensions": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
    "PERSID refers to something outside": (b"Psecret\n.", "outside itself"),
    "BINPERSID refers to something outside": (b"\x80\x02X\x06\x00\x00\x00secretQ.", "outside itself"),
    "NEXT_BUFFER takes a buffer from outside": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "numpy.load opens a second file with code": (loads, "requests the Python object"),
    "a name with dots reaches os.system": (
        lambda place: HEAD + named("numpy", "f2py.os.system") + text(place.program) + b"\x85R.",
        NOT_ALLOWED.format("numpy.f2py.os.system"),
    ),
    "getattr of an import": (
        pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system")),
        NOT_ALLOWED.format("builtins.getattr"),
    ),
    "an array of objects whose bytes are addresses": (FORGED, "array"),
    "bytearray of a number takes a terabyte": (
        b"\x80\x02cbuiltins\nbytearray\nL1099511627776L\n\x85R.",
        "encoding|text|pickle",
    ),
    "LONG_BINPUT of 2^28 grows the memo": (b"\x80\x02Nr\x00\x00\x00\x10.", "numbers an object"),
    "PUT of 2^60 grows the memo": (b"\x80\x02Np1152921504606846976\n.", "numbers an object"),
    "BINUNICODE8 declares a terabyte": (HEAD + b"\x8d" + struct.pack("<Q", 2**40) + b"a.", "ends within"),
    "BINBYTES8 declares a terabyte": (HEAD + b"\x8e" + struct.pack("<Q", 2**40) + b"a.", "ends within"),
    "BYTEARRAY8 declares 2^62 bytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"a.", "ends within"),
    "FRAME declares a terabyte": (HEAD + b"\x95" + struct.pack("<Q", 2**40) + b"N.", "ends within"),
    "LONG4 of a number without an end": (b"\x80\x02\x8b\x00\x01\x00\x00" + b"\x7f" * 256 + b".", "LONG4"),
    "DUP doubles without an end": (b"\x80\x02]" + b"2" * 1000 + b".", "DUP"),
    "a tuple of 2^60 numbers as a key": (b"\x80\x02}" + doubled(60) + b"Ns.", "no text or number|so often"),
    "a list of 2^60 numbers": (b"\x80\x02" + doubled(60) + b".", "so often"),
    "a million tuples inside one another": (b"\x80\x02N" + b"\x85" * 10**6 + b".", "100 deep"),
    "a list that holds itself": (b"\x80\x02]q\x01h\x01a.", "another one holds"),
}

CASES = [
    Hostile("pickle", tries, content("data.pkl", raw), read_pickle, says)
    for tries, (raw, says) in _CASES.items()
]
