"""Follow the instructions of a pickle without carrying them out.

The unpickler of Python does what a file says: it takes memory for a number in the file, hashes keys that hold
themselves 2^50 times, and overflows its stack. This pass, linear in the size of the file, accepts only what
picklers write for arrays, tensors and plain containers.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection
from typing import IO, Any, Final

from equipoise.files.pickle_pass import Described, Pass, PickleRefused, check_keys

_LONGEST_NAME: Final = 200

_TEXTS: Final = (
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
_SCALARS: Final = (
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("FLOAT", "BINFLOAT", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_LENGTHS: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
"""Kind of an argument to the bytes of its length, which come first."""
_BY_CODE: Final = {ord(one.code): one for one in pickletools.opcodes}


def _append(state: Pass, items: list[Described]) -> None:
    made = state.pop()
    if made.kind != "list":
        raise ValueError("entries without a list")
    state.fill(made, items)
    state.stack.append(made)


def _set_items(state: Pass, items: list[Described]) -> None:
    made = state.pop()
    state.dict_items(made, items)
    state.stack.append(made)


def _add_items(state: Pass, _: Any) -> None:
    items, made = state.pop_to_mark(), state.pop()
    if made.kind != "set":
        raise ValueError("entries without a set")
    check_keys(items, "an entry of a set")
    state.fill(made, items)
    state.stack.append(made)


def _set_item(state: Pass, _: Any) -> None:
    value, key = state.pop(), state.pop()
    _set_items(state, [key, value])


def _dict(state: Pass, _: Any) -> None:
    items = state.pop_to_mark()
    state.push("dict", [])
    _set_items(state, items)


def _frozenset(state: Pass, _: Any) -> None:
    items = state.pop_to_mark()
    check_keys(items, "an entry of a set")
    state.push("set", items)


def _tuple_of(count: int) -> Callable[[Pass, Any], None]:
    return lambda state, _: state.push("tuple", [state.pop() for _ in range(count)])


def _global(state: Pass, argument: bytes) -> None:
    module, _, name = argument.decode("utf-8").rstrip("\n").partition("\n")
    state.name(module, name)


def _inst(state: Pass, argument: bytes) -> None:
    _global(state, argument)
    raise PickleRefused("has the instruction INST")


def _stack_global(state: Pass, _: Any) -> None:
    name, module = state.pop(), state.pop()
    state.name(module.text, name.text)


def _text(state: Pass, argument: bytes) -> None:
    state.stack.append(Described("scalar", text=argument.decode("utf-8", "replace")))


def _scalar(state: Pass, _: Any) -> None:
    state.stack.append(Described("scalar"))


def _outside(state: Pass, argument: bytes) -> None:
    if state.allowed is not None:
        raise PickleRefused(f"refers to something outside itself ({argument.decode('latin-1').strip()!r})")
    state.push("made", [] if argument else [state.pop()])  # the bytes of a tensor, to torch


def _number(argument: bytes) -> int:
    return int.from_bytes(argument, "little")


_DO: Final[dict[str, Callable[[Pass, Any], None]]] = {
    **dict.fromkeys(_SCALARS, _scalar),
    **dict.fromkeys(_TEXTS, _text),
    "PROTO": lambda _, __: None,
    "FRAME": lambda _, __: None,
    "MARK": lambda state, _: state.marks.append(len(state.stack)),
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": lambda state, _: state.push("tuple", state.pop_to_mark()),
    "EMPTY_LIST": lambda state, _: state.push("list", []),
    "LIST": lambda state, _: state.push("list", state.pop_to_mark()),
    "APPEND": lambda state, _: _append(state, [state.pop()]),
    "APPENDS": lambda state, _: _append(state, state.pop_to_mark()),
    "EMPTY_DICT": lambda state, _: state.push("dict", []),
    "DICT": _dict,
    "SETITEM": _set_item,
    "SETITEMS": lambda state, _: _set_items(state, state.pop_to_mark()),
    "EMPTY_SET": lambda state, _: state.push("set", []),
    "ADDITEMS": _add_items,
    "FROZENSET": _frozenset,
    "PUT": lambda state, argument: state.put(int(argument)),
    "BINPUT": lambda state, argument: state.put(_number(argument)),
    "LONG_BINPUT": lambda state, argument: state.put(_number(argument)),
    "MEMOIZE": lambda state, _: state.put(len(state.memo)),
    "GET": lambda state, argument: state.get(int(argument)),
    "BINGET": lambda state, argument: state.get(_number(argument)),
    "LONG_BINGET": lambda state, argument: state.get(_number(argument)),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "INST": _inst,
    "REDUCE": lambda state, _: state.reduce(),
    "BUILD": lambda state, _: state.build(),
    "PERSID": _outside,
    "BINPERSID": _outside,
}


def scan(stream: IO[bytes], size: int, allowed: Collection[tuple[str, str]] | None) -> None:
    """Check a pickle of `size` bytes; `allowed` are module and name of what it may call.

    None leaves it to torch what a pickle may call, and refer to outside itself.

    Raises:
        PickleRefused: an instruction, a name, the nesting or a number is none that such files need.
        EOFError: it ends too early, or declares more bytes than it has.
        ValueError: it is no pickle.
    """
    state = Pass(size, allowed)
    while code := stream.read(1):
        found = _BY_CODE.get(code[0])
        if found is None:
            raise ValueError(f"byte {stream.tell() - 1} is no instruction")
        if found.name == "STOP":
            state.pop()
            return
        argument, length = _argument(stream, found.arg, size)
        if found.name == "FRAME" and _number(argument) > size - stream.tell():
            raise EOFError
        if found.name not in _DO:
            raise PickleRefused(f"has the instruction {found.name}")
        state.count += 1
        _DO[found.name](state, argument)
        if length:
            state.stack[-1].size += length
    raise EOFError


def _argument(stream: IO[bytes], kind: Any, size: int) -> tuple[bytes, int]:
    """Read the argument of an instruction; return it, or nothing of a long text, and the length of a text."""
    if kind is None:
        return b"", 0
    if kind.n == pickletools.UP_TO_NEWLINE:
        lines = [stream.readline() for _ in range(2 if kind.name == "stringnl_noescape_pair" else 1)]
        if not lines[-1].endswith(b"\n"):
            raise EOFError
        length = len(lines[0]) if kind.name in ("stringnl", "unicodestringnl") else 0
        return b"" if length > _LONGEST_NAME else b"".join(lines), length
    length, text = kind.n, kind.n in _LENGTHS
    if text:
        prefix = stream.read(_LENGTHS[kind.n])
        length = _number(prefix)
    if length > size - stream.tell():
        raise EOFError
    if length > _LONGEST_NAME:
        stream.seek(length, 1)
        return b"", length
    return stream.read(length), length if text else 0
