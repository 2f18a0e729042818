"""A user's table: files and numbers of every kind, and common mistakes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from equipoise.data import open_dataset
from equipoise.data.datasets.table import OwnTable
from equipoise.data.prepare.clips import Clip
from equipoise.data.prepare.engine import prepare
from equipoise.data.prepare.media.text import hashed_tokens
from equipoise.data.prepare.readers.audio_video import StftReader
from equipoise.types import DataError, EquipoiseError, UnknownNameError, UsageError
from media_files import moving_square, tone, write_image, write_video, write_wav

N = 8
RNG = np.random.default_rng(2)
NUMBERS = RNG.normal(size=(N, 3))
ARRAYS = RNG.normal(size=(N, 5, 2)).astype(np.float32)
WORDS = ["ein Satz über Äpfel", "two words", "three, or four", "x"] * 2


def _written(folder: Path) -> pd.DataFrame:
    """Write a table with all kinds and relative paths, and return it."""
    rows = []
    for row in range(N):
        write_video(folder / "clips" / f"ä {row}.avi", np.roll(moving_square(6), row, axis=2), 10)
        write_wav(folder / "sounds" / f"{row}.wav", tone(200 + row, 8000, 0.5), 8000)
        write_image(folder / "photos" / f"{row}.png", moving_square(row + 1)[row])
        (folder / f"{row}.txt").write_text(WORDS[row])
        np.save(folder / f"{row}.npy", ARRAYS[row])
        rows.append(
            {
                "id": f"s{row}",
                "clip": f"clips/ä {row}.avi",
                "sound": f"sounds/{row}.wav",
                "photo": f"photos/{row}.png",
                "note": f"{row}.txt",
                "words": WORDS[row],
                "features": f"{row}.npy",
                **{f"imu_{axis}": repr(float(NUMBERS[row, place])) for place, axis in enumerate("xyz")},
                "target": ["cat", "dog"][row % 2],
                "split": ["train", "train", "validation", "test"][row // 2],
                "group": f"g{row // 2}",
            }
        )
    return pd.DataFrame(rows)


EVERYTHING = (
    "rgb:clip=frames",
    "motion:clip=flow",
    "sound=spectrogram",
    "photo=image",
    "note=tokens",
    "words=text",
    "features=array",
    "imu_*=numbers",
)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_every_kind_equals_its_files_and_cells(tmp_path: Path, ending: str) -> None:
    table, path = _written(tmp_path / "in"), tmp_path / "in" / f"my data{ending}"
    if ending == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="," if ending == ".csv" else "\t")
    small = OwnTable(
        modalities_from=EVERYTHING, resolution="48x48", frames=2, seconds=0.5, length=6, flow_method="dis"
    )
    dataset = prepare(small.plan(path), tmp_path / "out", workers=1).dataset
    assert dataset.ids.tolist() == [f"s{row}" for row in range(N)]
    assert dataset.classes == ("cat", "dog")
    assert dataset.split is not None
    assert dataset.split.tolist() == [["train", "train", "val", "test"][row // 2] for row in range(N)]
    assert dataset.group is not None
    assert {m: spec.kind for m, spec in dataset.modalities.items()} == {
        "rgb": "video",
        "motion": "video",
        "sound": "image",
        "photo": "image",
        "note": "tokens",
        "words": "tokens",
        "features": "sequence",
        "imu_": "vector",
    }
    for row in range(N):
        frames = np.moveaxis(np.roll(moving_square(6), row, axis=2)[[1, 4]][:, :, 8:56], -1, 1)
        assert np.array_equal(dataset.array("rgb")[row], frames)
        assert np.array_equal(
            dataset.array("photo")[row], np.moveaxis(moving_square(row + 1)[row][:, 8:56], -1, 0)
        )
        tokens = hashed_tokens(WORDS[row], 6)
        assert np.array_equal(dataset.array("words")[row], tokens)
        assert np.array_equal(dataset.array("note")[row], tokens)
        assert np.array_equal(dataset.array("features")[row], ARRAYS[row])
        assert np.array_equal(dataset.array("imu_")[row], NUMBERS[row].astype(np.float32))
        sound = Clip("x", "y", {"sound": tmp_path / "in" / "sounds" / f"{row}.wav"})
        assert np.array_equal(dataset.array("sound")[row], StftReader("sound", seconds=0.5).read(sound))


def test_lists_in_parquet_and_a_numeric_target(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "vector": list(NUMBERS),
            "series": [[list(step) for step in array] for array in ARRAYS.astype(float)],
            "y": np.linspace(-1, 1, N),
        }
    )
    table.index = [0, 1] * (N // 2) + [0] * (N % 2)  # as after a concatenation; Parquet keeps it
    table.to_parquet(tmp_path / "t.parquet")
    options = {"modalities_from": ("vector=numbers", "series=numbers"), "target": "y", "task": "regression"}
    dataset = prepare(OwnTable(**options).plan(tmp_path / "t.parquet"), tmp_path / "out", workers=2).dataset
    assert dataset.task == "regression"
    assert dataset.ids.tolist() == [str(row) for row in range(N)]
    assert np.array_equal(dataset.target, np.linspace(-1, 1, N))
    assert np.array_equal(dataset.array("vector"), NUMBERS.astype(np.float32))
    assert np.array_equal(dataset.array("series"), ARRAYS)
    assert dataset.split is None


def test_unreadable_files_are_lost_by_name(tmp_path: Path) -> None:
    table = _written(tmp_path)
    table.to_csv(tmp_path / "t.csv", index=False)
    np.save(tmp_path / "3.npy", ARRAYS[3][:4])
    (tmp_path / "5.npy").write_text("no array")
    plan = OwnTable(modalities_from=("features=array",)).plan(tmp_path / "t.csv")
    done = prepare(plan, tmp_path / "out", workers=1, allow_missing=True)
    assert [(one.id, one.reason) for one in done.summary.lost] == [
        ("s3", "wrong-format"),
        ("s5", "wrong-format"),
    ]
    assert "[4, 2]" in done.summary.lost[0].message
    assert len(open_dataset(tmp_path / "out")) == 6


@pytest.mark.parametrize("first", [np.zeros(3, np.int64), np.zeros(3, np.uint8), np.zeros(3, np.float16)])
def test_arrays_are_stored_in_a_type_that_holds_all_of_them(tmp_path: Path, first: np.ndarray) -> None:
    arrays = [first, *(np.array([0.7, 300.0, -70000.0 * row]) for row in range(1, N))]
    for row, array in enumerate(arrays):
        np.save(tmp_path / f"{row}.npy", array)
    lines = [f"{row}.npy,{'ab'[row % 2]}" for row in range(N)]
    (tmp_path / "t.csv").write_text("\n".join(["x,target", *lines]))
    plan = OwnTable(modalities_from=("x=array",)).plan(tmp_path / "t.csv")
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    assert np.array_equal(dataset.array("x"), np.stack(arrays))


ROLES = {"target": "target", "split": "split", "group": "group", "id": "ids"}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("column", ["usual", "x_own"])
def test_no_wildcard_takes_target_split_group_or_id(tmp_path: Path, role: str, column: str) -> None:
    column = role if column == "usual" else column
    values = {"target": "01" * 4, "split": ["train", "train", "val", "test"] * 2}
    table = pd.DataFrame({"x_1": range(N), column: list(values.get(role, range(N))), "x_2": range(N)})
    if role != "target":
        table["target"] = list("01" * 4)
    table.to_csv(tmp_path / "t.csv", index=False)
    options = {} if column == role else {ROLES[role]: column}
    own = OwnTable(modalities_from=("all:*=numbers",), **options)
    dataset = prepare(own.plan(tmp_path / "t.csv"), tmp_path / "out", workers=1).dataset
    assert np.array_equal(dataset.array("all"), np.arange(N)[:, None] * [1, 1])
    for kind in ("numbers", "text", *(["array"] if role in values else [])):
        named = OwnTable(modalities_from=(f"a:{column}={kind}",), **options)
        with pytest.raises(UsageError, match=f"'{column}', which is the {role} of the samples"):
            named.plan(tmp_path / "t.csv")


def test_the_name_of_a_file_may_be_the_id(tmp_path: Path) -> None:
    _written(tmp_path).drop(columns="id").to_csv(tmp_path / "t.csv", index=False)
    own = OwnTable(modalities_from=("x:features=array",), ids="features")
    dataset = prepare(own.plan(tmp_path / "t.csv"), tmp_path / "out", workers=1).dataset
    assert dataset.ids.tolist() == [f"{row}.npy" for row in range(N)]
    assert np.array_equal(dataset.array("x"), ARRAYS)


def test_a_wildcard_leaves_out_another_column_with_the_name_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t1,target,label\n1,7,a\n2,8,b\n")
    own = OwnTable(modalities_from=("t:t*=numbers",), target="label")
    assert own.plan(tmp_path / "t.csv").readers["t"].layout.shape == (1,)
    (tmp_path / "u.csv").write_text("target,label\n7,a\n8,b\n")
    with pytest.raises(UnknownNameError, match="column of inputs 't\\*'"):
        own.plan(tmp_path / "u.csv")


def test_spaces_around_ids_paths_and_headers_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = _written(tmp_path / "in")[["id", "features", "words", "imu_x", "target", "split", "group"]]
    spaced = table.rename(columns=lambda name: f" {name} ").map(lambda cell: f" {cell}\t")
    np.save(tmp_path / "in" / " 0.npy", ARRAYS[7])
    spaced.iloc[0, 1] = " 0.npy"  # a name that does begin with a space
    modalities = ("features=array", "words=text", "imu_*=numbers")
    for name in ("t.csv", "t.parquet"):
        path = tmp_path / "in" / name
        spaced.to_parquet(path) if name.endswith("t") else spaced.to_csv(path, index=False)
        dataset = prepare(OwnTable(modalities_from=modalities).plan(path), tmp_path / name, workers=1).dataset
        assert dataset.ids.tolist() == [f"s{row}" for row in range(N)]
        assert dataset.classes == ("cat", "dog")
        assert np.array_equal(dataset.array("features"), ARRAYS[[7, *range(1, N)]])
        assert np.array_equal(dataset.array("imu_")[:, 0], NUMBERS[:, 0].astype(np.float32))
        assert np.array_equal(dataset.array("words")[0], hashed_tokens(WORDS[0], 64))


@pytest.mark.parametrize(
    ("ending", "separator", "name", "encoding", "suggested"),
    [
        (".csv", ";", ";", "utf-8", ""),
        (".csv", "\t", "tab", "UTF8", ""),
        (".csv", "\t", "\\t", "utf-8-sig", ""),
        (".tsv", ",", ",", "utf-8", ""),
        (".txt", "|", "|", "utf-8", ""),
        (".csv", ",", None, "utf-16", "utf-16"),
        (".csv", ",", None, "utf-16-be", "utf-16-be"),
        (".csv", ",", None, "utf-16-le", "utf-16-le"),
        (".csv", ",", None, "latin-1", "latin-1"),
        (".csv", ";", ";", "cp1252", "latin-1"),
    ],
)
def test_separator_and_encoding(
    tmp_path: Path, ending: str, separator: str, name: str | None, encoding: str, suggested: str
) -> None:
    path = tmp_path / f"t{ending}"
    rows = [
        ["id", "x", "tweet", "target"],
        *([f"s{row}", "0.5", WORDS[row], "ab"[row % 2]] for row in range(N)),
    ]
    quoted = [[f'"{cell}"' for cell in row] for row in rows]
    path.write_bytes("\n".join(separator.join(row) for row in quoted).encode(encoding))
    options = {"modalities_from": ("tweet=text", "x=numbers")}
    with pytest.raises(DataError) if suggested or name else nullcontext() as caught:
        OwnTable(**options).plan(path)
    if caught is not None:
        option = f"--encoding, perhaps {suggested}," if suggested else "--separator"
        assert option in str(caught.value)
        assert "\n" not in str(caught.value)
    plan = OwnTable(**options, separator=name, encoding=encoding).plan(path)
    dataset = prepare(plan, tmp_path / "out", workers=1).dataset
    assert dataset.ids.tolist() == [f"s{row}" for row in range(N)]
    assert np.array_equal(dataset.array("tweet"), [hashed_tokens(WORDS[row], 64) for row in range(N)])
    assert dataset.array("x").tolist() == [[0.5]] * N


@pytest.mark.parametrize("options", [{"encoding": "latin-1"}, {"text_encoding": "latin-1"}])
def test_text_files_in_another_encoding(tmp_path: Path, options: dict[str, str]) -> None:
    _written(tmp_path).to_csv(tmp_path / "t.csv", index=False)
    for row in range(N):
        (tmp_path / f"{row}.txt").write_bytes(WORDS[row].encode("latin-1"))
    own = OwnTable(modalities_from=("note=tokens",), length=6)
    with pytest.raises(DataError, match="encoding 'utf-8' .* --encoding latin-1"):
        prepare(own.plan(tmp_path / "t.csv"), tmp_path / "out", workers=1)
    own = replace(own, **options)
    dataset = prepare(own.plan(tmp_path / "t.csv"), tmp_path / "out", workers=1).dataset
    assert np.array_equal(dataset.array("note"), [hashed_tokens(WORDS[row], 6) for row in range(N)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "utf-9"}, "encoding is 'utf-9'"),
        ({"encoding": "base64"}, "encoding is 'base64'"),
        ({"text_encoding": "utf-9"}, "encoding is 'utf-9'"),
        ({"separator": ";;"}, "separator is ';;'; expected one character"),
        ({"separator": ""}, "separator is ''"),
    ],
)
def test_wrong_separators_and_encodings(tmp_path: Path, options: dict[str, str], words: str) -> None:
    (tmp_path / "t.csv").write_text("x,target\n1,a\n2,b\n")
    with pytest.raises(UsageError, match=words):
        OwnTable(modalities_from=("x=numbers",), **options).plan(tmp_path / "t.csv")


def test_pictures_of_a_height_and_width(tmp_path: Path) -> None:
    _written(tmp_path).to_csv(tmp_path / "t.csv", index=False)
    modalities = ("rgb:clip=frames", "motion:clip=flow", "photo=image")
    own = OwnTable(modalities_from=modalities, resolution="48x64", frames=2, flow_method="dis")
    done = prepare(own.plan(tmp_path / "t.csv"), tmp_path / "out", workers=1)
    assert done.summary.notes == ()
    for row in range(N):
        frames = np.moveaxis(np.roll(moving_square(6), row, axis=2)[[1, 4]], -1, 1)
        assert np.array_equal(done.dataset.array("rgb")[row], frames)
        assert np.array_equal(
            done.dataset.array("photo")[row], np.moveaxis(moving_square(row + 1)[row], -1, 0)
        )
    assert done.dataset.array("motion").shape == (N, 12, 2, 48, 64)


def test_pictures_keep_their_proportions(tmp_path: Path) -> None:
    _written(tmp_path).to_csv(tmp_path / "t.csv", index=False)
    modalities = ("rgb:clip=frames", "motion:clip=flow", "photo=image")
    usual = OwnTable(modalities_from=modalities, frames=2, flow_method="dis").plan(tmp_path / "t.csv")
    assert [reader.layout.shape[-2:] for reader in usual.readers.values()] == [(48, 64)] * 3
    assert usual.notes[0].startswith("rgb: pictures keep the proportions of the files, 48 x 64 pixels;")
    clip = usual.clips[0]
    assert np.array_equal(usual.readers["photo"].read(clip), np.moveaxis(moving_square(1)[0], -1, 0))
    small = replace(OwnTable(modalities_from=modalities, flow_method="dis"), pixels=12)
    plan = small.plan(tmp_path / "t.csv")
    assert [reader.layout.shape[-2:] for reader in plan.readers.values()] == [(12, 16)] * 3
    assert plan.readers["rgb"].read(clip).shape == (3, 3, 12, 16)
    assert plan.readers["motion"].describe()["size"] == (12, 16)


def test_a_cut_to_a_square_is_said(tmp_path: Path) -> None:
    _written(tmp_path).to_csv(tmp_path / "t.csv", index=False)
    write_image(tmp_path / "photos" / f"{N - 1}.png", np.zeros((64, 48, 3), np.uint8))
    (tmp_path / "photos" / "0.png").write_bytes(b"damaged")
    plan = OwnTable(modalities_from=("photo=image",), pixels=16).plan(tmp_path / "t.csv")
    assert plan.readers["photo"].layout.shape == (3, 16, 16)
    assert "16 x 16 pixels; --resolution HEIGHTxWIDTH" in plan.notes[0]
    assert OwnTable(modalities_from=("features=array",)).plan(tmp_path / "t.csv").notes == ()
    for wrong in ("16", "0x4", "4x", "4 x 4", "axb"):
        with pytest.raises(UsageError, match=f"resolution is '{wrong}'"):
            OwnTable(modalities_from=("photo=image",), resolution=wrong).plan(tmp_path / "t.csv")
    with pytest.raises(UsageError, match="pixels and resolution were both given"):
        OwnTable(modalities_from=("photo=image",), resolution="16x16", pixels=16).plan(tmp_path / "t.csv")


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
@pytest.mark.parametrize("kind", ["object", "string"])
def test_a_missing_text_in_parquet_is_no_word(tmp_path: Path, missing: object, kind: str) -> None:
    table = _written(tmp_path)
    table["words"] = pd.Series([*WORDS[:2], missing, *WORDS[3:]], dtype=kind)
    table.to_parquet(tmp_path / "t.parquet")
    plan = OwnTable(modalities_from=("words=text",)).plan(tmp_path / "t.parquet")
    done = prepare(plan, tmp_path / "out", workers=1, allow_missing=True)
    assert [(one.id, one.reason) for one in done.summary.lost] == [("s2", "empty")]
    kept = [hashed_tokens(text, 64) for text in (*WORDS[:2], *WORDS[3:])]
    assert np.array_equal(done.dataset.array("words"), kept)


LONG = pytest.mark.skipif(np.dtype(np.longdouble).itemsize <= 8, reason="long double is float64 here")


@pytest.mark.parametrize("first", ["no array", pytest.param(None, marks=LONG)])
def test_a_first_array_that_cannot_be_read_costs_one_sample(tmp_path: Path, first: str | None) -> None:
    _written(tmp_path).to_csv(tmp_path / "t.csv", index=False)
    if first is None:
        np.save(tmp_path / "0.npy", ARRAYS[0].astype(np.longdouble))
    else:
        (tmp_path / "0.npy").write_text(first)
    plan = OwnTable(modalities_from=("features=array",)).plan(tmp_path / "t.csv")
    done = prepare(plan, tmp_path / "out", workers=1, allow_missing=True)
    assert [one.id for one in done.summary.lost] == ["s0"]
    assert np.array_equal(done.dataset.array("features"), ARRAYS[1:])


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {}, ["--modalities-from", "'clip'"]),
        ({}, {"modalities_from": ("clip",)}, ["'clip' is not a modality", "NAME:COLUMN=KIND"]),
        ({}, {"modalities_from": ("clip=film",)}, ["unknown kind of column 'film'"]),
        ({}, {"modalities_from": ("clipp=frames",)}, ["'clipp'", "did you mean clip"]),
        ({}, {"modalities_from": ("a:clip=frames", "a:clip=flow")}, ["'a' is named twice"]),
        ({}, {"modalities_from": ("gyro_*=numbers",)}, ["'gyro_*'"]),
        ({}, {"modalities_from": ("words=numbers",)}, ["'words'", "expected numbers"]),
        ({}, {"modalities_from": ("clip=frames",), "target": "label"}, ["'label'"]),
        (
            {},
            {"modalities_from": ("clip=frames",), "task": "regression"},
            ["row 1", "'cat'", "expected numbers"],
        ),
        ({"clip": ""}, {"modalities_from": ("clip=frames",)}, ["row 3", "'clip'", "fill it"]),
        ({"target": ""}, {"modalities_from": ("clip=frames",)}, ["row 3", "'target'"]),
        ({"split": "holdout"}, {"modalities_from": ("clip=frames",)}, ["row 3", "'holdout'"]),
        ({"id": "s0"}, {"modalities_from": ("clip=frames",)}, ["'s0'", "more than once"]),
        ({"imu_x": "nan"}, {"modalities_from": ("imu_*=numbers",)}, ["'s2'", "3] finite numbers"]),
    ],
)
def test_mistakes(tmp_path: Path, change: dict, options: dict, words: list[str]) -> None:
    table = _written(tmp_path)
    for column, value in change.items():
        table.loc[2, column] = value
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(EquipoiseError) as caught:
        plan = OwnTable(pixels=16, **options).plan(tmp_path / "t.csv")
        prepare(plan, tmp_path / "out", workers=1)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_invalid_tables(tmp_path: Path) -> None:
    options = OwnTable(modalities_from=("x=numbers",))
    (tmp_path / "t.csv").write_text("x,target\n")
    (tmp_path / "t.xlsx").write_text("x")
    (tmp_path / "t.parquet").write_text("no parquet at all")
    (tmp_path / "two.csv").write_text("x, x,target\n1,2,a\n1,2,b\n")
    (tmp_path / "one.csv").write_text("x,target\n1,a\n2,a\n")
    for name, word in (
        ("t.csv", "no rows"),
        ("t.xlsx", "expected a table: .csv"),
        ("t.parquet", "cannot be read"),
        ("none.csv", "does not exist; expected a table: .csv"),
        ("one.csv", "only one class"),
        ("two.csv", "two columns 'x'"),
    ):
        with pytest.raises(EquipoiseError, match=word):
            options.plan(tmp_path / name)


def test_a_missing_first_cell_costs_its_own_row_alone(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [None, *([float(row), 1.0] for row in range(1, 8))], "y": list("abababab")})
    table.to_parquet(tmp_path / "t.parquet")
    plan = OwnTable(modalities_from=("x=numbers",), target="y").plan(tmp_path / "t.parquet")
    done = prepare(plan, tmp_path / "out", workers=1, allow_missing=0.2)
    assert done.dataset.ids.tolist() == [str(row) for row in range(1, 8)]
    assert done.dataset.array("x")[0].tolist() == [1.0, 1.0]
