"""What a notebook shows of a result."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

import equipoise as eq

WITHOUT_END = {"br", "img"}
NAME = '<script>alert(1)</script>"\x1b[31m'


class Checked(HTMLParser):
    """Parses a fragment, and checks that its elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.pictures, self.cells, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in WITHOUT_END:
            self.open.append(tag)
        held = dict(attrs)
        assert not [name for name in held if name.startswith("on")]
        if tag == "img":
            assert held["alt"]
            start, _, data = held["src"].partition(",")
            assert start == "data:image/svg+xml;base64"
            self.pictures.append(ET.fromstring(b64decode(data)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def shown(result):
    page = Checked()
    page.feed(result._repr_html_())
    page.close()
    assert not page.open
    assert "script" not in page.tags
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page.text)
    return page


@pytest.fixture(scope="module")
def features():
    rng, y = np.random.default_rng(0), np.arange(150) % 3
    sets = {"audio": rng.normal(size=(150, 6)) + y[:, None], NAME: rng.normal(size=(150, 4))}
    parts = {"train": slice(0, 100), "val": slice(100, 150)}
    return {split: {m: x[part] for m, x in sets.items()} for split, part in parts.items()}, y


@pytest.fixture(scope="module")
def examined(tmp_path_factory, features):
    sets, y = features
    path = tmp_path_factory.mktemp("features") / "f.npz"
    arrays = {f"{split}_{m[:5]}": x for split, held in sets.items() for m, x in held.items()}
    np.savez(path, **arrays, train_labels=y[:100], val_labels=y[100:])
    return eq.examine_features(path)


def test_a_diagnosis_is_a_table_and_a_chart(features):
    sets, y = features
    found = eq.diagnose(sets["train"], y[:100], sets["val"], y[100:])
    page = shown(found)
    frame = found.to_frame()
    assert f"{frame.loc['audio', 'train_score']:.3f}" in page.cells
    assert any("<script>alert(1)</script>" in cell for cell in page.cells)  # as a text
    assert len(page.pictures) == 1


def test_an_examination_has_verdicts_tables_and_charts(examined):
    page = shown(examined)
    assert {verdict.state for verdict in examined.verdicts.values()} > {"balanced"}
    for verdict in examined.verdicts.values():
        assert verdict.state in page.text
        assert verdict.state == "balanced" or verdict.reasons[0] in page.text
    assert len(page.pictures) >= 3
    assert "eq.write_examination_report" in page.text


def test_parts_of_an_examination_are_shown_by_themselves(examined):
    page = shown(examined.contributions)
    assert f"{examined.contributions['audio'].shapley:.3f}" in page.cells
    assert len(page.pictures) == 1
    verdict = examined.verdicts["audio"]
    text = shown(verdict).text
    assert verdict.state in text
    assert all(one in text for one in (*verdict.reasons, *verdict.advice))


def test_a_comparison_shows_findings_and_results(make):
    found = make({"joint": [0.80, 0.81, 0.82], "diagnose-relearn": [0.85, 0.86, 0.84]})
    page = shown(found)
    assert "0.810" in page.cells
    assert "diagnose-relearn" in page.cells
    assert page.pictures


def test_a_chart_is_a_picture(drawings):
    for chart in drawings()[:3]:
        (picture,) = shown(chart).pictures
        assert picture.tag.endswith("svg")


def test_a_run_shows_its_page(tmp_path):
    rng, y = np.random.default_rng(0), np.arange(60) % 2
    inputs = {"a": rng.normal(size=(60, 3)) + y[:, None], "b": rng.normal(size=(60, 3))}
    data = eq.write_dataset(tmp_path / "data", inputs, y)
    result = eq.fit(data, epochs=1, out=tmp_path / "run")
    page = shown(result)
    assert f"{result.test['accuracy']:.3f}" in page.text
    assert str(tmp_path / "run") in page.text


def test_a_monitor_shows_what_it_has_seen(tmp_path):
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    x = {"audio": torch.randn(90, 5, generator=draw), NAME: torch.randn(90, 4, generator=draw)}
    x["audio"][:60] += 20 * torch.nn.functional.one_hot(y[:60], 5)  # tells the class in training only
    model = torch.nn.ModuleDict({str(place): torch.nn.Identity() for place in range(2)})
    model.forward = lambda a, b: (model["0"](a), model["1"](b))
    encoders = dict(zip(x, model.values(), strict=True))
    monitor = eq.Monitor(encoders, every=1)
    assert NAME.partition("\x1b")[0] in shown(monitor).text
    batches = [[tuple(z[rows] for z in (*x.values(), y))] for rows in (slice(60), slice(60, 90))]
    for epoch in (0, 4):
        monitor.step(epoch, model, *batches)
    page = shown(monitor)
    assert "Over-trained." in page.text
    assert "Not over-trained." in page.text
    assert monitor.verdicts["audio"].reasons[0] in page.text
    assert f"{monitor.last['audio'].train_score:.3f}" in page.cells
    assert len(page.pictures) == 2
    path = eq.write_monitor_report(monitor, tmp_path / "watch.html")
    text = path.read_text()
    assert re.search(r"2 looks in \d+\.\d s, after epoch 0 to 4", text)
    assert "purity by modality, after epoch 4" in text.lower()
    assert "<script>alert" not in text
