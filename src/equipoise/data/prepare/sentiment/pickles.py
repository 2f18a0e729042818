"""Read a pickle of arrays without trusting it.

A pickle is a program: it names functions and has them called. Here the names lead nowhere but to the few
makers below, which build arrays, dtypes and plain containers out of checked arguments; nothing is imported.
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

from equipoise.data.prepare.media.errors import MediaError
from equipoise.data.prepare.media.files import check_media
from equipoise.types import DataError

_DTYPE: Final = re.compile(r"[<>|=]?[biufcSUO]\d*")
_DEEPEST: Final = 100
_OTHERS: Final = (b"PK\x03\x04", b"\x89HDF", b"\x93NUMPY", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_STRANGE: Final = "holds an array that is written in no way that NumPy writes one"
_AGAIN: Final = "download it again from where it came from"
_DISTRUST: Final = (
    "which is neither an array nor a plain container and may run code; do not open this file with anything "
    "else: get it from its source, or have its owner save arrays and plain containers only"
)


class _RefusedError(Exception):
    """What a pickle asks for and does not get, as the middle of a sentence."""


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle that holds NumPy arrays, plain containers, texts and numbers.

    Pickles of Python 2 are read too; their texts are taken as Latin-1. The file is read as a stream, and an
    array keeps the bytes that were read for it: memory stays at about the size of the file, plus, where
    Python 3 wrote protocol 2 or lower, twice the largest array.

    Args:
        path: the file.

    Returns:
        Dictionaries, lists, tuples, sets, texts, bytes, numbers, None, and arrays of numbers, texts or
        objects of these kinds.

    Raises:
        DataError: it asks for anything else, such as a function. Nothing of the kind is called or imported.
        MediaError: the file is missing, empty, a Git LFS pointer, cut short or no pickle.
    """
    file = os.fspath(path)
    check_media(file)
    try:
        with Path(file).open("rb") as stream:
            if stream.peek(8).startswith(_OTHERS):
                raise ValueError("it begins as another kind of file does")
            return _plain(_Unpickler(stream, encoding="latin1").load(), {}, 0)
    except _RefusedError as refused:
        raise DataError(f"{file} {refused}, {_DISTRUST}.") from None
    except EOFError:
        raise _truncated(file) from None
    except MemoryError:
        raise DataError(
            f"{file} needs more memory than there is, or is damaged; use a larger machine, or {_AGAIN}."
        ) from None
    except OSError as error:
        raise MediaError(file, "unreadable", f"cannot be read ({error})", _AGAIN) from error
    except Exception as error:  # a damaged pickle fails in whatever operation the damage happens to spell
        if "truncated" in str(error):
            raise _truncated(file) from None
        found = f"is no pickle, or a damaged one ({type(error).__name__}: {' '.join(str(error).split())})"
        raise MediaError(file, "wrong-format", found, _AGAIN) from error


class _Unpickler(pickle.Unpickler):
    """Knows the makers by exact name only, so that dotted and attribute names lead nowhere."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _MAKERS[module, name]
        except KeyError:
            raise _RefusedError(f"asks for the Python object {f'{module}.{name}'!r}") from None

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _RefusedError(f"refers to something outside itself ({pid!r})")


class _Maker:
    """A function as a pickle gets it: to be called, and with nothing that a pickle could set or read."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise _RefusedError("tries to alter a function")


class _Dtype:
    """A dtype in the making; flags and fields of a pickled one could make numbers pass for objects."""

    __slots__ = ("_dtype",)

    def __init__(self, text: Any, *_: Any) -> None:
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise _RefusedError(f"holds an array of the type {text!r}")
        self._dtype = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        _, order, *compound = state[:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in compound):
            raise _RefusedError("holds an array of a compound type")
        if order in "<>":
            self._dtype = self._dtype.newbyteorder(order)

    @property
    def value(self) -> np.dtype[Any]:
        return self._dtype


class _Array:
    """An array that a pickle fills, once.

    It is no NumPy array yet: what fills those believes whatever a pickle says, and can end the process.
    """

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, *_: Any) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        *_, shape, dtype, fortran, content = state
        if self.value is not None:
            raise _RefusedError(_STRANGE)
        self.value = _filled(content, dtype, shape, "F" if fortran else "C")


def _filled(content: Any, dtype: Any, shape: Any, order: Literal["C", "F"]) -> NDArray[Any]:
    """Make an array of bytes (kept, not copied) or of a list of objects, after all checks."""
    if not isinstance(dtype, _Dtype) or not _is_shape(shape):
        raise _RefusedError(_STRANGE)
    if isinstance(content, str):  # Python 2
        content = content.encode("latin1")
    if not isinstance(content, list if dtype.value.hasobject else (bytes, bytearray)):
        raise _RefusedError(_STRANGE)
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
        array[:].tolist()  # fails where a number is no character
    return array.reshape(shape, order=order)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)


def _buffer_array(content: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> NDArray[Any]:
    array = _filled(content, dtype, shape, "F" if order == "F" else "C")
    return array.transpose(axis_order) if order == "K" and axis_order is not None else array


def _scalar(dtype: Any, content: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or dtype.value.hasobject:
        raise _RefusedError(_STRANGE)
    raw = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(raw, dtype.value, count=1)[0]


def _encoded(text: str, encoding: str = "latin1", *_: Any) -> bytes:
    if not isinstance(text, str) or encoding.lower().replace("-", "") != "latin1":
        raise _RefusedError(f"asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _bytes(content: Any = b"", encoding: str = "latin1") -> bytes:
    # bytes(n) would allocate as much memory as a few characters of pickle ask for
    return content if isinstance(content, bytes) else _encoded(content, encoding)


def _bytearray(content: Any = b"", encoding: str = "latin1") -> bytearray:
    return bytearray(_bytes(content, encoding))


def _nothing(*_: Any) -> NoReturn:
    raise _RefusedError(_STRANGE)


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


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    """Check that what was read is plain, replacing arrays in the making; `done` is keyed by identity.

    Containers are altered in place, so that nothing large is held twice.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, bytearray, np.generic)):
        return value
    if id(value) in done:
        return done[id(value)]
    if depth > _DEEPEST:
        raise _RefusedError(f"nests containers more than {_DEEPEST} deep")
    if isinstance(value, (np.ndarray, _Array)):
        array = value if isinstance(value, np.ndarray) else value.value
        if array is None:
            raise _RefusedError(_STRANGE)
        done[id(value)] = done[id(array)] = array
        if array.dtype.hasobject:
            for place in np.ndindex(array.shape):
                array[place] = _plain(array[place], done, depth + 1)
        return array
    if isinstance(value, dict):
        done[id(value)] = value
        for key in value:
            _plain(key, done, depth + 1)
            value[key] = _plain(value[key], done, depth + 1)
        return value
    if isinstance(value, list):
        done[id(value)] = value
        for index, item in enumerate(value):
            value[index] = _plain(item, done, depth + 1)
        return value
    if isinstance(value, (tuple, set, frozenset)):
        kind = tuple if isinstance(value, tuple) else type(value)
        done[id(value)] = kind(_plain(item, done, depth + 1) for item in value)
        # What was replaced must outlive the walk: a new object at its address would be taken for it.
        done[-id(value)] = value
        return done[id(value)]
    raise _RefusedError("holds a function instead of a value")


def _truncated(file: str) -> MediaError:
    return MediaError(file, "truncated", "ends before the pickle does", _AGAIN)
