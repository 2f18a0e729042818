"""CMU-MOSI from every published form, compared with the content of the files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data import open_dataset
from equipoise.data.datasets.sentiment import CMUMOSI
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.text import hashed_tokens
from equipoise.types import DataError, PathError, UsageError

SHARED = Path(__file__).parents[4] / "shared" / "data"
VALUES = {
    "train": [-2.4, -0.5, 0.0, 1.5, 2.6, 0.4],
    "valid": [-1.0, 0.0, 3.0],
    "test": [0.2, -3.0, -0.2, 1.0],
}
Split = dict[str, Any]


def multibench(steps: int = 6) -> dict[str, Split]:
    """The layout of `mosi_raw.pkl`: left-padded, values [n, 1, 1], -inf in audio; one video a split."""
    rng, content = np.random.default_rng(0), {}
    for number, (split, values) in enumerate(VALUES.items()):
        n = len(values)
        features = {
            name: rng.normal(size=(n, steps, d)) for name, d in (("vision", 4), ("audio", 3), ("text", 5))
        }
        for name in features:
            features[name][:, :2] = 0
        features["audio"][0, 3, :2] = -np.inf
        ids = np.array([[f"video{number}_{k % 2}".encode(), b"%d" % k, b"%d" % (k + 1)] for k in range(n)])
        content[split] = {**features, "labels": np.array(values)[:, None, None], "id": ids}
    return content


def mmsa() -> dict[str, Split]:
    """The layout of `unaligned_50.pkl`: modalities of different lengths, tokens of BERT, raw text."""
    rng, content = np.random.default_rng(1), {}
    for number, (split, values) in enumerate(VALUES.items()):
        n = len(values)
        tokens = np.zeros((n, 3, 5), np.float32)
        tokens[:, 0, :3], tokens[:, 1, :3] = [101, 2000 + number, 102], 1
        tokens[:, 0, 4] = 77  # outside the mask, so not a token
        content[split] = {
            "raw_text": np.array([f"Film {k}, very GOOD!" for k in range(n)], dtype=object),
            "audio": rng.normal(size=(n, 7, 2)).astype(np.float32),
            "vision": rng.normal(size=(n, 9, 3)),
            "text": rng.normal(size=(n, 5, 4)).astype(np.float32),
            "id": [f"vid{number}$_${k}" for k in range(n)],
            "text_bert": tokens,
            "audio_lengths": [7] * n,
            "vision_lengths": [9] * n,
            "annotations": ["Positive" if v > 0 else "Negative" for v in values],
            "classification_labels": np.zeros(n),
            "regression_labels": np.array(values),
        }
    return content


def dump(path: Path, content: Any, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_multibench_is_stored_as_in_the_file(protocol: int, tmp_path: Path) -> None:
    content = multibench()
    dump(tmp_path / "in" / "mosi_raw.pkl", content, protocol)
    plan = CMUMOSI().plan(tmp_path / "in")
    dataset = prepare(plan, tmp_path / "out").dataset
    assert open_dataset(tmp_path / "out").fingerprint == dataset.fingerprint
    for name in ("text", "audio", "vision"):
        given = np.concatenate([content[split][name] for split in VALUES]).astype(np.float32)
        given[np.isinf(given)] = 0
        assert dataset.modalities[name].kind == "sequence"
        np.testing.assert_array_equal(dataset.array(name), given)
    assert dataset.classes == ("negative", "non-negative")
    assert dataset.target.tolist() == [0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 1]
    assert dataset.split is not None
    assert dataset.group is not None
    assert dataset.split.tolist() == ["train"] * 6 + ["val"] * 3 + ["test"] * 4
    assert dataset.group[:3].tolist() == ["video0_0", "video0_1", "video0_0"]
    assert dataset.ids[0] == "video0_0[0,1]"
    assert len(set(dataset.ids)) == 13


def test_non_finite_values_are_counted_or_refused(tmp_path: Path) -> None:
    content = multibench()
    content["test"]["vision"][1, 4, 2] = np.nan
    content["valid"]["text"][2, 5, 0] = 1e60  # more than the maximum of float32
    path = dump(tmp_path / "mosi_raw.pkl", content)
    plan = CMUMOSI().plan(path)
    assert plan.facts["nonfinite"] == {
        "text": {"inf": 1, "samples": 1},
        "audio": {"-inf": 6, "samples": 3},
        "vision": {"nan": 1, "samples": 1},
    }
    assert "audio: 6 values -inf in 3 samples; they were replaced by 0." in plan.notes
    with pytest.raises(DataError, match="1 values inf in 1 samples"):
        CMUMOSI(nonfinite="fail").plan(path)


def test_targets_follow_their_definitions(tmp_path: Path) -> None:
    path = dump(tmp_path / "mosi_raw.pkl", multibench())
    values = np.concatenate(list(VALUES.values()))

    plan = CMUMOSI(target="binary-nonzero").plan(path)
    assert plan.arguments["target"].tolist() == [0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 1]
    assert plan.arguments["classes"] == ["negative", "positive"]
    assert plan.facts["zero_left_out"] == 2
    assert any("2 samples with the sentiment 0" in n for n in plan.notes)
    np.testing.assert_array_equal(
        plan.arguments["inputs"]["text"], CMUMOSI().plan(path).arguments["inputs"]["text"][values != 0]
    )

    plan = CMUMOSI(target="seven").plan(path)
    #            -2.4 -0.5  0  1.5 2.6 0.4 -1  0  3 0.2 -3 -0.2 1: halves are rounded to even
    rounded = [-2, 0, 0, 2, 3, 0, -1, 0, 3, 0, -3, 0, 1]
    assert plan.arguments["target"].tolist() == rounded
    assert plan.arguments["classes"] == ["-3", "-2", "-1", "0", "1", "2", "3"]
    assert any(note.startswith("the split train has no sample of '-3'") for note in plan.notes)

    dataset = prepare(CMUMOSI(target="regression").plan(path), tmp_path / "out").dataset
    assert dataset.task == "regression"
    np.testing.assert_array_equal(dataset.target, values)


def test_mmsa_gives_features_tokens_or_hashed_words(tmp_path: Path) -> None:
    content = mmsa()
    path = dump(tmp_path / "Processed" / "unaligned_50.pkl", content)
    source = tmp_path  # nested like MMSA

    dataset = prepare(CMUMOSI().plan(source), tmp_path / "features").dataset
    shapes = {name: spec.shape for name, spec in dataset.modalities.items()}
    assert shapes == {"text": (5, 4), "audio": (7, 2), "vision": (9, 3)}
    given = np.concatenate([content[split]["vision"] for split in VALUES]).astype(np.float32)
    np.testing.assert_array_equal(dataset.array("vision"), given)
    assert dataset.ids[7] == "vid1$_$1"
    assert dataset.group is not None
    assert dataset.group[7] == "vid1"

    dataset = prepare(CMUMOSI(text="bert-tokens", steps=4).plan(path), tmp_path / "tokens").dataset
    assert dataset.modalities["text"].kind == "tokens"
    assert dataset.array("text")[[0, 6]].tolist() == [[101, 2000, 102, 0], [101, 2001, 102, 0]]
    assert dataset.modalities["audio"].shape == (4, 2)

    whole = CMUMOSI(text="bert-tokens").plan(path).arguments["inputs"]["text"]
    assert whole[0].tolist() == [101, 2000, 102, 0, 0]  # 77 is outside the mask

    dataset = prepare(CMUMOSI(text="hashed", steps=6, vocabulary=99).plan(path), tmp_path / "hashed").dataset
    np.testing.assert_array_equal(dataset.array("text")[3], hashed_tokens("film 3 very good", 6, 99))


def test_sequences_are_cut_without_their_padding(tmp_path: Path) -> None:
    content = multibench()
    content["train"]["text"][0, 2] = 0  # starts one step after the other modalities
    path = dump(tmp_path / "mosi_raw.pkl", content)
    inputs = CMUMOSI(steps=3).plan(path).arguments["inputs"]
    np.testing.assert_array_equal(inputs["text"][0], content["train"]["text"][0, 2:5].astype(np.float32))
    np.testing.assert_array_equal(inputs["vision"][1], content["train"]["vision"][1, 2:5].astype(np.float32))
    longer = CMUMOSI(steps=8).plan(path).arguments["inputs"]["vision"]
    np.testing.assert_array_equal(longer[2, :4], content["train"]["vision"][2, 2:].astype(np.float32))
    assert longer.shape == (13, 8, 4)
    assert not longer[:, 4:].any()


def test_samples_without_a_modality_are_counted_and_dropped_on_request(tmp_path: Path) -> None:
    content = multibench()
    content["train"]["text"][1] = 0
    content["test"]["vision"][2] = 0
    path = dump(tmp_path / "mosi_raw.pkl", content)
    expected = {"keep": 13, "drop-text": 12, "drop": 11}
    for empty, count in expected.items():
        plan = CMUMOSI(empty=empty).plan(path)  # type: ignore[arg-type]
        assert len(plan.arguments["target"]) == len(plan.arguments["inputs"]["audio"]) == count
        assert plan.facts["empty"] == {"text": 1, "audio": 0, "vision": 1, "left_out": 13 - count}
    assert "video0_1[1,2]" not in CMUMOSI(empty="drop-text").plan(path).arguments["ids"]


def test_shared_videos_and_equal_ids_are_noted(tmp_path: Path) -> None:
    content = mmsa()
    content["test"]["id"][0] = "vid0$_$0"
    plan = CMUMOSI().plan(dump(tmp_path / "aligned_50.pkl", content))
    assert plan.facts["videos_in_several_splits"] == 1
    assert any(
        note.startswith("1 videos (7 samples) are in more than one split ('vid0')") for note in plan.notes
    )
    assert plan.facts["renamed_duplicates"] == 1
    assert plan.arguments["ids"][9] == "vid0$_$0#2"
    assert plan.arguments["group"][9] == "vid0"
    assert any("published dataset 2199 of 93" in note for note in plan.notes)


def test_a_table_of_folds_replaces_the_splits(tmp_path: Path) -> None:
    path, folds = dump(tmp_path / "aligned_50.pkl", mmsa()), tmp_path / "folds.csv"
    folds.write_text("video_id,fold\nvid0,test\nvid1,train\nvid2,valid\nvid9,train\n")
    plan = CMUMOSI(split_file=str(folds)).plan(path)
    assert plan.arguments["split"].tolist() == ["test"] * 6 + ["train"] * 3 + ["val"] * 4
    assert any("1 videos of folds.csv are not in the source ('vid9')" in note for note in plan.notes)
    for text, message in (
        ("video_id,fold\nvid0,test\nvid1,train\n", "no fold for 1 videos .'vid2'."),
        ("video_id,fold\nvid0,test\nvid0,train\n", "line 3.*another fold"),
        ("video_id,fold\nvid0,third\n", "line 2.*'third'"),
        ("video,fold\nvid0,test\n", "expected video_id and fold"),
    ):
        folds.write_text(text)
        with pytest.raises(DataError, match=message):
            CMUMOSI(split_file=str(folds)).plan(path)
    with pytest.raises(PathError, match="does not exist; expected a CSV file"):
        CMUMOSI(split_file=str(tmp_path / "none.csv")).plan(path)


def test_unsupported_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        CMUMOSI().plan(tmp_path / "none")
    with pytest.raises(DataError, match=r"no file of a known name; expected one of mosi_raw\.pkl"):
        CMUMOSI().plan(tmp_path)
    dump(tmp_path / "a" / "mosi_raw.pkl", multibench())
    dump(tmp_path / "a" / "aligned_50.pkl", mmsa())
    with pytest.raises(DataError, match=r"holds 'mosi_raw\.pkl', 'aligned_50\.pkl'; give the one"):
        CMUMOSI().plan(tmp_path / "a")
    with pytest.raises(DataError, match="no column text_bert"):
        CMUMOSI(text="bert-tokens").plan(tmp_path / "a" / "mosi_raw.pkl")
    with pytest.raises(DataError, match="no column raw_text"):
        CMUMOSI(text="hashed").plan(tmp_path / "a" / "mosi_raw.pkl")
    with pytest.raises(UsageError, match="steps is 0"):
        CMUMOSI(steps=0).plan(tmp_path / "a" / "mosi_raw.pkl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["train"].pop("audio"), "no column audio in every split"),
        (lambda c: c["train"].pop("labels"), "no column regression_labels or labels"),
        (lambda c: c.pop("test"), "expected train, valid and test"),
        (lambda c: c["test"].update(text=c["test"]["text"][:2]), "text of test has 2 entries, its labels 4"),
        (lambda c: c["test"].update(text=c["test"]["text"][..., :2]), "different shapes"),
        (lambda c: c["test"].update(vision=["a"] * 4), "vision of test is <U1"),
        (lambda c: c["test"].update(labels=np.zeros((4, 1, 7))), "not that of emotions"),
        (lambda c: c["valid"]["labels"].fill(np.nan), "3 sentiments are not between"),
        (lambda c: c["valid"]["labels"].fill(8), r"video1_0\[0,1\] \(8\)"),
    ],
)
def test_an_incomplete_pickle_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    content = multibench()
    change(content)
    with pytest.raises(DataError, match=message) as caught:
        CMUMOSI().plan(dump(tmp_path / "mosi_raw.pkl", content))
    assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return (tmp_path / "ran").mkdir, ()

    path = dump(tmp_path / "mosi_raw.pkl", {"train": Attack(), "test": {}})
    with pytest.raises(DataError, match="requests the Python object"):
        CMUMOSI().plan(path)
    assert not (tmp_path / "ran").exists()


def archive(path: Path, **changed: np.ndarray) -> Path:
    """Six utterances of three videos, as an archive by utterance."""
    arrays = {
        "text": np.ones((6, 4), np.float32),
        "audio": np.arange(18, dtype=np.float32).reshape(6, 3),
        "video": np.ones((6, 4), np.float32),
        "label": np.array([0, 1, 1, 0, 0, 1], np.int8),
        "id": np.array([f"v{n // 2}_{n % 2}" for n in range(6)]),
        "video_id": np.array([f"v{n // 2}" for n in range(6)]),
        "transcript": np.array(["A GOOD FILM", "SO BAD", "UM FINE", "NO", "YES AND NO", "A FILM"]),
        "repo_split": np.array(["train"] * 4 + ["test"] * 2),
        "std_split": np.array(["valid"] * 2 + ["train"] * 2 + ["test"] * 2),
    }
    np.savez(path, **arrays | changed)
    return path


def test_an_archive_gives_transcripts_and_audio_only(tmp_path: Path) -> None:
    path = archive(tmp_path / "mosi_utt.npz")
    plan = CMUMOSI(steps=4).plan(tmp_path)
    dataset = prepare(plan, tmp_path / "out").dataset
    assert {name: spec.kind for name, spec in dataset.modalities.items()} == {
        "text": "tokens",
        "audio": "vector",
    }
    with np.load(path) as arrays:
        np.testing.assert_array_equal(dataset.array("audio"), arrays["audio"])
        for row, words in enumerate(arrays["transcript"]):
            np.testing.assert_array_equal(dataset.array("text")[row], hashed_tokens(words, 4))
    assert dataset.split.tolist() == ["train"] * 4 + ["test"] * 2
    assert dataset.group.tolist() == ["v0", "v0", "v1", "v1", "v2", "v2"]
    assert [dataset.classes[k] for k in dataset.target[:2]] == ["negative", "non-negative"]
    assert "were learnt on the labels" in plan.notes[0]
    standard = CMUMOSI(split="standard").plan(path).arguments
    assert standard["split"].tolist() == ["val", "val", "train", "train", "test", "test"]
    assert standard["inputs"]["text"].shape == (6, 50)


def test_options_of_other_sources_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "mosi_utt.npz")
    with pytest.raises(UsageError, match=r"align is 'even', which is for \.csd files; found mosi_utt\.npz"):
        CMUMOSI(align="even").plan(path)
    pickled = dump(tmp_path / "mosi_data.pkl", multibench())
    others = {"align": "even", "text_csd": "words.csd", "split": "standard", "vocabulary": 9}
    for option, value in others.items():
        with pytest.raises(UsageError, match=rf"^{option} is {value!r}, which is for .*; found mosi_data"):
            CMUMOSI(**{option: value}).plan(pickled)


def test_an_archive_has_no_strength_of_sentiment_and_no_honest_features(tmp_path: Path) -> None:
    path = archive(tmp_path / "mosi_utt.npz")
    with pytest.raises(UsageError, match="only the sign of the sentiment; expected 'binary'"):
        CMUMOSI(target="seven").plan(path)
    with pytest.raises(UsageError, match="features learnt on labels; expected 'auto' or 'hashed'"):
        CMUMOSI(text="features").plan(path)
    archive(path, label=np.array([0, 1, 2, 0, 0, 1]))
    with pytest.raises(DataError, match="labels or splits '2'; expected labels 0 and 1"):
        CMUMOSI().plan(path)
    archive(path, repo_split=np.array(["train"] * 5 + ["check"]))
    with pytest.raises(DataError, match="splits 'check'"):
        CMUMOSI().plan(path)
    archive(path, audio=np.full((6, 3), np.nan, np.float32))
    with pytest.raises(DataError, match="18 values nan"):
        CMUMOSI(nonfinite="fail").plan(path)


@pytest.mark.skipif(not SHARED.exists(), reason="real features are not available")
def test_the_real_archive_has_two_splits_by_video(tmp_path: Path) -> None:
    for split, sizes in (("repo", (1447, 0, 752)), ("standard", (1284, 229, 686))):
        plan = CMUMOSI(split=split).plan(SHARED / "mosi_utt.npz")
        assert tuple((plan.arguments["split"] == name).sum() for name in ("train", "val", "test")) == sizes
        assert plan.facts["videos_in_several_splits"] == 0
        assert {name: x.shape for name, x in plan.arguments["inputs"].items()} == {
            "text": (2199, 50),
            "audio": (2199, 73),
        }


@pytest.mark.skipif(not SHARED.exists(), reason="real features are not available")
def test_real_features_are_stored_sample_by_sample(tmp_path: Path) -> None:
    with np.load(SHARED / "mosi_utt.npz", allow_pickle=False) as real:
        columns = {name: real[name] for name in real.files}
    content = {}
    for split, spelt in (("train", "train"), ("val", "valid"), ("test", "test")):
        rows = np.isin(columns["std_split"], [split, spelt])
        content[spelt] = {
            "text": columns["text"][rows][:, None].astype(np.float64),
            "audio": columns["audio"][rows][:, None],
            "vision": columns["video"][rows][:, None],
            "labels": np.where(columns["label"][rows] == 1, 1.0, -1.0)[:, None, None],
            "id": columns["id"][rows],
        }
    dump(tmp_path / "mosi_raw.pkl", content)
    prepared = prepare(CMUMOSI().plan(tmp_path), tmp_path / "out").dataset
    assert len(prepared) == 2199
    assert prepared.group is not None
    assert prepared.split is not None
    row_of = {name: row for row, name in enumerate(columns["id"].tolist())}
    rows = [row_of[name] for name in prepared.ids.tolist()]
    assert sorted(rows) == list(range(2199))
    for name, column in (("text", "text"), ("audio", "audio"), ("vision", "video")):
        np.testing.assert_array_equal(prepared.array(name)[:, 0], columns[column][rows])
    np.testing.assert_array_equal(prepared.target, columns["label"][rows])
    assert prepared.group.tolist() == columns["video_id"][rows].tolist()
    assert len(set(prepared.group)) == 93
    spelt = np.where(np.isin(columns["std_split"], ["valid", "dev"]), "val", columns["std_split"])
    assert prepared.split.tolist() == spelt[rows].tolist()
