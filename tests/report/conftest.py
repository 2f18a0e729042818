"""Comparisons with synthetic record files; nothing is trained."""

import json
import math
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml

from equipoise.experiments.compare.comparison import COLUMNS, Comparison, read_comparison, summary_of
from equipoise.tasks import CLASSIFICATION
from equipoise.training.record.names import run_name


@dataclass
class Maker:
    """The content of a synthetic comparison; every number has a default."""

    folder: object
    accuracies: dict  # method -> test accuracy by seed
    modalities: tuple = ("audio", "video")
    gaps: dict = field(default_factory=dict)  # modality -> gap at the last diagnosis of joint
    strengths: dict = field(default_factory=dict)
    wobble: dict = field(default_factory=dict)  # modality -> change of gap and strength from seed to seed
    diagnosed: bool = True
    failed: dict = field(default_factory=dict)  # (method, seed) -> reason
    epochs: int = 12
    relearn_at: tuple = (4, 8)
    ruler: dict = field(default_factory=dict)  # options of the diagnoses of re-learning
    result: dict = field(default_factory=dict)  # changes to every result.json
    own: dict = field(default_factory=dict)  # method -> changes to its result.json
    dataset: str = "toys"

    def write(self):
        rows, results = [], []
        for seed in range(max(map(len, self.accuracies.values()))):
            for method, values in self.accuracies.items():
                if (method, seed) in self.failed:
                    rows.append(self.row(method, seed, math.nan, self.failed[method, seed]))
                elif seed < len(values):
                    rows.append(self.row(method, seed, values[seed], "ok"))
                    results.append(self.run(method, seed, values[seed]))
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        summary = summary_of(table, results, sorted(set(table["seed"])), CLASSIFICATION)
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(
            yaml.safe_dump({"data": "toys", "split_seed": 0, "lr": 0.05})
        )
        Comparison(self.folder, table, summary).write()
        return read_comparison(self.folder)

    def row(self, method, seed, accuracy, status):
        return {
            "dataset": self.dataset,
            "model": "concat(mlp)",
            "method": method,
            "seed": seed,
            "epochs": self.epochs,
            "best_epoch": 7,
            "val_accuracy": accuracy,
            "test_accuracy": accuracy,
            "test_macro_f1": accuracy,
            "train_seconds": 1.5,
            "method_seconds": 0.1,
            "forward_samples": 1000,
            "status": status,
        }

    def run(self, method, seed, accuracy):
        folder = self.folder / "runs" / run_name(method, seed)
        folder.mkdir(parents=True)
        result = {
            "dataset": self.dataset,
            "model": "concat(mlp)",
            "method": method,
            "seed": seed,
            "data_fingerprint": "d",
            "budget_fingerprint": "b",
            "split_fingerprint": "s",
            "init_fingerprint": f"i{seed}",
            "order_fingerprint": f"o{seed}",
            "epochs": self.epochs,
            "best_epoch": 7,
            "validation": {"loss": 0.3, "accuracy": accuracy, "macro_f1": accuracy},
            "test": {"loss": 0.3, "accuracy": accuracy, "macro_f1": accuracy},
            "train_seconds": 1.5,
            "method_seconds": 0.1,
            "forward_samples": 1000,
            "backward_samples": 500,
            "peak_memory_bytes": 256_000_000,
            "experimental": False,
            "train_data": "as served",
            "split_sizes": {"train": 60, "val": 20, "test": 20},
            "classes": ["a", "b"],
            "modalities": list(self.modalities),
            "method_options": {},
            "environment": {"python": "3", "device": "cpu", "versions": {"torch": "2"}},
            **self.result,
            **self.own.get(method, {}),
        }
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "config.yaml").write_text(yaml.safe_dump({"data": "toys", "method": method, "seed": seed}))
        events = [{"event": "start"}]
        events += [
            {
                "event": "epoch",
                "epoch": e,
                "train_loss": 1.0,
                "val_loss": 1.0,
                "val_accuracy": accuracy - 0.5 / (e + 1) + 0.01 * seed,
            }
            for e in range(self.epochs)
        ]
        events.append({"event": "test", "test_accuracy": accuracy})
        _write_lines(folder / "metrics.jsonl", events)
        if states := self.states(method, seed):
            _write_lines(folder / "diagnosis.jsonl", states)
        return result

    def states(self, method, seed):
        relearns = method.startswith("diagnose-relearn")
        own = [m for m in self.modalities if not method.startswith("unimodal:") or method == f"unimodal:{m}"]
        events = []
        for epoch in range(self.epochs):
            if relearns and epoch in self.relearn_at:
                events.append(self.event("relearning", epoch, own, seed, before=0.05))
            look = epoch % 4 == 0 or epoch == self.epochs - 1
            if self.diagnosed and (look or (relearns and epoch in self.relearn_at)):
                events.append(self.event("diagnosis", epoch, own, seed))
        return events

    def event(self, kind, epoch, own, seed, before=0.0):
        states = {}
        for place, name in enumerate(own):
            change = self.wobble.get(name, 0.0) * (seed - 1)
            gap = self.gaps.get(name, 0.02 * (place + 1)) + before + change
            train = 0.6 + 0.01 * epoch + 0.002 * seed
            pull = self.strengths.get(name, 0.1 * (place + 1)) + change if kind == "relearning" else None
            states[name] = {
                "modality": name,
                "metric": self.ruler.get("metric", "purity") if kind == "relearning" else "purity",
                "train_score": train,
                "val_score": train - gap,
                "gap": abs(gap),
                "interval": None,
                "negligible": False,
                "strength": pull or 0.2,
                "applied": pull,
                "n_train": 60,
                "n_val": 20,
            }
        options = self.ruler if kind == "relearning" else {"n_init": 3}
        return {"event": kind, "epoch": epoch, "modalities": states, "options": options}


def _write_lines(path, events):
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


class PageText(HTMLParser):
    """The texts, table cells and embedded figures of a page, as in a browser without JavaScript."""

    def __init__(self, html):
        super().__init__()
        self.words, self.tables, self.tags, self.scripts = [], [], [], []
        self._in, self._cell = "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("li", "p", "dt", "dd", "tr", "summary"):
            self.words.append(" ")
        if tag in ("script", "style"):
            self._in = tag
            self.scripts.append("")
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = True
            self.tables[-1][-1].append(["", None])
        elif tag == "data":
            self.tables[-1][-1][-1][1] = float(dict(attrs)["value"])

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._in = ""
        elif tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self._in:
            self.scripts[-1] += data
            return
        self.words.append(data)
        if self._cell:
            self.tables[-1][-1][-1][0] += data

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words)).replace("\N{MINUS SIGN}", "-")

    def rows(self, table=0):
        """Rows of a table by the text of their first cell: {column head: (text, value)}."""
        head, *body = self.tables[table]
        return {row[0][0]: {h[0]: tuple(c) for h, c in zip(head, row, strict=True)} for row in body}

    @property
    def figures(self):
        (found,) = [text for text in self.scripts if text.startswith('{"') or text == "{}"]
        return json.loads(found)


@pytest.fixture
def make(tmp_path):
    """Write a comparison: accuracies by method, and any changes to the defaults."""

    def write(accuracies, **changes):
        return Maker(tmp_path / changes.pop("name", "comparison"), accuracies, **changes).write()

    return write


@pytest.fixture
def read():
    """Read a page like a browser without JavaScript."""
    return lambda path: PageText(path.read_text(encoding="utf-8"))


JOINT = [0.80, 0.81, 0.82]
METHODS = (
    *("joint", "unimodal:audio", "unimodal:video", "unimodal:accelerometer", "ensemble", "ogm", "ogm-ge"),
    *("agm", "pmr", "cml", "gradient-blending", "mmcosine", "mla", "reconboost", "mmpareto", "cagrad"),
    *("pcgrad", "dgl", "opm", "amco", "modality-dropout", "greedy", "diagnose-relearn", "infoReg", "iprm"),
    *("diagnose-relearn+ogm", "sample-valuation", "modality-valuation", "lfm", "aug", "g-blending-online"),
    *("umt", "balanced-mse", "adaptive-weighting", "late-fusion-average"),
)
EXPERIMENTAL = ("infoReg", "sample-valuation", "diagnose-relearn+ogm")


@pytest.fixture
def many():
    """Thirty-five methods with three seeds, as arguments of `make`."""

    def numbers(shift=0):
        accuracies = {}
        for place, name in enumerate(METHODS):
            level = 0.9 - 0.011 * ((8 * place + 3 * shift * place) % len(METHODS)) ** 0.9
            accuracies[name] = [level + 0.003 * ((place * place + 5 * seed) % 7) for seed in range(3)]
        own = {
            name: {"forward_samples": 1000 + 250 * (place % 9), "backward_samples": 500 + 10 * place}
            for place, name in enumerate(METHODS)
        }
        for name in EXPERIMENTAL:
            own[name]["experimental"] = True
        own["sample-valuation"]["train_data"] = "changed by the method"
        return {"accuracies": accuracies, "own": own, "epochs": 60, "relearn_at": (20, 40)}

    return numbers


@pytest.fixture
def usual():
    """Joint and the re-learning method, with similar accuracies."""
    return {"joint": JOINT, "diagnose-relearn": [0.81, 0.80, 0.83]}


@dataclass
class Contributed:
    """The contribution of one modality, for charts."""

    alone: float
    shapley: float
    drop_removed: float
    drop_permuted: float
    drop_averaged: float
    intervals: dict


class Contributions(dict):
    """All contributions, for charts."""

    score, baseline, metric, split = 0.91, 0.25, "accuracy", "validation"


@pytest.fixture
def drawings():
    """Every chart of a diagnosis from synthetic numbers for given modalities, classes and samples."""
    import numpy as np

    from equipoise.diagnosis import Diagnosis, LearningState
    from equipoise.diagnosis.features.projections import project
    from equipoise.report.charts.confusion import confusion
    from equipoise.report.charts.contributions import contributions
    from equipoise.report.charts.encoders import QualityPoint, encoder_quality
    from equipoise.report.charts.layers import layer_strengths
    from equipoise.report.charts.projections import projections
    from equipoise.report.charts.states import measures, states
    from equipoise.report.charts.trace import over_epochs

    def build(modalities=("audio", "video"), classes=("walk", "run", "jump"), n=60):
        rng, count = np.random.default_rng(0), len(classes)
        shown, learned, contributed = [], {}, Contributions()
        for place, name in enumerate(modalities):
            centres = 3 * rng.normal(size=(count, 5))
            y, yv = np.arange(n) % count, np.arange(n // 2) % count
            x, xv = centres[y] + rng.normal(size=(n, 5)), centres[yv] + rng.normal(size=(n // 2, 5))
            shown.append(project(x, y, xv, yv, kind="pca", modality=name, classes=classes))
            learned[name] = LearningState(name, 0.8, 0.6, 0.2, (0.1, 0.25), False, "purity", n, n // 2)
            contributed[name] = Contributed(
                0.6, 0.4, 0.3 - 0.4 * place, 0.2, 0.1, {"shapley": (0.3, 0.5), "drop_removed": (-0.2, 0.4)}
            )
        diagnosis = Diagnosis(learned)
        trace = [
            {
                "epoch": epoch,
                "event": event,
                "modalities": {m: {"train": 0.5 + epoch / 50, "val": 0.5, "test": None} for m in modalities},
                "accuracy": {"val": 0.6, "test": 0.55},
            }
            for epoch, event in (
                (4, "after-relearning"),
                (0, "epoch"),
                (4, "before-relearning"),
                (8, "epoch"),
            )
        ]
        points = [
            QualityPoint(method, seed, dict.fromkeys(modalities, 0.5 + 0.1 * seed), 0.6 + 0.1 * seed)
            for method in ("joint", "diagnose-relearn")
            for seed in range(2)
        ]
        counts = np.arange(count * count).reshape(count, count)
        return [
            states(diagnosis),
            projections(shown),
            contributions(contributed),
            measures({"purity": diagnosis, "knn": diagnosis}),
            confusion(counts, classes),
            encoder_quality(points, dict.fromkeys(modalities, 0.55)),
            layer_strengths({name: {"stem": 0.1, "block": 0.4} for name in modalities}),
            over_epochs(trace),
        ]

    return build
