"""The page on methods in user-defined loops lists exactly the methods that work there."""

from __future__ import annotations

import re
from pathlib import Path

from against_trainer import FITTING
from equipoise.methods import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "integrations" / "methods.md"


def test_it_lists_supported_and_unsupported_methods() -> None:
    text = PAGE.read_text(encoding="utf-8").split("## Which methods")[1]
    work, refused = text.split("The others raise")
    assert set(re.findall("`([a-z0-9-]+)`", work.split("With the same data")[0])) == set(FITTING)
    named = set(re.findall("`([a-z0-9-]+)`", refused.split("`equipoise.fit`")[0]))
    assert named == set(METHODS) - set(FITTING) - {"diagnose-relearn", "diagnose-relearn-plus"}
