"""What a run was made with: versions and machine."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def environment(device: object) -> dict[str, Any]:
    """Return versions and machine, for the record of every run."""
    names = ("equipoise", "torch", "numpy", "scikit-learn", "lightning-fabric")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "device": str(device),
        "versions": {name: version(name) for name in names},
        "command": Path(sys.argv[0]).name if sys.argv else "",
    }
