"""Read tables in Parquet, whose encodings write a value that is repeated only once, however often."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from equipoise.files import parquet_trial
from equipoise.files.arrays import SHRUNK

TEXTS: Final = ("string", "large_string", "binary", "large_binary")
"""Types of Arrow."""
FEW_BYTES: Final = 2**24
"""Lists may always grow to so much."""
SECONDS: Final = 30
"""For the trial of lists, and one more for each `RATE` bytes of the file."""
RATE: Final = 2**20


def read_parquet(path: Path) -> pd.DataFrame:
    """Return a table, of which equal texts are one object.

    Numbers of rows are compared with the size of the file. Columns of lists, whose entries are not counted
    anywhere, are first read in another process. What is said of single columns is not asked for here: pyarrow
    ends the process where that is damaged.

    Raises:
        OSError, ValueError, Exception: it cannot be read, or would grow beyond what its size allows.
    """
    from pyarrow import parquet

    held, size = parquet.read_metadata(path), path.stat().st_size
    rows = sum(held.row_group(group).num_rows for group in range(held.num_row_groups))
    if 8 * (values := rows * held.num_columns) > SHRUNK * size:
        raise ValueError(f"it declares {values} values in a file of {size} bytes")
    schema = parquet.read_schema(path)
    if lists := [field.name for field in schema if not _is_flat(field.type)]:
        _try(path, max(FEW_BYTES, SHRUNK * size), SECONDS + size // RATE, lists)
    texts = [field.name for field in schema if str(field.type) in TEXTS]
    table = pd.read_parquet(path, read_dictionary=texts)
    return table.astype({name: object for name in texts if name in table.columns})


def _is_flat(kind: Any) -> bool:
    """Return whether a type of Arrow has one value of bounded size in each row, or one kept only once."""
    from pyarrow import types

    return types.is_primitive(kind) or types.is_dictionary(kind) or str(kind) in TEXTS


def _try(path: Path, most: int, seconds: int, columns: Sequence[str]) -> None:
    """Read columns in another process; raise ValueError if they grow to more than `most` bytes."""
    words = [sys.executable, "-P", parquet_trial.__file__, str(path.absolute()), str(most), str(seconds)]
    paths = os.pathsep.join(filter(None, sys.path))
    ended = subprocess.run(
        [*words, *columns],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if ended.returncode:
        code = ended.returncode
        how = next((one.name for one in signal.Signals if one == -code), f"code {code}")
        raise ValueError(f"it ends the process that decodes it ({how})")
    if ended.stdout:
        raise ValueError(ended.stdout.decode("utf-8", "replace"))
