"""What the instructions of a pickle would make, without making it: kinds, heights and sizes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

DEEPEST: Final = 100
"""Containers inside one another."""
_TIMES: Final = 100
_SPARE: Final = 1_000_000
"""Objects that a file refers to several times may count so many times its size, and this."""


class PickleRefused(Exception):  # noqa: N818
    """A pickle asks for what no pickle of arrays needs; the message is the middle of a sentence."""


class Described:
    """What an instruction would make.

    Attributes:
        kind: `"scalar"`, `"tuple"`, `"list"`, `"dict"`, `"set"`, `"name"` or `"made"`.
        height: of the containers in it; 0 for a scalar.
        size: of all that it holds, counted as often as it is referred to.
        text: a short text, or a name `module.name`.
        shared: whether something refers to it a second time.
    """

    __slots__ = ("height", "kind", "shared", "size", "text")

    def __init__(self, kind: str, height: int = 0, size: int = 1, text: str = "") -> None:
        self.kind, self.height, self.size, self.text = kind, height, size, text
        self.shared = False


class Pass:
    """The state of the pass: the stack with its marks, and the objects that were memoised."""

    def __init__(self, size: int, allowed: Collection[tuple[str, str]] | None) -> None:
        self.size, self.allowed = size, allowed
        self.stack: list[Described] = []
        self.marks: list[int] = []
        self.memo: dict[int, Described] = {}
        self.count = 0
        self.most = _TIMES * size + _SPARE

    def pop(self) -> Described:
        """Take the top of the stack."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("an instruction lacks its object")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Described]:
        """Take everything above the last mark, and the mark."""
        if not self.marks:
            raise ValueError("an instruction lacks its mark")
        place = self.marks.pop()
        found = self.stack[place:]
        del self.stack[place:]
        return found

    def push(self, kind: str, items: list[Described], height: int | None = None) -> None:
        """Push a container of `items`; `height` is that of what is no container."""
        made = Described(kind)
        self.fill(made, items)
        made.height = max(made.height, 1) if height is None else height
        self.stack.append(made)

    def fill(self, made: Described, items: list[Described]) -> None:
        """Add items to an object that nothing else refers to yet.

        So it cannot hold itself, nor grow after its height and size have been added to those of another.
        """
        if made.shared:
            raise PickleRefused("changes an object that another one holds")
        for item in items:
            made.height = max(made.height, item.height + 1)
            made.size += item.size
        if made.height > DEEPEST:
            raise PickleRefused(f"nests containers more than {DEEPEST} deep")
        if made.size > self.most:
            raise PickleRefused("holds the same objects so often that they outgrow the file")

    def put(self, place: int) -> None:
        """Memoise the top of the stack under a number."""
        # Picklers number the objects one by one; Python takes memory for all numbers up to the largest.
        if not 0 <= place <= self.count:
            raise PickleRefused(f"numbers an object {place}, of at most {self.count} so far")
        top = self.pop()
        self.stack.append(top)
        self.memo[place] = top

    def get(self, place: int) -> None:
        """Push a memoised object."""
        found = self.memo.get(place)
        if found is None:
            raise ValueError(f"there is no object {place}")
        found.shared = True
        self.stack.append(found)

    def name(self, module: str, name: str) -> None:
        """Push a function or class of that name, if it is allowed."""
        if self.allowed is not None and (module, name) not in self.allowed:
            raise PickleRefused(f"requests the Python object {f'{module}.{name}'!r}")
        self.stack.append(Described("name", text=f"{module}.{name}"))

    def dict_items(self, made: Described, items: list[Described]) -> None:
        """Add keys and values in turn to a dictionary."""
        if made.kind == "name":
            raise PickleRefused("tries to change a function")
        if made.kind not in ("dict", "made") or len(items) % 2:
            raise ValueError("entries without a dictionary or key")
        check_keys(items[::2], "a key of a dictionary")
        self.fill(made, items)

    def build(self) -> None:
        """Give the state on the stack to the array or dtype below it."""
        state, made = self.pop(), self.pop()
        if made.kind != "made":
            what = "a function" if made.kind == "name" else "an object that is no array"
            raise PickleRefused(f"tries to change {what}")
        self.fill(made, [state])
        self.stack.append(made)

    def reduce(self) -> None:
        """Call the function on the stack with the arguments above it."""
        arguments, function = self.pop(), self.pop()
        if function.kind != "name" or arguments.kind != "tuple":
            raise ValueError("a call without a function or its arguments")
        called = function.text.rpartition(".")[2]
        if called in ("set", "frozenset"):
            if arguments.height > 2:
                raise PickleRefused("has containers in a set")
            self.push("set", [arguments])
        elif called in ("scalar", "complex", "bytes", "bytearray", "encode"):
            self.push("scalar", [arguments], 0)
        else:
            self.push("made", [arguments])


def check_keys(keys: list[Described], what: str) -> None:
    """Refuse keys other than texts and numbers: a container is hashed with all that it holds."""
    if any(key.kind != "scalar" for key in keys):
        raise PickleRefused(f"has {what} that is no text or number")
