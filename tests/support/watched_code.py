"""A plugin of pytest that lets atheris watch the code of Equipoise; see `guided`."""

from __future__ import annotations

import atheris  # type: ignore[import-not-found]

# It stays in force: the tests import what they need later.
atheris.instrument_imports(include=["equipoise"], enable_loader_override=False).__enter__()
