"""BibTeX for what runs used."""

import re

import pytest

from equipoise.cli import main
from equipoise.data.datasets import DATASETS
from equipoise.methods import METHODS
from equipoise.report.citations import OWN, bibliography, citations, entries

BASELINES = {
    "joint",
    "ensemble",
    "unimodal",
    "pretrain-finetune",
    "pretrain-frozen",
    "fixed-modulation",
}
VALUES = {"joint": [0.8, 0.81, 0.82], "mla": [0.7, 0.72, 0.71]}


def fields(entry):
    """Return the fields of an entry: a name to its value."""
    return dict(re.findall(r"^  (\w+) *= \{(.*)\},$", entry, re.MULTILINE))


def test_every_entry_is_complete():
    for key, entry in bibliography().items():
        held = fields(entry)
        assert {"author", "title", "year"} <= held.keys(), key
        assert {"booktitle", "journal", "institution"} & held.keys() or entry.startswith("@misc"), key
        assert entry.count("{") == entry.count("}"), key
        assert len(entry.splitlines()) == len(held) + 2, key
        assert re.fullmatch(r"(19|20)\d\d", held["year"]), key
        surname = re.sub(r"[^a-z]", "", held["author"].partition(",")[0].lower())
        assert key.startswith(surname[:3]), key
        assert held["year"] in key, key
    keys = re.findall(r"^@\w+\{([^,]+),", "\n".join(bibliography().values()), re.MULTILINE)
    assert len(keys) == len(set(keys))
    used = {key for kind in (*METHODS.values(), *DATASETS.values()) for key in kind.bibtex}
    assert bibliography().keys() - used == {"demsar2006statistical"}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_cites_its_source(name):
    kind = METHODS[name]
    known = [bibliography()[key] for key in kind.bibtex]
    assert bool(known) == (name not in BASELINES)
    for entry in known:
        held = fields(entry)
        if name == "short-ensemble":  # of nets with the losses of multi-loss
            assert kind.bibtex == METHODS["multi-loss"].bibtex
            continue
        named = [held[key] for key in ("eprint", "doi") if key in held] or [held["title"], held["year"]]
        assert any(one in kind.source for one in named), (named, kind.source)
        assert held["year"] in kind.source


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"table"}))
def test_a_dataset_cites_its_publication(name):
    kind = DATASETS[name]
    assert kind.bibtex
    plain = re.sub(r"[^a-z]", "", kind.citation.lower())
    for key in kind.bibtex:
        held = fields(bibliography()[key])
        assert re.sub(r"[^a-z]", "", held["title"].lower()) in plain
        assert held["year"] in kind.citation


def test_what_was_used_is_cited_once_and_says_for_what(make):
    one = make({**VALUES, "ogm": VALUES["mla"], "ogm-ge": VALUES["mla"]}, dataset="htad")
    found = citations([one.folder])
    assert list(entries(found)) == [
        "equipoise",
        "garciaceja2021htad",
        "zhang2024multimodal",
        "peng2022balanced",
    ]
    assert "% the method ogm, the method ogm-ge\n@inproceedings{peng2022balanced," in found
    assert found.startswith(OWN)


def test_several_datasets_cite_the_comparison_of_ranks(make):
    held = [make(VALUES, dataset=name, name=name) for name in ("htad", "cremad, noise of 2 std on audio")]
    keys = list(entries(citations([one.folder for one in held])))
    assert keys == [
        "equipoise",
        "garciaceja2021htad",
        "cao2014cremad",
        "zhang2024multimodal",
        "demsar2006statistical",
    ]


def test_what_is_unknown_is_said(make):
    one = make({**VALUES, "mine+mla": VALUES["mla"]}, dataset="my table")
    found = citations([one.folder])
    assert "% No entry is known for the dataset my table." in found
    assert "% No entry is known for the method mine+mla." in found


def test_a_method_of_another_package_brings_its_entry(make, monkeypatch):
    own = "@misc{me2026,\n  title = {Mine},\n}"
    monkeypatch.setattr(METHODS["mla"], "bibtex", (own, "wei2024diagnosing"))
    found = citations([make(VALUES).folder])
    assert own in found
    assert "wei2024diagnosing" in found


def test_an_entry_that_another_package_names_wrongly_costs_no_other(make, monkeypatch):
    monkeypatch.setattr(METHODS["mla"], "bibtex", ("nobody2026nothing",))
    found = citations([make(VALUES, dataset="htad").folder])
    assert "% No entry is known for the method mla." in found
    assert "garciaceja2021htad" in entries(found)


def test_the_command_prints_or_writes(make, tmp_path, capsys):
    folder, path = make(VALUES).folder, tmp_path / "references.bib"
    for words, code in (([], 0), (["--out", str(path)], 0), (["--out", str(path)], 2)):
        with pytest.raises(SystemExit) as ended:
            main(["cite", str(folder), *words])
        assert ended.value.code == code
    assert path.read_text() == citations([folder])
    said = capsys.readouterr()
    assert citations([folder]) in said.out
    assert "--overwrite" in said.err
