"""A newcomer's mistakes: each gives one clear line and exit code 1 or 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import equipoise as eq
import synthetic


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["compare", "--methods", "diagnose-relern"], 2, "did you mean diagnose-relearn or "),
        (["compare", "--data", "htadd"], 2, "a dataset of that name exists; did you mean htad?"),
        (
            ["compare", "--data", "nosuch"],
            2,
            "neither a folder nor a dataset of that name exists; known: ave",
        ),
        (["compare", "--seeds", "0"], 2, "seeds is 0; expected at least 1"),
        (["compare", "--seeds", "-2"], 2, "seeds is -2; expected at least 1"),
        (["compare", "--data", "no/such/folder"], 2, "no/such/folder"),
        (["compare", "--methods", "referencs"], 2, "did you mean references"),
        (["compare", "--set", "lam=3"], 2, "expected METHOD.OPTION=VALUE"),
        (["compare", "--set", "joint.lam"], 2, "has no '='"),
        (["compare", "--set", "joint.lam=3"], 2, "unknown option of 'joint' 'lam'"),
        (["train", "--method", "unimodal"], 2, "expected unimodal:NAME"),
        (["train", "--encoder", "audio=mpl"], 2, "did you mean mlp?"),
        (["train", "--encoder", "mlp", "cnn"], 2, "MODALITY=NAME"),
        (["train", "--encoder", "audio=cnn"], 2, "takes image or video samples, not vector samples"),
        (["train", "--fusion", "mbt"], 2, "'mlp' is not a transformer"),
        (["train", "--modalities", "audio", "--fusion", "mmtm"], 2, "at least two modalities"),
        (["train", "--lr", "-1"], 2, "lr is -1"),
        (["train", "--method", "diagnose-relearn", "--set", "lam=-1"], 2, "lam is -1"),
        (["train", "--method", "diagnose-relearn", "--set", "lamm=1"], 2, "did you mean lam"),
        (["train", "--method", "diagnose-relearn", "--set", "metric=purty"], 2, "did you mean purity or"),
        (["train", "--method", "diagnose-relearn", "--set", "every=0"], 2, "every is 0"),
        (["train", "--device", "gpu"], 2, "unknown device 'gpu'"),
        (["train", "--device", "mps"], 2, "finds no mps device"),
        (["compare", "--device", "mps"], 2, "finds no mps device"),
        (["compare", "--device", "mps", "--precision", "auto"], 2, "finds no mps device"),
        (["tune", "--device", "mps", "--precision", "auto"], 2, "finds no mps device"),
        (["train", "--model", "nowhere:Model"], 2, "no module 'nowhere'"),
        (["train", "--model", "MyModel"], 2, "named 'module:Class'"),
        (["train", "--model", "os:sep"], 2, "names a str"),
        (["train", "--config", "nowhere.yaml"], 2, "cannot read the configuration nowhere.yaml"),
        (["predict", "nowhere", "--data", "htad", "--out", "p.csv"], 2, "nowhere holds no run"),
        (["predict", "nowhere"], 2, "--out is missing. See 'equipoise predict --help'."),
        (["predict", "nowhere", "--out"], 2, "--out needs a value. See 'equipoise predict --help'."),
        (["predict", "nowhere", "--out", "p.xlsx"], 2, "expected FILE.csv or FILE.parquet"),
        (["predict", "nowhere", "--out", "p.csv", "--batch-size", "x"], 2, "expected a whole number"),
        (["export", "nowhere"], 2, "nowhere holds no run"),
        (["export", "nowhere", "--format", "onix"], 2, "unknown format 'onix': did you mean onnx?"),
        (["diagnose"], 2, "expected either a run folder or --features"),
        (["diagnose", "nowhere"], 2, "nowhere holds no run"),
        (["diagnose", "--features", "nowhere.npz"], 2, "nowhere.npz does not exist; expected an .npz file"),
        (["diagnose", "nowhere", "--preset", "papr"], 2, "did you mean paper?"),
        (["diagnose", "nowhere", "--formats", "png"], 2, "give --figures DIR too"),
        (["diagnose", "nowhere", "--figures", "f", "--formats", "gif"], 2, "unknown format 'gif'"),
        (["diagnose", "--features", "nowhere.npz", "--quality"], 2, "need a run folder"),
        (["diagnose", "--features", "."], 2, "expected an .npz file"),
        (["diagnose", "nowhere", "--set", "name=x"], 2, "unknown diagnosis option 'name'"),
        (["cite", "nowhere", "--out", "x" * 300], 1, "choose a shorter name"),
        (["report", "nowhere"], 2, "nowhere"),
    ],
)
def test_one_line(equipoise, tmp_path: Path, words: list[str], code: int, message: str) -> None:
    ended = equipoise(*words)
    assert message in ended.err
    assert ended.code == code
    assert len(ended.err.strip().splitlines()) == 1
    assert "Traceback" not in ended.err + ended.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'. Did you mean 'train'?"),
        (
            ["train", "--epoch", "3"],
            "unknown option: --epoch. Did you mean --epochs? See 'equipoise train --help'.",
        ),
        (
            ["train", "--epochs", "three"],
            "invalid value for --epochs: expected a whole number, found 'three'.",
        ),
        (["train", "--lr", "fast"], "invalid value for --lr: expected a number, found 'fast'."),
        (["train", "--epochs", "1.5"], "invalid value for --epochs: expected a whole number, found '1.5'."),
        (["train", "--seed", "1.5"], "invalid value for --seed"),
        (["train", "more", "words"], "unexpected 'more' 'words'. See 'equipoise train --help'."),
        (["compare", "--seeds", "1.5"], "invalid value for --seeds: unable to convert '1.5' into int."),
        (["compare", "--seeds"], "--seeds requires at least 1 element"),
        (["compare", "--methods"], "--methods requires at least 1 element"),
        (["list", "method"], "invalid value 'method' for WHAT. Choose from: 'methods'"),
        (["report"], "FOLDERS is missing. See 'equipoise report --help'."),
        (["list"], "WHAT is missing: choose from methods, datasets, models, recipes, metrics. See "),
        (["prepare", "ave"], "--source is missing. See 'equipoise prepare ave --help'."),
        (["prepare", "cremadd"], "unknown command 'cremadd'. Did you mean 'cremad'?"),
    ],
)
def test_words_that_the_parser_refuses(equipoise, words: list[str], message: str) -> None:
    ended = equipoise(*words)
    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("equipoise: ")
    assert message in ended.err
    assert "Traceback" not in ended.err + ended.out


def test_a_configuration_with_an_unknown_option(equipoise, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("epoch: 3\n")
    ended = equipoise("train", "--config", "mine.yaml")
    assert ended.code == 2
    assert f"unknown option: 'epoch' in {tmp_path / 'mine.yaml'}. Did you mean --epochs?" in ended.err
    (tmp_path / "mine.yaml").write_text("[1, 2")
    assert "is not valid YAML" in equipoise("train", "--config", "mine.yaml").err
    assert "needs a file" in equipoise("train", "--config").err
    assert "needs a file" in equipoise("train", "--config=").err


def test_an_existing_output_folder(equipoise, data, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    for command in ("train", "compare"):
        for extra in ([], ["--overwrite"], ["--resume"]):
            ended = equipoise(command, "--data", data, "--out", "taken", *extra)
            assert ended.code == 2
            assert "taken is in the way" in ended.err
    assert (tmp_path / "taken" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    assert "cannot write" in equipoise("train", "--data", data, "--out", "file/run").err


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Folders and files by what marks them: run, comparison, empty folder, text, array."""
    for name, inside in (("run", None), ("comparison", "runs"), ("empty", None)):
        (tmp_path / name).mkdir()
        if inside is not None:
            (tmp_path / name / inside).mkdir()
        if name != "empty":
            (tmp_path / name / "config.yaml").write_text("epochs: 2\n")
    (tmp_path / "run" / "config.json").write_text('{"seed": 0}')
    (tmp_path / "run" / "result.json").write_text('{"seed": 0}')
    (tmp_path / "text.txt").write_text("a text\n")
    np.save(tmp_path / "one.npy", np.zeros(3))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --data run", "run is no prepared dataset"),
        ("compare --data text.txt", "text.txt is a file; expected the folder of a dataset"),
        ("train --out text.txt/run", "cannot write the folder text.txt/run"),
        ("train --out run", "run holds a run already"),
        ("train --out run --resume", "run holds a run of another configuration"),
        ("train --out comparison", "holds a comparison; choose another folder"),
        ("train --out comparison --overwrite", "holds a comparison; choose another folder"),
        ("compare --out run", "run is in the way: it exists and holds no comparison"),
        ("compare --out run --resume", "run is in the way: it exists and holds no comparison"),
        ("compare --out comparison", "comparison holds a comparison already"),
        ("diagnose empty", "empty holds no run"),
        ("diagnose text.txt", "text.txt holds no run"),
        ("diagnose comparison", "holds a comparison; expected one of its runs"),
        ("diagnose --features run", "run is no .npz file"),
        ("diagnose --features one.npy", "one.npy is no .npz file"),
        ("diagnose --features text.txt", "text.txt is no .npz file"),
        ("diagnose run --out empty --overwrite", "empty is a folder; expected the name of a file"),
        ("diagnose run --out text.txt/page.html", "text.txt is a file, not a folder"),
        ("diagnose run --figures text.txt", "text.txt is a file, not a folder"),
        ("diagnose run --out page.json", "are written to page.json; choose another name"),
        ("diagnose run --out run/config.html --overwrite", "written to run/config.json; choose another"),
        ("diagnose --features one.npy --out run/result.html", "written to run/result.json; choose another"),
        ("report text.txt", "text.txt holds neither a run nor a comparison"),
        ("report empty", "empty holds neither a run nor a comparison"),
        ("report run --out empty --overwrite", "empty is a folder; expected the name of a file"),
        ("report run --figures text.txt", "text.txt is a file, not a folder"),
        ("prepare ave --source text.txt", "text.txt is a file; expected a folder with"),
        ("prepare ave --source empty", "empty has no 'AVE'"),
        ("prepare table --source empty", "empty is a folder; expected a table"),
        ("prepare table --source one.npy", "one.npy is not a readable table"),
        ("prepare kinetics-sounds --source empty --train-list no.csv --test-list no2.csv", "no.csv does not"),
        ("prepare cmu-mosi --source empty", "empty has no file of a known name"),
    ],
)
def test_a_path_of_the_wrong_kind(equipoise, data, places: Path, words: str, message: str) -> None:
    """Each is wrong use, and changes nothing."""
    before = {path: path.is_file() and path.read_bytes() for path in places.rglob("*")}
    settings = ["--data", data] if words.startswith(("train --out", "compare --out")) else []
    ended = equipoise(*words.split(), *settings)
    assert message in ended.err
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    assert {path: path.is_file() and path.read_bytes() for path in places.rglob("*")} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": np.zeros((10, 3), dtype=np.float32)}, "'audio' 60, modality 'video' 10"),
        ({"audio": np.full((60, 8), np.nan, dtype=np.float32)}, "NaN"),
    ],
)
def test_arrays_that_form_no_dataset(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    inputs, target = synthetic.samples(synthetic.VECTORS, 60)
    with pytest.raises(eq.DataError, match=message):
        eq.write_dataset(tmp_path / "set", {**inputs, **change}, target)
    assert list(tmp_path.iterdir()) == []


def test_labels_and_splits_that_form_no_dataset(equipoise, tmp_path: Path) -> None:
    inputs, target = synthetic.samples(synthetic.VECTORS, 60)
    with pytest.raises(eq.DataError, match="expected integers or texts as classes"):
        eq.write_dataset(tmp_path / "set", inputs, target + 0.5)
    with pytest.raises(eq.DataError, match="samples for|fewer"):
        eq.write_dataset(
            tmp_path / "set", {m: x[:2] for m, x in inputs.items()}, [0, 1], classes=["a", "b", "c"]
        )
    split = np.where(np.arange(60) < 40, "train", np.where(np.arange(60) < 50, "val", "test"))
    split[(split == "val") & (target == 2)] = "train"
    eq.write_dataset(tmp_path / "set", inputs, target, split)
    ended = equipoise("train", "--data", "set")
    assert ended.code == 1
    assert "'2'" in ended.err
    assert "val" in ended.err


@pytest.mark.parametrize("words", ["diagnose run --figures new", "report run --out new/page.html"])
def test_a_folder_that_cannot_be_written(
    equipoise, places: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    """Said before any work; tests may run as root, to whom everything is open."""
    monkeypatch.setattr("equipoise.cli.arguments.os.access", lambda *_: False)
    ended = equipoise(*words.split())
    assert ended.code == 2
    assert f"{places} cannot be written; choose another place" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --out new", "equipoise: interrupted; continue with --resume."),
        ("diagnose run", "equipoise: interrupted."),
        ("report run", "equipoise: interrupted."),
    ],
)
def test_an_interrupt_names_only_options_that_exist(
    equipoise, places: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("training.fit.run", "experiments.examine.examine.examine_run", "report.write_report"):
        monkeypatch.setattr(f"equipoise.{name}", interrupted)
    (places / "run" / "result.json").write_text('{"test": {}, "validation": {}, "seed": 0}')
    ended = equipoise(*words.split())
    assert (ended.code, ended.err.strip()) == (130, said)


def test_a_leak_is_named(equipoise, tmp_path: Path) -> None:
    inputs, target = synthetic.samples(synthetic.VECTORS, 60)
    for values in inputs.values():
        values[59] = values[0]
    target[59] = target[0]
    split = np.where(np.arange(60) < 40, "train", np.where(np.arange(60) < 50, "val", "test"))
    eq.write_dataset(tmp_path / "set", inputs, target, split)
    ended = equipoise("train", "--data", "set", "--epochs", 1)
    assert ended.code == 1
    assert "'0'" in ended.err
    assert "'59'" in ended.err
    allowed = equipoise("train", "--data", "set", "--epochs", 1, "--allow-leaks")
    assert allowed.code == 0
    assert "warning:" in allowed.err
