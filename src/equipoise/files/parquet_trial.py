"""Reads columns of a Parquet file, in a process of its own, to see what they grow to.

Usage: parquet_trial.py FILE BYTES SECONDS COLUMN...

The number of entries of a list is known only when it has been decoded, and pyarrow ends a process where the
description of a column is damaged. So whatever happens here happens to no process of the user's. The line
that is printed says what is wrong; there is none where all is well.

It is started as a file, without the rest of the package, and so in little time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOM = 2**28
"""Bytes that decoding may take beside what is decoded."""


def main(path: str, most: int, seconds: int, columns: list[str]) -> str:
    """Return what is wrong with a file, or nothing."""
    import pyarrow as pa
    from pyarrow import parquet

    pa.set_memory_pool(pa.system_memory_pool())  # the others reserve more than they use
    _limit(most + ROOM, seconds)
    try:
        held = 0
        for batch in parquet.ParquetFile(path).iter_batches(1024, columns=columns, use_threads=False):
            held += sum(map(_bytes, batch.columns))
            if held > most:
                return _grows(most)
    except MemoryError:
        return _grows(most)
    except Exception as error:  # pyarrow has any kind for a damaged file
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _grows(most: int) -> str:
    return (
        f"its lists grow to more than {most} bytes, too many for its size: if that is right, write it "
        "without dictionary and compression"
    )


def _limit(more: int, seconds: int) -> None:
    """Let this process take no more than so many bytes and seconds, where the system can do that."""
    try:
        import resource

        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = held + more if hard == resource.RLIM_INFINITY else min(hard, held + more)
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, OSError, ValueError):  # Windows, macOS, or there are lower ones
        pass


def _bytes(array: Any) -> int:
    """Return the bytes that an array takes at least in a table of pandas, where a cell is an object."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_struct(kind):
        inside = array.flatten()
    elif pa.types.is_map(kind):
        inside = [array.keys, array.items]
    elif pa.types.is_nested(kind):
        inside = [array.flatten()]
    else:
        return max(8 * len(array), int(array.nbytes))
    return 8 * len(array) + sum(map(_bytes, inside))


if __name__ == "__main__":
    found = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    sys.stdout.buffer.write(found.encode("utf-8", "replace"))
