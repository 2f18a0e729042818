"""What holds for every test: one thread, so that results and running times do not depend on the machine."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
