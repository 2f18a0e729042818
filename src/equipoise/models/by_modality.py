"""Modules by modality, whose weights are named by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from torch import nn


class ModulesByModality(nn.Module, Mapping[str, nn.Module]):
    """A mapping of modality to module; in a state dict the weights of `audio` are named `audio.…`.

    A modality may have any name, but torch allows neither a dot in the name of a module nor a name that is
    an attribute. These are written as in a URL: `a.b` as `a%2Eb`, `train` as `%74rain`.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._keys: dict[str, str] = {}
        keys = {modality: self._key(modality) for modality in modules}
        for modality, module in modules.items():
            self.add_module(keys[modality], module)
        self._keys = keys

    def _key(self, modality: str) -> str:
        key = modality.replace("%", "%25").replace(".", "%2E")
        return f"%{ord(key[0]):02X}{key[1:]}" if hasattr(self, key) else key

    def __getitem__(self, modality: str) -> nn.Module:
        return self.get_submodule(self._keys[modality])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = nn.Module.__hash__

    def present_name(self, name: str, *, numbered: bool) -> str:
        """Return the name of a tensor in the state dict of these modules.

        Args:
            name: its name in a state dict of another version: which names are attributes depends on torch.
            numbered: whether the modules were a list in it.
        """
        found, dot, rest = name.partition(".")
        known = {str(number): m for number, m in enumerate(self)} if numbered else {m: m for m in self}
        modality = known.get(found if numbered else unquote(found))
        return name if modality is None else f"{self._keys[modality]}{dot}{rest}"

    def numbered_name(self, name: str) -> str:
        """Return the name that a tensor would have if the modules were a list."""
        found, dot, rest = name.partition(".")
        return f"{list(self._keys.values()).index(found)}{dot}{rest}"
