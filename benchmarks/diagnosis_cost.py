"""Cost of a diagnosis of saved features: seconds, and peak memory relative to the size of the features.

Usage: python benchmarks/diagnosis_cost.py [--train 16000] [--val 4000]

Each measurement runs in a separate process, on two modalities of 512 features in 31 classes. The memory used
by imports is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

WIDTH, CLASSES, MODALITIES = 512, 31, ("audio", "video")
MEASURED = """
import json, resource, sys, time
import scipy.optimize, scipy.spatial.distance, sklearn.cluster, sklearn.linear_model, sklearn.metrics
import sklearn.neighbors, sklearn.preprocessing
from equipoise.experiments.examine.diagnose_run import diagnose_arrays
from equipoise.diagnosis import separability
from equipoise.experiments.examine.saved_features import SavedFeatures

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

what, file = sys.argv[1:]
before, start, cpu = peak(), time.perf_counter(), time.process_time()
if what == "panel":
    separability(*SavedFeatures(file).features())
else:
    diagnose_arrays(file, preset=what)
print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, peak() - before]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--train", type=int, default=16000)
    parser.add_argument("--val", type=int, default=4000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "features.npz"
        size = save_features(file, given.train, given.val)
        print(f"{given.train} + {given.val} samples of {WIDTH} features, {len(MODALITIES)} modalities")
        print(f"{'what':8} {'seconds':>8} {'CPU':>8} {'memory / features':>18}")
        for what in ("paper", "robust", "panel"):
            command = [sys.executable, "-c", MEASURED, what, str(file)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            seconds, cpu, memory = json.loads(answer)
            print(f"{what:8} {seconds:8.1f} {cpu:8.1f} {memory / size:18.2f}", flush=True)


def save_features(file: Path, n_train: int, n_val: int) -> int:
    """Save features of Gaussian classes; return their size in bytes."""
    rng = np.random.default_rng(0)
    arrays = {f"{split}_labels": rng.permutation(np.arange(n) % CLASSES) for split, n in
              (("train", n_train), ("val", n_val))}  # fmt: skip
    for name in MODALITIES:
        means = rng.normal(size=(CLASSES, WIDTH)).astype(np.float32) / 10
        for split, n in (("train", n_train), ("val", n_val)):
            noise = rng.normal(size=(n, WIDTH)).astype(np.float32)
            arrays[f"{split}_{name}"] = noise + means[arrays[f"{split}_labels"]]
    np.savez(file, **arrays)
    return (n_train + n_val) * WIDTH * 4 * len(MODALITIES)


if __name__ == "__main__":
    main()
