"""Features that outgrow memory go to files: the same numbers, bounded memory, a clear word on a full disk."""

from __future__ import annotations

import errno
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.diagnosis import collect_features, diagnose, room
from equipoise.diagnosis.features.capture import Captured
from equipoise.types import ModelError, NoSpaceError

CHOICES = [
    {},
    {"backend": "torch"},
    {"scaler": "l2", "metric": "nmi"},
    {"preset": "robust", "repeats": 2},
    {"preset": "held-out", "metric": "linear-probe"},
    {"max_samples": 500, "repeats": 2},
    {"scaler": "none", "metric": "nearest-class-mean"},
]


@pytest.fixture
def no_memory(monkeypatch):
    """Let every array go to a file, and return the sizes of those that did."""
    sizes = []
    mapped = room._mapped

    def counted(file, shape, dtype):
        sizes.append(shape)
        return mapped(file, shape, dtype)

    monkeypatch.setattr(room, "largest_in_memory", lambda: 0)
    monkeypatch.setattr(room, "_mapped", counted)
    return sizes


def draw(n, seed, d=24):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, d)) + y[:, None] * 0.4).astype(np.float32), y


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_no_result_depends_on_where_features_lie(chosen, request):
    (x, y), (x_val, y_val) = draw(1600, 1), draw(700, 2)
    splits = {"a": x, "b": x**2}, y, {"a": x_val, "b": x_val**2}, y_val
    in_memory = diagnose(*splits, **chosen)
    in_files = request.getfixturevalue("no_memory")
    assert diagnose(*splits, **chosen) == in_memory
    assert bool(in_files) == (chosen.get("scaler") != "none")


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.audio, self.video = nn.Linear(5, 7), nn.Linear(3, 4)

    def forward(self, audio, video):
        return self.audio(audio).sum(1) + self.video(video).sum(1)


def loader(*counts):
    torch.manual_seed(3)
    return [
        ({"audio": torch.randn(n, 5), "video": torch.randn(n, 3)}, torch.randint(0, 2, (n,))) for n in counts
    ]


@pytest.mark.parametrize("limit", [0, 300])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_batches_are_collected_in_files(kind, limit, monkeypatch):
    model = Two().to(kind)
    batches = [({m: v.to(kind) for m, v in x.items()}, y) for x, y in loader(4, 4, 1, 4)]
    encoders = {"audio": model.audio, "video": model.video}
    expected = collect_features(encoders, model, batches)
    monkeypatch.setattr(room, "largest_in_memory", lambda: limit)
    found = collect_features(encoders, model, batches)
    for name, z in expected.features.items():
        assert torch.equal(found.features[name], z)
        assert found.features[name].dtype == kind
    found.features["audio"][0] = 1  # as writable as memory


def test_samples_without_a_class_are_left_out_in_files(no_memory):
    z, target = torch.randn(9, 4), torch.tensor([0, -100, 1, 1, 0, -100, -100, 2, 0])
    kept = Captured({"a": z}, target).labelled()
    assert torch.equal(kept.features["a"], z[target >= 0])
    assert torch.equal(kept.target, target[target >= 0])
    assert no_memory == [(6, 4)]


def test_a_width_that_changes_is_said():
    rows = room.Rows("the output of 'audio'")
    rows.add(torch.ones(2, 3))
    with pytest.raises(ModelError, match="has 4 features in a batch after 3 in the first"):
        rows.add(torch.ones(2, 4))


def test_a_full_disk_is_said(monkeypatch, no_memory):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (x, y), (x_val, y_val) = draw(60, 1), draw(60, 2)
    monkeypatch.setattr(room.os, "posix_fallocate", full)
    with pytest.raises(NoSpaceError, match=r"no space left on device.*TMPDIR.*max_samples"):
        diagnose({"a": x}, y, {"a": x_val}, y_val)


def test_a_container_limits_what_is_held(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("64000000\n")
    (tmp_path / "other").write_text("max\n")
    monkeypatch.setattr(room, "CGROUPS", (tmp_path / "memory.max", tmp_path / "other", tmp_path / "none"))
    room.largest_in_memory.cache_clear()
    assert room.largest_in_memory() == 2_000_000
    room.largest_in_memory.cache_clear()


LIMITED = """
import resource, sys
import numpy as np, torch
from equipoise.diagnosis import diagnose, room
import sklearn.cluster, sklearn.preprocessing
limit = int(sys.argv[1])
room.largest_in_memory = lambda: limit
rows = room.Rows("features")
torch.manual_seed(0)
y = np.arange(60_000) % 2
small = {"m": np.random.default_rng(0).normal(size=(90, 4))}
diagnose(small, y[:90], small, y[:90], bootstrap=0)
diagnose(small, y[:90], small, y[:90], bootstrap=0, backend="torch")
# What is mapped from files does not count.
held = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")][0] * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + 60_000_000,) * 2)
for start in range(0, len(y), 2000):
    rows.add(torch.randn(2000, 256) + torch.from_numpy(y[start:start + 2000, None]) * 0.5)
train = {"m": rows.whole()}
val = {"m": train["m"][:3000].clone()}
for backend in ("torch", "scikit-learn"):
    print(diagnose(train, y, val, y[:3000], n_init=1, bootstrap=0, backend=backend)["m"].train_score)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of Linux")
def test_features_larger_than_memory_are_diagnosed():
    """61 MB of features, 123 MB in double precision, with 60 MB beyond what the libraries hold."""

    def run(limit):
        return subprocess.run(
            [sys.executable, "-c", LIMITED, str(limit)], capture_output=True, text=True, timeout=300
        )

    found = run(8_000_000)
    assert found.returncode == 0, found.stderr
    by_torch, by_scikit_learn = map(float, found.stdout.split())
    assert by_torch > 0.99
    assert by_scikit_learn > 0.99
    assert "Error" in run(10**12).stderr
