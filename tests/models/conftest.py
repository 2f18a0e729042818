"""Seeds each test of this room, so that it draws the same numbers alone or among others."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
