"""The page on the side effects of re-learning agrees with the code."""

from __future__ import annotations

import re
from typing import Any

import pytest

from equipoise.relearning.options import CHOICES, RelearnOptions
from page_blocks import ROOT, blocks

PAGE = ROOT / "docs" / "state-policy.md"


def test_every_choice_and_its_default_are_in_the_table() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## In each loop")[0]
    defaults = RelearnOptions()
    for option, known in CHOICES.items():
        row = next(line for line in table.splitlines() if f'{option}="' in line)
        named = set(re.findall(r'"([a-z]+)"', row))
        assert named == set(known) - ({"keep"} if option != "ema_policy" else set()), option
        assert getattr(defaults, option) == ("blend" if option == "ema_policy" else "keep")
    assert defaults.rewarm_steps == 0


def test_the_sizes_of_adams_steps_agree_with_the_page() -> None:
    names: dict[str, Any] = {}
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text, PAGE.name, "exec"), names)
    said = re.search(r"# \{'keep': ([\d.]+), 'scale': ([\d.]+), 'zero': ([\d.]+)\}", PAGE.read_text("utf-8"))
    assert said is not None
    assert [float(number) for number in said.groups()] == pytest.approx(
        list(names["adam"].values()), abs=0.05
    )
    assert names["relearn"].choices.optimizer_state == "zero"


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"`(?:tests/\w+/)?(test_\w+\.py)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) >= 8
    assert all(list((ROOT / "tests").rglob(name)) for name in named)
