"""CMU-MOSEI from its pickles and from the files of the SDK, with the alignment computed in these tests."""

from __future__ import annotations

import pickle
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.data.datasets import DATASETS
from equipoise.data.datasets.sentiment import CMUMOSEI, find_source
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.text import hashed_tokens
from equipoise.data.prepare.sentiment.from_csd import find_files
from equipoise.types import DataError, UsageError

h5py = pytest.importorskip("h5py")

WORDS = [b"sp", b"this", b"is", b"bad", b"so", b"good"]
WORD_TIMES = [[0, 1], [1, 2], [2, 4], [4, 5], [5, 6], [6, 8]]
Videos = dict[str, tuple[Any, Any]]


def write(folder: Path, name: str, root: str, videos: Videos) -> None:
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / name, "w") as file:
        file.create_group(f"{root}/metadata")
        for video, (features, intervals) in videos.items():
            group = file.create_group(f"{root}/data/{video}")
            group["features"], group["intervals"] = features, np.asarray(intervals, dtype=np.float64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos with labels; the second has no vision. Sentiment is the first of seven labels."""
    at = tmp_path / "csd"
    labels = np.array([[-1.0, 9, 9, 9, 9, 9, 9], [2.0, 0, 0, 0, 0, 0, 0]])
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2) + 1
    audio, times = np.arange(16.0)[:, None], [[k / 2, (k + 1) / 2] for k in range(16)]
    loud = audio.copy()
    loud[5] = -np.inf
    both = {"v": (labels, [[1, 4], [4, 8]]), "w": (labels[:1], [[0, 2]])}
    write(at, "CMU_MOSEI_Labels.csd", "All Labels", both)
    write(
        at,
        "CMU_MOSEI_TimestampedWords.csd",
        "words",
        {v: (np.array(WORDS)[:, None], WORD_TIMES) for v in "vw"},
    )
    write(
        at,
        "CMU_MOSEI_TimestampedWordVectors.csd",
        "glove_vectors",
        dict.fromkeys("vw", (vectors, WORD_TIMES)),
    )
    write(at, "CMU_MOSEI_COVAREP.csd", "COVAREP", {"v": (loud, times), "w": (audio, times)})
    write(at, "CMU_MOSEI_VisualFacet42.csd", "FACET 4.2", {"v": (audio * 2, times)})
    return at


def test_words_are_the_time_steps_and_other_modalities_are_averaged_over_them(folder: Path) -> None:
    plan = CMUMOSEI(steps=4, target="regression").plan(folder)
    inputs = plan.arguments["inputs"]
    # From 1 to 4 s: the words 1 (1-2 s) and 2 (2-4 s); from 4 to 8 s: 3 (4-5), 4 (5-6) and 5 (6-8).
    assert inputs["text"].tolist() == [
        [[3, 4], [5, 6], [0, 0], [0, 0]],
        [[7, 8], [9, 10], [11, 12], [0, 0]],
    ]
    # Audio has a row each half second: row 5 (2.5-3 s) is -inf, so it is set to 0 before averaging.
    assert inputs["audio"][:, :, 0].tolist() == [[2.5, (4 + 0 + 6 + 7) / 4, 0, 0], [8.5, 10.5, 13.5, 0]]
    assert inputs["vision"][:, :, 0].tolist() == [[5, 11, 0, 0], [17, 21, 27, 0]]
    assert plan.arguments["target"].tolist() == [-1.0, 2.0]
    assert plan.arguments["ids"] == ["v[0]", "v[1]"]
    assert plan.arguments["group"] == ["v", "v"]
    assert plan.arguments["split"] is None
    assert plan.facts["nonfinite"]["audio"] == {"-inf": 1, "samples": 1}


def test_equal_parts_are_averaged_for_every_modality(folder: Path) -> None:
    inputs = CMUMOSEI(steps=2, align="even").plan(folder).arguments["inputs"]
    # 4 to 8 s in two parts: rows 8-11 and 12-15 of audio; words 3, 4 and word 5.
    assert inputs["audio"][1, :, 0].tolist() == [9.5, 13.5]
    assert inputs["text"][1].tolist() == [[8, 9], [11, 12]]


def test_excess_words_are_cut_and_counted(folder: Path) -> None:
    plan = CMUMOSEI(steps=2).plan(folder)
    assert plan.arguments["inputs"]["text"][1].tolist() == [[7, 8], [9, 10]]
    assert plan.facts["shortened"] == 1
    assert any("1 samples have more than 2 words" in n for n in plan.notes)


def test_words_can_be_hashed(folder: Path) -> None:
    text = CMUMOSEI(text="hashed", steps=5).plan(folder).arguments["inputs"]["text"]
    np.testing.assert_array_equal(text, [hashed_tokens("this is", 5), hashed_tokens("bad so good", 5)])
    with h5py.File(folder / "CMU_MOSEI_VisualFacet42.csd", "a") as file:
        file.copy("FACET 4.2/data/v", "FACET 4.2/data/w")
    text = CMUMOSEI(text="hashed", steps=5).plan(folder).arguments["inputs"]["text"]
    np.testing.assert_array_equal(text[2], hashed_tokens("this", 5))  # the pause before it is not a word
    with pytest.raises(UsageError, match="bert-tokens"):
        CMUMOSEI(text="bert-tokens").plan(folder)


def test_videos_missing_from_a_file_are_lost_by_name(folder: Path, tmp_path: Path) -> None:
    plan = CMUMOSEI().plan(folder)
    assert [(lost.id, lost.reason, lost.label) for lost in plan.lost] == [("w[0]", "missing", -1.0)]
    assert "CMU_MOSEI_VisualFacet42.csd" in plan.lost[0].message
    assert "'w'" in plan.lost[0].message
    with pytest.raises(DataError, match="allow-missing|allow_missing"):
        prepare(plan, tmp_path / "out")
    dataset = prepare(plan, tmp_path / "out", allow_missing=True).dataset
    assert len(dataset) == 2
    assert dataset.classes == ("negative", "non-negative")


def test_files_are_recognised_or_must_be_named(folder: Path) -> None:
    (folder / "CMU_MOSEI_VisualOpenFace2.csd").write_bytes(
        (folder / "CMU_MOSEI_VisualFacet42.csd").read_bytes()
    )
    with pytest.raises(DataError, match=r"2 files for vision .*vision-csd"):
        CMUMOSEI().plan(folder)
    assert CMUMOSEI(vision_csd="CMU_MOSEI_VisualFacet42.csd").plan(folder).facts["files"]["vision"] == (
        "CMU_MOSEI_VisualFacet42.csd"
    )
    with pytest.raises(DataError, match="contains words; expected numbers for text"):
        CMUMOSEI(text_csd="CMU_MOSEI_TimestampedWords.csd", vision_csd="CMU_MOSEI_VisualFacet42.csd").plan(
            folder
        )
    (folder / "CMU_MOSEI_COVAREP.csd").unlink()
    with pytest.raises(DataError, match="0 files for audio"):
        CMUMOSEI(vision_csd="CMU_MOSEI_VisualFacet42.csd").plan(folder)


def test_a_damaged_csd_is_named(folder: Path) -> None:
    (folder / "CMU_MOSEI_COVAREP.csd").write_bytes(b"not HDF5" * 100)
    with pytest.raises(DataError, match=r"COVAREP\.csd is not an HDF5 file"):
        CMUMOSEI().plan(folder)


def test_the_pickle_of_mult_is_read(tmp_path: Path) -> None:
    rng, content = np.random.default_rng(0), {}
    for split, n in (("train", 6), ("valid", 4), ("test", 4)):
        content[split] = {
            "vision": rng.normal(size=(n, 3, 2)),
            "labels": np.linspace(-3, 3, n).astype(np.float32)[:, None, None],
            "audio": rng.normal(size=(n, 3, 2)),
            "text": rng.normal(size=(n, 3, 4)),
            "id": [[f"{split}{k}", "0.5", "2.5"] for k in range(n)],
        }
    (tmp_path / "mosei_senti_data.pkl").write_bytes(pickle.dumps(content, 4))
    dataset = prepare(CMUMOSEI().plan(tmp_path), tmp_path / "out").dataset
    given = np.concatenate([content[split]["text"] for split in content]).astype(np.float32)
    np.testing.assert_array_equal(dataset.array("text"), given)
    assert dataset.ids[6] == "valid0[0.5,2.5]"
    assert dataset.group is not None
    assert dataset.group[6] == "valid0"


def test_both_are_known_by_name_and_take_options() -> None:
    assert DATASETS["cmu-mosei"] is CMUMOSEI
    for name in ("cmu-mosi", "cmu-mosei"):
        assert DATASETS[name](target="seven", steps=20).options()["steps"] == 20
        with pytest.raises(UsageError, match="target"):
            DATASETS[name](target="eight")


@pytest.mark.parametrize("name", ["cmu-mosi", "cmu-mosei"])
def test_the_page_documents_command_citation_and_every_option_with_its_default(name: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "datasets" / f"{name}.md"
    text, dataset = page.read_text(encoding="utf-8"), DATASETS[name]
    assert f"equipoise prepare {name} --source" in text
    assert dataset.source in text
    assert dataset.citation in " ".join(text.split())
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", text, re.MULTILINE))
    for option in fields(dataset):  # type: ignore[arg-type]
        assert rows[option.name].strip("`") == ("none" if option.default is None else str(option.default))


def test_hidden_files_of_macos_are_no_sources(tmp_path: Path) -> None:
    names = {"labels": "Labels.csd", "text": "Words.csd", "audio": "COVAREP.csd", "vision": "Facet.csd"}
    (tmp_path / "sdk").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    for name in names.values():
        (tmp_path / "sdk" / name).touch()
        (tmp_path / "sdk" / f"._{name}").touch()
        (tmp_path / "__MACOSX" / f"._{name}").touch()
    folder = find_source(tmp_path, ())
    assert folder == tmp_path / "sdk"
    found = find_files(folder, {}, "hashed")
    assert {role: file.name for role, file in found.items()} == names
