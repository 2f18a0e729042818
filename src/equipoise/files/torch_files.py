"""Read files of `torch.save` that others wrote.

`torch.load` with `weights_only` runs no code in a file, but does what its pickle says: it hashes a tuple that
holds another one twice, sixty times over, without an end. And it expands compressed archives, which
`torch.save` never writes.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, Final

from equipoise.files.pickle_pass import PickleRefused
from equipoise.files.pickle_scan import scan

_PICKLES: Final = 5
"""Of a file of old versions, one after the other; before their values come the bytes of the tensors."""


def load_tensors(path: Path) -> Any:
    """Return the tensors and plain values of a file, on the CPU; no code in it is run.

    Raises:
        OSError, ValueError, Exception: it cannot be read; for `equipoise.files.untrusted.parsing`.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
        else:
            with path.open("rb") as file:
                for _ in range(_PICKLES):
                    scan(file, path.stat().st_size, None)
    except PickleRefused as refused:
        raise pickle.UnpicklingError(f"it {refused}") from None
    except (EOFError, ValueError) as error:
        found = f" ({error})" if str(error) else ""
        raise ValueError(f"it is no file of torch, or damaged{found}") from None
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise PickleRefused(f"holds {member.filename!r} compressed, which torch never writes")
            if member.filename.endswith("constants.pkl"):
                raise PickleRefused("holds a program in TorchScript")
            if member.filename.endswith("data.pkl"):
                with archive.open(member) as file:
                    scan(file, member.file_size, None)
