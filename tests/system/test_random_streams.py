"""In a new process, with nothing imported yet, a diagnosis does not change the caller's random streams."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import random
import numpy as np
import torch
import equipoise as eq

z, y = torch.randn(40, 3), torch.arange(40) % 2
eq.DiagnoseRelearn  # what importing the library draws is not what is asked about
before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
{call}
after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
assert before == after
"""
CALLS = ("eq.purity(z, y)", "eq.diagnose(dict(m=z), y, dict(m=z), y)")


def test_the_first_diagnosis_of_a_process_draws_no_random_numbers() -> None:
    for call in CALLS:
        subprocess.run([sys.executable, "-c", SCRIPT.format(call=call)], check=True, timeout=120)
