"""The soak: it notices what differs, what is left behind, and processes that go on."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from benchmark_parts import modules_of
from evidence import VARIABLE, add_row

NAMES = ("differences", "kills", "cases", "log", "page", "trials")
NONE = pd.DataFrame()


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules of the soak."""
    return modules_of("soak", NAMES, monkeypatch)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of a finished run that differ by times alone."""
    for name, seconds in (("one", 1.5), ("other", 2.5)):
        run = tmp_path / name / "runs" / "joint-seed0"
        run.mkdir(parents=True)
        (run / "model.safetensors").write_bytes(b"weights")
        (run / "metrics.jsonl").write_text(f'{{"epoch": 0, "loss": 0.5, "seconds": {seconds}}}\n')
        (run / "result.json").write_text(f'{{\n "test": {{"accuracy": 1}},\n "train_seconds": {seconds}}}\n')
        (tmp_path / name / "results.csv").write_text(
            f"method,test_accuracy,train_seconds\njoint,1,{seconds}\n"
        )
    return tmp_path / "one", tmp_path / "other"


def test_times_are_no_difference(parts, folders) -> None:
    assert parts["differences"].difference(*folders) == ""


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("runs/joint-seed0/model.safetensors", "Weights", "runs/joint-seed0/model.safetensors differs"),
        (
            "runs/joint-seed0/metrics.jsonl",
            '{"epoch": 0, "loss": 0.25, "seconds": 1}\n',
            "metrics.jsonl differs",
        ),
        ("runs/joint-seed0/metrics.jsonl", "", "metrics.jsonl differs"),
        ("runs/joint-seed0/result.json", '{"test": {"accuracy": 0}}', "result.json differs"),
        ("results.csv", "method,test_accuracy,train_seconds\njoint,0,1\n", "results.csv differs"),
        ("runs/joint-seed0/more.txt", "", "files of one only: runs/joint-seed0/more.txt"),
    ],
)
def test_a_difference_is_found(parts, folders, file: str, text: str, found: str) -> None:
    (folders[0] / file).write_text(text)
    assert parts["differences"].difference(*folders).endswith(found)


def test_what_is_left_behind_is_found(parts, folders) -> None:
    for folder in folders:
        (folder / "runs" / "joint-seed0" / ".result.json.7.part").touch()
    assert parts["differences"].difference(*folders).startswith("left behind: ")


def test_trials_of_a_tuning_are_compared_without_times_and_without_those_that_were_killed(
    parts, tmp_path: Path
) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name, owner in (("one", "a"), ("other", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tuned.yaml").write_text(f"owner: {owner}\nmethods: {{joint: {{best: 0.5}}}}\n")
        study = optuna.create_study(study_name="joint", storage=f"sqlite:///{tmp_path / name / 'trials.db'}")
        study.add_trial(optuna.trial.create_trial(value=0.5, intermediate_values={0: 0.25}))
        if name == "other":
            study.ask()  # and killed
    folders = tmp_path / "one", tmp_path / "other"
    assert parts["differences"].difference(*folders) == ""
    study.add_trial(optuna.trial.create_trial(value=0.75))
    assert parts["differences"].difference(*folders) == "trials.db differs"
    (tmp_path / "one" / "trials.db").write_bytes((tmp_path / "other" / "trials.db").read_bytes())
    (tmp_path / "one" / "tuned.yaml").write_text("owner: a\nmethods: {joint: {best: 0.25}}\n")
    assert parts["differences"].difference(*folders) == "tuned.yaml differs"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("way", ["all", "command", "worker", "SIGTERM", "SIGINT"])
def test_a_process_that_goes_on_is_found_and_ended(parts, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = parts["kills"]
    monkeypatch.setattr(kills, "SECONDS", 0.1)
    process = subprocess.Popen(
        ["sh", "-c", "sleep 60 & sleep 60; true"],
        start_new_session=True,
        preexec_fn=kills.heeding_interrupts,
    )
    while len(kills.processes_of(process.pid)) < 3:
        pass
    kills.end(process, way, random.Random(0))
    if way == "worker":
        process.kill()
    process.wait(20)
    # A shell lets what it starts in the background ignore Ctrl-C.
    assert (kills.seconds_until_none(process.pid) < 0.3) == (way == "all")
    assert kills.seconds_until_none(process.pid) < 0.3  # by now they are ended


def test_the_page_lists_what_failed(parts, tmp_path: Path) -> None:
    log = parts["log"].Log(tmp_path / "kills.csv")
    kill = parts["kills"].Killed
    log.add("runs", "joint", kill("all", 3.2, True, 0.04, equal=True))
    assert "- **1 kills of 1 commands.** No result differed" in parts["page"].text(
        log.table, NONE, NONE, NONE
    )
    log.add("runs", "umt", kill("command", 5.0, True, 30.0, equal=False, difference="results.csv differs"))
    held = parts["log"].Log(tmp_path / "kills.csv")
    assert (held.count("joint"), held.count("umt"), held.count("mla")) == (1, 1, 0)
    text = parts["page"].text(held.table, NONE, NONE, NONE)
    assert "1 of them went wrong" in text
    assert "| umt | 1 | 1 | 1 | 0 | 1 | 30.0 s |" in text
    assert "- umt, command, after 5.0 s, at" in text
    assert "results.csv differs" in text


def test_the_commands_are_such_as_the_command_line_takes(parts, tmp_path: Path) -> None:
    from equipoise.cli import build_app

    made = [*parts["cases"].runs(), *parts["cases"].comparisons(), *parts["cases"].preparations(tmp_path)]
    assert len({case.name for case in made}) == len(made) == 15
    for case in made:
        words = case.command(tmp_path / "out", resume=True)[3:]
        build_app().parse_args(words, print_error=False, exit_on_error=False)
    assert pd.read_csv(tmp_path / "sounds" / "table.csv")["target"].value_counts().to_dict() == {
        "a": 200,
        "b": 200,
        "c": 200,
    }
    shutil.rmtree(tmp_path / "sounds")


ROW = {"python": "3.11", "cores": 2, "commit": "abc"}
READ = ROW | {"reader": "run", "file": "result.json", "refused": 9, "read": 1, "slowest": 0.5, "most": 2**20}


def test_readers_that_are_in_the_log_are_not_tried_again(parts, tmp_path: Path, monkeypatch) -> None:
    trials, log, tried = parts["trials"], tmp_path / "mutations.jsonl", []
    rows = [
        {"test": "a", "failed": "", "count": 10, **READ},
        {"test": "b", "failed": "mutation 3 gives KeyError", "count": 4, **READ},
        {"test": "c", "failed": "", "count": 5, **READ},
    ]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"test": "d", "fai')
    monkeypatch.setattr(trials, "tests", lambda marker: ["a", "b", "c", "d"])

    def ended(words, given):
        tried.append((*words, given[trials.COUNT]))
        return subprocess.CompletedProcess([], 1 if words == ["d"] else 0, "killed", "")

    monkeypatch.setattr(trials, "pytest_ended", ended)
    held = trials.Trials(log, "abc")
    assert len(list(held.mutate(10))) == 3
    assert tried == [("b", "10"), ("c", "10"), ("d", "10")]
    assert held.rows()[-1]["failed"] == "ended with code 1: killed"


def test_inputs_are_searched_where_atheris_is_installed(parts, tmp_path: Path, monkeypatch) -> None:
    trials, tried = parts["trials"], []
    monkeypatch.setattr(trials, "tests", lambda marker: ["a", "tests/test_other_content.py::b"])

    def ended(words, given):
        tried.append((*words, given[trials.SEARCHED], given["PYTHONPATH"].split(":")[0]))
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(trials, "pytest_ended", ended)
    held = trials.Trials(tmp_path / "guided.jsonl", "abc")
    monkeypatch.setattr(trials.importlib.util, "find_spec", lambda name: None)
    assert list(held.guide(10)) == ["atheris is not installed: no inputs are searched."]
    monkeypatch.setattr(trials.importlib.util, "find_spec", lambda name: name)
    assert list(held.guide(10)) == ["a: as it should be"]
    assert tried == [("-p", "watched_code", "a", "10", str(trials.SUPPORT))]


def test_the_page_shows_readers_and_hostile_files(parts) -> None:
    good = {"test": "a", "failed": "", "count": 10_000, **READ}
    bad = {"test": "b[x]", "failed": "mutation 3 of b gives KeyError: 1", "count": 3, **READ}
    harmless = {
        "kind": "pickle",
        "tries": "REDUCE | os.system",
        "said": "it is <b>refused</b>",
        "failed": "",
        **ROW,
    }
    harmful = {"test": "c", "kind": "picture", "tries": "PostScript", "said": "", "failed": "it ran", **ROW}
    text = parts["page"].text(
        NONE,
        pd.DataFrame([good, bad]),
        pd.DataFrame([good | {"count": 2000, "reached": 41}, bad]),
        pd.DataFrame([{"test": "d", **harmless}, harmful]),
    )
    assert "| run | `result.json` | 10,000 | 9 | 1 | 0.50 s | 1.0 MiB |" in text
    assert "**10,000 damaged copies of 1 files.** 1 readers failed" in text
    assert "- `b[x]`, at `abc`: mutation 3 of b gives KeyError: 1" in text
    assert "**2,000 searched inputs for 1 files.** 1 readers failed" in text
    assert "| run | `result.json` | 2,000 | 41 | 9 | 0.50 s | 1.0 MiB |" in text
    assert "**2 hostile files.** 1 of them did harm" in text
    assert "| pickle | `` REDUCE \\| os.system `` | `` it is <b>refused</b> `` |" in text
    assert "- `c`, at `abc`: it ran" in text
    assert "Killed commands" not in text


def test_rows_of_tests_have_the_test_and_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_row(count=1)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "deep" / "log.jsonl"))
    add_row(count=2)
    add_row(test="named", count=3)
    rows = [json.loads(line) for line in (tmp_path / "deep" / "log.jsonl").read_text().splitlines()]
    assert [row["count"] for row in rows] == [2, 3]
    name = "test_rows_of_tests_have_the_test_and_the_machine"
    assert [row["test"] for row in rows] == [f"tests/benchmarks/test_soak.py::{name}", "named"]
    assert rows[0].keys() >= {"python", "cores", "commit"}


def test_what_is_listed_are_tests_with_the_marker(parts) -> None:
    readers, harmful = (parts["trials"].files(marker) for marker in ("mutations", "hostile"))
    assert "tests/data/prepare/test_damaged_files.py" in readers
    assert "tests/system/hostile/test_hostile_files.py" in harmful
    assert not set(readers) & set(harmful)
