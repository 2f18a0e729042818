import json
import re

import pytest

from equipoise.cache import CACHE_VARIABLE
from equipoise.report import html as html_page
from equipoise.report import write_comparison_report, write_report
from equipoise.report.html import embedded, library
from equipoise.report.text.wording import decimal
from equipoise.types import RunFolderError, UsageError
from vega import column, data, layers, rows

JOINT = [0.80, 0.81, 0.82]
HOSTILE = "</script><script>alert(1)</script><b>%{x}&amp;$x$"
MISSING = "\N{EN DASH}"


def test_results_table_equals_the_summary(make, read, tmp_path):
    methods = {"joint": JOINT, "unimodal:audio": [0.6, 0.7, 0.65], "diagnose-relearn": [0.85, 0.86, 0.84]}
    comparison = make(methods)
    rows = read(write_comparison_report(comparison, tmp_path / "report.html")).rows()
    held = json.loads((comparison.folder / "summary.json").read_text())["methods"]
    assert list(rows) == ["diagnose-relearn", "joint", "unimodal:audio"]  # best mean first
    for method, values in held.items():
        row = rows[method]
        assert row["test accuracy"][1] == values["mean"]
        assert row["test accuracy"][0] == f"{values['mean']:.3f}"
        assert (row["std"][1], row["seeds"][1], row["rank"][1]) == (
            values["std"],
            values["n"],
            values["rank"],
        )
        assert row["seconds"][1] == values["train_seconds_mean"]
        assert row["forward"][1] == values["cost"]["relative_forward"] == 1.0
        assert row["backward"][1] == values["cost"]["relative_backward"] == 1.0
        assert row["peak MB"] == ("256", 256.0)
        if (difference := values["difference_to_joint"]) is not None:
            assert row["difference to joint"][1] == difference["mean"]
            assert "Wilcoxon p (Holm)" not in row  # with 3 seeds it cannot fall below 0.25
            low, high = (f"{difference[end]:+.3f}" for end in ("low", "high"))
            assert row["95 % interval"][0].replace("\N{MINUS SIGN}", "-") == f"{low} to {high}"


def test_details_contain_all_tests_and_all_costs(make, read, tmp_path):
    ogm, aug = [0.82, 0.85, 0.81, 0.83, 0.84, 0.8], [0.7, 0.75, 0.71, 0.72, 0.73, 0.74]
    methods = {"joint": JOINT * 2, "ogm": ogm, "aug": aug}
    own = {"aug": {"forward_samples": 2500, "peak_memory_bytes": None, "train_data": "changed by the method"}}
    own["aug"]["experimental"] = True
    comparison = make(methods, own=own)
    page = read(write_comparison_report(comparison, tmp_path / "report.html"))
    heads = [[cell for cell, _ in table[0]] for table in page.tables]
    tests = page.rows(next(k for k, head in enumerate(heads) if "bootstrap 95 % interval" in head))
    held = comparison.summary["methods"]["ogm"]["difference_to_joint"]
    assert list(tests) == ["ogm", "aug"]
    assert tests["ogm"]["p of the t-test"][1] == held["p_value"]
    assert tests["ogm"]["p of Wilcoxon's test"][1] == held["wilcoxon_p"]
    low, high = (f"{held[end]:+.3f}" for end in ("bootstrap_low", "bootstrap_high"))
    assert tests["ogm"]["bootstrap 95 % interval"][0].replace("\N{MINUS SIGN}", "-") == f"{low} to {high}"
    costs = page.rows(next(k for k, head in enumerate(heads) if "samples backward" in head))
    assert costs["aug"]["samples forward"][1] == 2500
    assert costs["aug"]["peak memory, MB"] == (MISSING, None)
    (marked,) = [name for name in page.rows() if name.startswith("aug")]
    assert marked == "augexperimental, changes its training data"
    assert page.rows()[marked]["forward"][1] == 2.5


def test_few_seeds_are_reported(make, read, tmp_path):
    few = read(write_comparison_report(make({"joint": JOINT, "ogm": JOINT}, name="a"), tmp_path / "a.html"))
    assert "With 3 seeds the p-value of the Wilcoxon test is left out, as it cannot be below 0.25" in few.text
    assert not any("Wilcoxon" in head for table in few.tables for head, _ in table[0])
    assert "a bootstrap interval is too narrow" in few.text
    enough = {"joint": JOINT * 2, "ogm": JOINT * 2}
    page = read(write_comparison_report(make(enough, name="b"), tmp_path / "b.html"))
    assert "is left out, as" not in page.text
    assert page.rows()["ogm"]["Wilcoxon p (Holm)"][1] == 1.0
    assert any("p of Wilcoxon's test" in [head for head, _ in table[0]] for table in page.tables)


def test_methods_that_were_excluded_are_named(make, read, tmp_path, usual):
    comparison = make(usual)
    comparison.summary["left_out"] = {"ogm": "it needs an additive head"}
    text = read(write_comparison_report(comparison, tmp_path / "report.html")).text
    assert "which were left out: ogm: it needs an additive head" in text


def test_thirty_five_methods_are_ordered_in_a_small_file(make, read, tmp_path, many):
    path = write_comparison_report(make(**many()), tmp_path / "report.html")
    page = read(path)
    shares = [row["test accuracy"][1] for row in page.rows().values()]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 35
    assert path.stat().st_size < 2e6
    accuracy, curves = page.figures["accuracy-0"], page.figures["curves-0"]
    assert "infoReg (experimental)" in column(accuracy, "name", "note")
    (dots,) = layers(accuracy, "seed")
    assert set(dots["encoding"]["color"]["scale"]["range"]) == {"var(--muted)", "var(--ink)", "var(--c1)"}
    lines = [layer["mark"] for layer in curves["layer"] if layer["mark"]["type"] == "line"]
    assert len({(mark["color"], *mark["strokeDash"]) for mark in lines}) == 35


def test_summaries_of_earlier_versions_are_shown(make, read, tmp_path, usual):
    comparison = make(usual)
    for values in comparison.summary["methods"].values():
        for key in ("cost", "experimental", "train_data"):
            del values[key]
    for key in ("bootstrap_low", "bootstrap_high", "wilcoxon_p", "wilcoxon_p_holm", "p_value_holm"):
        del comparison.summary["methods"]["diagnose-relearn"]["difference_to_joint"][key]
    row = read(write_comparison_report(comparison, tmp_path / "report.html")).rows()["diagnose-relearn"]
    assert row["forward"] == row["peak MB"] == (MISSING, None)
    assert row["seconds"][1] == 1.5


def test_charts_are_in_order_and_contain_the_seeds(make, read, tmp_path, usual):
    figures = read(write_comparison_report(make(usual), tmp_path / "report.html")).figures
    assert list(figures) == ["accuracy-0", *(f"learning-{k}" for k in range(4)), "strength-0", "curves-0"]
    dots = rows(figures["accuracy-0"], "seed")
    by_mean = sorted(usual, key=lambda method: -sum(usual[method]))
    assert [(dot["method"], dot["seed"], dot["value"]) for dot in dots] == [
        (method, seed, value) for method in by_mean for seed, value in enumerate(usual[method])
    ]
    marked = []
    for k in range(4):
        spec = figures[f"learning-{k}"]
        found = [layer for layer in spec["layer"] if layer["mark"]["type"] == "rule"]
        marked.append([row["epoch"] for layer in found for row in data(spec, layer)])
    assert marked == [[], [4, 8], [], [4, 8]]


def test_page_is_one_file_without_external_resources(make, tmp_path, usual):
    html = write_comparison_report(make(usual), tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 1.3e6
    own = html.replace(library(), "")
    assert len(own) < 3e5
    assert len(html) - len(own) > 8e5  # Vega is in the file once
    assert not re.search(r"(?<!schema\\\")https?://(?!vega.github.io/schema/)|\bsrc=|url\((?!#)|@import", own)
    assert "default-src 'none'" in html


def test_names_from_users_are_escaped(make, read, tmp_path):
    names = (HOSTILE, "<img src=x onerror=alert(2)>")
    accuracies = {"joint": JOINT, "diagnose-relearn": JOINT, f"<i>{HOSTILE}": JOINT}
    comparison = make(accuracies, modalities=names, failed={(f"<i>{HOSTILE}", 1): f"failed: {HOSTILE}"})
    path = write_comparison_report(comparison, tmp_path / "report.html")
    page = read(path)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "i") and tag != "i"]
    assert all("onerror" not in attributes for _, attributes in page.tags)
    for name in (*names, f"<i>{HOSTILE}"):
        assert name in "".join(page.words)
    assert HOSTILE in json.dumps(page.figures)  # as data, drawn as text


def test_embedded_json_cannot_end_its_script():
    text = embedded({"</script>": ["<!--", float("nan"), 1 / 3]})
    assert "<" not in text
    assert json.loads(text) == {"</script>": ["<!--", None, 0.333333]}


def test_numbers_have_one_format():
    assert decimal(-0.0004, 2) == "0.00"
    assert decimal(-1234.5, 1) == "\N{MINUS SIGN}1,234.5"
    assert decimal(float("inf")) == MISSING


@pytest.mark.parametrize("count", [1, 2, 6])
def test_any_number_of_modalities(make, read, tmp_path, usual, count):
    names = tuple(f"sensor {k}" for k in range(count))
    page = read(write_comparison_report(make(usual, modalities=names), tmp_path / "report.html"))
    assert sum(key.startswith("learning-") for key in page.figures) == 2 * count
    assert all(name in page.text for name in names)


def test_single_seed_has_no_spread(make, read, tmp_path):
    page = read(write_comparison_report(make({"joint": [0.8], "ogm-ge": [0.9]}), tmp_path / "report.html"))
    assert page.rows()["ogm-ge"]["std"] == (MISSING, None)
    assert page.rows()["ogm-ge"]["rank"] == ("not ranked", None)
    accuracy = page.figures["accuracy-0"]
    (bars,) = [layer for layer in accuracy["layer"] if "x2" in layer["encoding"]]
    assert data(accuracy, bars) == []


def test_many_methods_start_with_a_few_curves(make, read, tmp_path):
    methods = dict.fromkeys(("joint", "diagnose-relearn", *(f"method-{k:02}" for k in range(28))), JOINT)
    path = write_comparison_report(make(methods, epochs=100), tmp_path / "report.html")
    page = read(path)
    (shown,) = page.figures["curves-0"]["params"]
    assert len(shown["value"]) == 6
    assert "24 methods hidden at first" in page.text
    assert path.stat().st_size < 2.5e6


def test_missing_records_leave_out_their_charts(make, read, tmp_path, usual):
    undiagnosed = read(write_comparison_report(make(usual, diagnosed=False, name="a"), tmp_path / "a.html"))
    assert "strength-0" in undiagnosed.figures
    comparison = make({"unimodal:audio": JOINT, "unimodal:video": JOINT}, name="b")
    unimodal = read(write_comparison_report(comparison, tmp_path / "b.html"))
    assert [key for key in unimodal.figures if key.startswith("learning")] == ["learning-0", "learning-1"]
    assert "strength-0" not in unimodal.figures


def test_deleted_run_folders_are_named(make, read, tmp_path, usual):
    comparison = make(usual)
    (comparison.folder / "runs" / "joint-seed2" / "result.json").unlink()
    text = read(write_comparison_report(comparison, tmp_path / "report.html")).text
    assert "The folders of these runs are missing; the charts lack them: joint, seed 2" in text


def test_a_test_split_opened_more_than_once_is_reported(make, read, tmp_path, usual):
    comparison = make(usual)
    path = write_comparison_report(comparison, tmp_path / "report.html")
    assert "opened once a run, at the end" in read(path).text
    with (comparison.folder / "runs" / "joint-seed0" / "metrics.jsonl").open("a") as file:
        file.write('{"event": "test"}\n')
    text = read(write_comparison_report(comparison, path)).text
    assert "joint, seed 0: 2 times" in text
    assert "opened once a run, at the end" not in text


def test_run_report(make, read, tmp_path, usual):
    folder = make(usual).folder / "runs" / "diagnose-relearn-seed0"
    page = read(write_report([folder], tmp_path / "run.html"))
    assert "toys: diagnose-relearn, seed 0" in page.text
    assert page.rows()["test"]["accuracy"][1] == usual["diagnose-relearn"][0]
    assert list(page.figures) == ["learning-0", "learning-1", "strength-0", "curves-0"]
    assert "difference" not in page.text


def test_write_report_recognises_the_kind_of_folder(make, read, usual):
    comparison = make(usual)
    runs = comparison.folder / "runs"
    assert write_report([comparison.folder]) == comparison.folder / "report.html"
    single = write_report([runs / "joint-seed0"])
    assert "Equipoise run" in read(single).text
    several = write_report([runs / "joint-seed0", runs / "joint-seed1", runs / "diagnose-relearn-seed0"])
    assert several == runs / "report.html"
    text = read(several).text
    assert "The methods are not ranked" in text
    assert "the methods were run on different seeds" in text


def test_several_comparable_runs_are_ranked(make, read, usual):
    folder = make(usual).folder / "runs"
    page = read(write_report(sorted(folder.iterdir())))
    assert page.rows()["diagnose-relearn"]["rank"][1] == 1.0
    assert "not ranked" not in page.text


def test_runs_on_different_data_are_not_compared(make, read, usual, tmp_path):
    one, other = make(usual, name="one"), make(usual, name="two", result={"data_fingerprint": "else"})
    folders = [one.folder / "runs" / f"joint-seed{seed}" for seed in range(3)]
    folders += [other.folder / "runs" / f"diagnose-relearn-seed{seed}" for seed in range(3)]
    page = read(write_report(folders, tmp_path / "both.html"))
    assert "the runs differ in data" in page.text
    assert page.rows()["diagnose-relearn"]["difference to joint"][1] is None
    assert "No difference can be claimed." in page.text


def test_variants_of_one_method_get_different_names(make, read, usual, tmp_path):
    one = make(usual, name="one", result={"method_options": {"lam": 3, "preset": "paper"}})
    two = make(usual, name="two", result={"method_options": {"lam": 5, "preset": "paper"}})
    folders = [c.folder / "runs" / f"diagnose-relearn-seed{seed}" for c in (one, two) for seed in range(3)]
    page = read(write_report(folders, tmp_path / "both.html"))
    assert list(page.rows()) == ["diagnose-relearn (lam=3)", "diagnose-relearn (lam=5)"]
    twice = [c.folder / "runs" / "joint-seed0" for c in (one, make(usual, name="three"))]
    (twice[1] / "result.json").write_text((twice[0] / "result.json").read_text())
    with pytest.raises(UsageError, match="both hold joint with seed 0"):
        write_report(twice)


def test_folders_without_records(make, usual, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="holds neither a run nor a comparison"):
        write_report([tmp_path / "empty"])
    with pytest.raises(RunFolderError, match="does not exist"):
        write_report([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="no folder"):
        write_report([])
    folder = make(usual).folder
    (tmp_path / "empty" / "grid.csv").touch()
    with pytest.raises(RunFolderError, match="is a grid; give it alone, or the folders of its comparisons"):
        write_report([tmp_path / "empty", folder])
    with pytest.raises(UsageError, match="is a comparison among runs"):
        write_report([folder, folder / "runs" / "joint-seed0"])
    (folder / "runs" / "joint-seed0" / "result.json").unlink()
    with pytest.raises(RunFolderError, match="not finished"):
        write_report([folder / "runs" / "joint-seed0"])
    (folder / "summary.json").unlink()
    with pytest.raises(RunFolderError, match="no finished comparison"):
        write_report([folder])


def test_report_is_written_completely_or_not_at_all(make, usual, tmp_path, monkeypatch):
    comparison, path = make(usual), tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", _no_space)
    with pytest.raises(RunFolderError, match="no space left"):
        write_comparison_report(comparison, path)
    assert path.read_text() == "old"


def _no_space(*_):
    raise OSError(28, "No space left on device")


def test_unwritable_folder(make, usual, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot write the report"):
        write_comparison_report(make(usual), tmp_path / "file" / "report.html")


def test_the_same_comparison_gives_the_same_page(make, tmp_path, usual):
    comparison = make(usual)
    pages = [write_comparison_report(comparison, tmp_path / name).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("damage", [None, "half", "empty", "no folder"])
def test_the_library_is_bundled_once(tmp_path, monkeypatch, damage):
    bundled = html_page.library.__wrapped__
    script = bundled()
    calls = []
    original = html_page.vega
    monkeypatch.setattr(html_page, "vega", lambda: calls.append(1) or original())
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    assert bundled() == script
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    if damage == "no folder":
        monkeypatch.setenv(CACHE_VARIABLE, str(file))
    elif damage:
        file.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
    assert bundled() == script
    assert len(calls) == (2 if damage else 1)
    assert file.read_bytes() == whole


def test_a_failed_run_keeps_its_own_method_from_being_ranked(make, read):
    accuracies = {"joint": [0.5, 0.5, 0.5], "aug": [0.9, 0.9, 0.9], "ogm": [0.6, 0.6, 0.6]}
    comparison = make(accuracies=accuracies, failed={("aug", 1): "failed: the training loss is nan"})
    assert comparison.ranked
    assert {m: values["rank"] for m, values in comparison.summary["methods"].items()} == {
        "joint": 2,
        "aug": None,
        "ogm": 1,
    }
    page = read(write_report([comparison.folder]))
    assert page.rows()["aug1 failed"]["rank"][0] == MISSING
    assert page.rows()["ogm"]["rank"][1] == 1.0
    assert "the training loss is nan" in page.text


def test_without_a_run_of_joint_nothing_is_ranked(make):
    accuracies = {"joint": [0.5, 0.5, 0.5], "ogm": [0.6, 0.6, 0.6]}
    comparison = make(accuracies=accuracies, failed={("joint", 1): "failed: the training loss is nan"})
    assert not comparison.ranked
    assert "the methods were run on different seeds" in comparison.summary["not_ranked_because"]
