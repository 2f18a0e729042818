"""Write three modalities from arrays as a dataset, and compare methods fairly.

    python examples/three_modalities.py

Images of handwritten digits are cut into three strips; noise is added to the middle one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

import equipoise


def main() -> pd.DataFrame:
    digits = load_digits()
    strips = {"top": slice(0, 3), "middle": slice(3, 5), "bottom": slice(5, 8)}
    inputs = {name: digits.images[:, rows].reshape(len(digits.target), -1) for name, rows in strips.items()}
    inputs["middle"] = inputs["middle"] + np.random.default_rng(0).normal(0, 12, inputs["middle"].shape)
    equipoise.write_dataset("strips", inputs, digits.target, name="strips", overwrite=True)
    table = equipoise.compare(
        "strips",
        methods=["joint", "unimodal", "diagnose-relearn"],
        seeds=range(3),
        epochs=9,
        out="strips-runs",
        resume=True,
    )
    print(table[["mean", "std", "n", "difference", "low", "high"]].round(3))
    return table


if __name__ == "__main__":
    main()
