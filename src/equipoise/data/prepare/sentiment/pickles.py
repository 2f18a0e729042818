"""Read an untrusted pickle of arrays safely.

A pickle is a program that calls functions by name. Here, names refer only to the few functions below, which
build arrays, dtypes and plain containers from checked arguments; nothing is imported.
"""

from __future__ import annotations

import math
import os
import pickle
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from equipoise.data.prepare.media.files import MediaError, check_media
from equipoise.files.limits import check_machine
from equipoise.files.pickle_pass import PickleRefused
from equipoise.files.pickle_scan import scan
from equipoise.files.untrusted import first_line
from equipoise.types import DataError

_DTYPE: Final = re.compile(r"[<>|=]?[biufcSUO]\d*")
_OTHERS: Final = (b"PK\x03\x04", b"\x89HDF", b"\x93NUMPY", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_STRANGE: Final = "holds an array that is not encoded as by NumPy"
_DISTRUST: Final = (
    "which no pickle of arrays and plain containers does, and which may do harm; do not open this file with "
    "other software: get it from its source, or have its owner save only arrays and plain containers"
)


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle that holds NumPy arrays, plain containers, texts and numbers.

    Pickles of Python 2 are read too, with texts in Latin-1. The file is read as a stream, and arrays use the
    bytes read without a copy: memory is about the size of the file, plus twice the largest array if Python 3
    wrote it with protocol 2 or lower.

    Args:
        path: the file.

    Returns:
        Dictionaries, lists, tuples, sets, texts, bytes, numbers, None, and arrays of numbers, texts or
        objects of these kinds.

    Raises:
        DataError: it requests another object, such as a function; no such object is called or imported.
        MediaError: the file is missing, empty, a Git LFS pointer, truncated or not a pickle.
    """
    file = os.fspath(path)
    check_media(file)
    try:
        with Path(file).open("rb") as stream:
            if stream.peek(8).startswith(_OTHERS):
                raise ValueError("it has the first bytes of another format")
            scan(stream, os.fstat(stream.fileno()).st_size, _MAKERS.keys())
            stream.seek(0)
            return _plain(_Unpickler(stream, encoding="latin1").load(), {})
    except PickleRefused as refused:
        raise DataError(f"{file} {refused}, {_DISTRUST}.") from None
    except MemoryError:
        raise DataError(
            f"{file} needs more memory than available, or is damaged; use a larger machine, or download it "
            "again."
        ) from None
    except OSError as error:
        check_machine(error)
        raise MediaError(file, "unreadable", f"cannot be read ({error})") from error
    except Exception as error:  # a damaged pickle can raise any error
        if isinstance(error, EOFError) or "truncated" in str(error):
            raise MediaError(file, "truncated", "ends within the pickle") from None
        found = f"is not a pickle, or is damaged ({type(error).__name__}: {first_line(error)})"
        raise MediaError(file, "wrong-format", found) from error


class _Unpickler(pickle.Unpickler):
    """Finds only the functions below by exact name; dotted and attribute names are refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _MAKERS[module, name]
        except KeyError:
            raise PickleRefused(f"requests the Python object {f'{module}.{name}'!r}") from None

    def persistent_load(self, pid: Any) -> NoReturn:
        raise PickleRefused(f"refers to something outside itself ({pid!r})")


class _Maker:
    """A wrapped function for a pickle: it can be called, but has no attributes to read or set."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise PickleRefused("tries to change a function")


class _Dtype:
    """A dtype under construction; flags and fields of a pickled dtype could turn numbers into objects."""

    __slots__ = ("value",)

    def __init__(self, text: Any, *_: Any) -> None:
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise PickleRefused(f"holds an array of the type {text!r}")
        self.value: np.dtype[Any] = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        _, order, *compound = state[:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in compound):
            raise PickleRefused("holds an array of a compound type")
        if order in "<>":
            self.value = self.value.newbyteorder(order)


class _Array:
    """An array that a pickle fills once.

    It is not yet a NumPy array: NumPy's `__setstate__` trusts the pickle, and can crash the process.
    """

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *_: Any) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        *_, shape, dtype, fortran, content = state
        if self.value is not None:
            raise PickleRefused(_STRANGE)
        self.value = _filled(content, dtype, shape, "F" if fortran else "C")


def _filled(content: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> NDArray[Any]:
    """Create an array from bytes (not copied) or from a list of objects, after all checks."""
    if not isinstance(dtype, _Dtype) or not _is_shape(shape):
        raise PickleRefused(_STRANGE)
    if isinstance(content, str):  # Python 2
        content = content.encode("latin1")
    if not isinstance(content, list if dtype.value.hasobject else (bytes, bytearray)):
        raise PickleRefused(_STRANGE)
    if len(content) != math.prod(shape) * (1 if dtype.value.hasobject else dtype.value.itemsize):
        raise ValueError(f"an array of shape {shape} has {len(content)} bytes or objects")
    if not content:
        return np.empty(shape, dtype.value)
    if dtype.value.hasobject:
        array = np.empty(len(content), dtype=object)
        for place, item in enumerate(content):
            array[place] = item
    else:
        raw: Any = content
        array = np.frombuffer(raw, dtype.value)
    if dtype.value.kind == "U":
        array[:].tolist()  # raises ValueError for an invalid character
    return array.reshape(shape, order=order)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)


def _buffer_array(content: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> NDArray[Any]:
    array = _filled(content, dtype, shape, "F" if order == "F" else "C")
    return array.transpose(axis_order) if order == "K" and axis_order is not None else array


def _scalar(dtype: Any, content: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or dtype.value.hasobject:
        raise PickleRefused(_STRANGE)
    raw = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(raw, dtype.value, count=1)[0]


def _encoded(text: str, encoding: str = "latin1", *_: Any) -> bytes:
    if not isinstance(text, str) or encoding.lower().replace("-", "") != "latin1":
        raise PickleRefused(f"requests the encoding {encoding!r}")
    return text.encode("latin1")


def _bytes(content: Any = b"", encoding: str = "latin1") -> bytes:
    # bytes(n) would let a short pickle allocate any amount of memory
    return content if isinstance(content, bytes) else _encoded(content, encoding)


def _bytearray(content: Any = b"", encoding: str = "latin1") -> bytearray:
    return bytearray(_bytes(content, encoding))


def _nothing(*_: Any) -> NoReturn:
    raise PickleRefused(_STRANGE)


_BY_ARRAY_MODULE: Final[dict[str, dict[str, Callable[..., Any]]]] = {
    "multiarray": {"_reconstruct": _Array, "scalar": _scalar},
    "numeric": {"_frombuffer": _buffer_array},
}
_BY_BUILTIN: Final[dict[str, Callable[..., Any]]] = {
    "set": set,
    "frozenset": frozenset,
    "complex": complex,
    "bytes": _bytes,
    "bytearray": _bytearray,
}
_MAKERS: Final[dict[tuple[str, str], _Maker]] = {
    ("numpy", "ndarray"): _Maker(_nothing),  # an argument of _reconstruct; nothing calls it
    ("numpy", "dtype"): _Maker(_Dtype),
    ("_codecs", "encode"): _Maker(_encoded),
    ("collections", "OrderedDict"): _Maker(dict),
    **{
        (f"numpy.{core}.{part}", name): _Maker(make)
        for core, (part, makers) in product(("core", "_core"), _BY_ARRAY_MODULE.items())
        for name, make in makers.items()
    },
    **{
        (module, name): _Maker(make)
        for module, (name, make) in product(("builtins", "__builtin__"), _BY_BUILTIN.items())
    },
}


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """Check that a value is plain, and replace `_Array` by its array; `done` is keyed by identity.

    Containers are changed in place, so that no large object exists twice. `scan` has limited their nesting.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, bytearray, np.generic)):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, (np.ndarray, _Array)):
        array = value if isinstance(value, np.ndarray) else value.value
        if array is None:
            raise PickleRefused(_STRANGE)
        done[id(value)] = done[id(array)] = array
        if array.dtype.hasobject:
            for place in np.ndindex(array.shape):
                array[place] = _plain(array[place], done)
        return array
    if isinstance(value, (dict, list)):
        done[id(value)] = value
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _plain(key, done)
            value[key] = _plain(item, done)
        return value
    if isinstance(value, (tuple, set, frozenset)):
        kind = tuple if isinstance(value, tuple) else type(value)
        done[id(value)] = kind(_plain(item, done) for item in value)
        # Keep the replaced object alive: a new object could get its address, and thus its identity.
        done[-id(value)] = value
        return done[id(value)]
    raise PickleRefused("holds a function instead of a value")
