"""Augmentation: seeded by sample and epoch, consistent over modalities, limited to the selected options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import equipoise as eq
from equipoise.data import Augmenter, AugmentOptions, PreparedDataset, RunData, Splits, write_dataset
from equipoise.data.format.augment import _cropped
from equipoise.data.format.batches import SplitData
from equipoise.data.format.order import Positions
from equipoise.sharing import SharedBatch
from equipoise.training.handle import RunHandle
from equipoise.training.record import fingerprints
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Budget
from equipoise.types import Batch, EquipoiseWarning, UnknownNameError, UsageError
from interrupted import fit_with_and_without_break

RNG = np.random.default_rng(5)
N = 40
NOTHING = AugmentOptions(crop_area=1, aspect=1, flip=0, jitter=0, time_masks=0, frequency_masks=0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Aligned frames, flow and spectrogram, and an unrelated vector."""
    inputs = {
        "rgb": RNG.integers(0, 256, (N, 3, 3, 8, 10)).astype(np.uint8),
        "flow": RNG.integers(0, 256, (N, 3, 4, 8, 10)).astype(np.uint8),
        "audio": RNG.normal(3, 2, (N, 1, 20, 30)).astype(np.float16),
        "vector": RNG.normal(size=(N, 5)).astype(np.float32),
    }
    contents = {"rgb": "frames", "flow": "flow", "audio": "spectrogram"}
    folder = tmp_path_factory.mktemp("augment") / "set"
    return write_dataset(folder, inputs, np.arange(N) % 2, contents=contents)


def _data(dataset: PreparedDataset, augment: AugmentOptions | None, **options: Any) -> RunData:
    rows = np.arange(N)
    splits = Splits.of(rows[:24], rows[24:32], rows[32:], ids=dataset.ids, origin="test")
    return RunData(dataset, splits, options.pop("batch_size", 8), augment=augment, **options)


def _by_row(data: RunData, epoch: int) -> dict[int, dict[str, torch.Tensor]]:
    data.set_epoch(epoch)
    return {
        row: {name: x[place] for name, x in batch.inputs.items()}
        for shared in data.train
        for batch in [shared.own() if isinstance(shared, SharedBatch) else shared]
        for place, row in enumerate(batch.index.tolist())
    }


def _equal(one: dict[int, dict[str, torch.Tensor]], two: dict[int, dict[str, torch.Tensor]]) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(x, two[row][name]) for row, inputs in one.items() for name, x in inputs.items()
    )


def test_random_draws_depend_on_sample_and_epoch_only(dataset: PreparedDataset) -> None:
    data = _data(dataset, AugmentOptions())
    first = _by_row(data, 3)
    others = [
        _data(dataset, AugmentOptions(), batch_size=5),
        _data(dataset, AugmentOptions(), memory_limit=0),
        _data(dataset, AugmentOptions(), memory_limit=0, num_workers=2),
    ]
    assert all(_equal(first, _by_row(other, 3)) for other in others)
    halves = [_by_row(_data(dataset, AugmentOptions(), share=(r, 2)), 3) for r in range(2)]
    assert _equal(first, halves[0] | halves[1])
    assert not _equal(first, _by_row(data, 4))
    assert not _equal(first, _by_row(_data(dataset, AugmentOptions(), seed=1), 3))


def test_every_method_gets_the_same_augmented_samples(
    dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[int, int], dict[str, bytes]] = {}
    change = Augmenter.__call__

    def noting(
        self: Augmenter, inputs: Mapping[str, torch.Tensor], rows: torch.Tensor, epoch: int
    ) -> dict[str, torch.Tensor]:
        changed = change(self, inputs, rows, epoch)
        for place, row in enumerate(rows.tolist()):
            for name, x in changed.items():
                seen.setdefault((epoch, row), {})[name] = x[place].numpy().tobytes()
        return changed

    monkeypatch.setattr(Augmenter, "__call__", noting)
    found = []
    options = {"every": 1, "count": 1}
    for method, own in (("joint", {}), ("ogm-ge", {}), ("diagnose-relearn", options), ("unimodal:audio", {})):
        seen = {}
        eq.fit(dataset.path, method, method_options=own, epochs=3, augment="standard", diagnose_every=0)
        found.append(seen)
    joint, *others = found
    assert {epoch for epoch, _ in joint} == {0, 1, 2}
    assert joint[0, min(row for _, row in joint)] != joint[1, min(row for _, row in joint)]
    for other in others:
        assert other.keys() == joint.keys()
        for sample, inputs in other.items():
            assert inputs == {name: joint[sample][name] for name in inputs}


@pytest.mark.parametrize("method", ["joint", "diagnose-relearn"])
def test_a_training_with_augmentation_resumes_after_an_interruption(
    dataset: PreparedDataset, tmp_path: Path, method: str
) -> None:
    options = {"every": 1, "count": 1} if method == "diagnose-relearn" else {}
    fit_with_and_without_break(
        dataset.path,
        method,
        tmp_path / "run",
        killed_after=2,
        epochs=4,
        method_options=options,
        augment="standard",
    )


def test_only_training_batches_are_augmented(dataset: PreparedDataset) -> None:
    plain, changed = _data(dataset, None), _data(dataset, AugmentOptions())
    for one, two in ((plain.train_eval, changed.train_eval), (plain.val, changed.val)):
        for a, b in zip(one, two, strict=True):
            assert all(torch.equal(a.inputs[name], b.inputs[name]) for name in a.inputs)
    for a, b in zip(plain.open_test(), changed.open_test(), strict=True):
        assert all(torch.equal(a.inputs[name], b.inputs[name]) for name in a.inputs)
    before, after = _by_row(plain, 0), _by_row(changed, 0)
    assert all(torch.equal(before[row]["vector"], after[row]["vector"]) for row in before)
    for name in ("rgb", "flow", "audio"):
        assert sum(torch.equal(before[row][name], after[row][name]) for row in before) < 6


def test_options_without_effect_change_no_bit(dataset: PreparedDataset) -> None:
    assert _equal(_by_row(_data(dataset, None), 2), _by_row(_data(dataset, NOTHING), 2))


def test_global_random_states_are_unchanged(dataset: PreparedDataset) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    _by_row(_data(dataset, AugmentOptions()), 0)
    assert torch.equal(torch.rand(3), expected)


def _samples(
    dataset: PreparedDataset, options: AugmentOptions, name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return raw and augmented `[24, ...]` of one modality, the latter without the normalisation."""
    data = _data(dataset, options)
    found = _by_row(data, 0)
    rows = sorted(found)
    changed = torch.stack([found[row][name] for row in rows]).double()
    norm = data.normalizers[name]
    raw = torch.from_numpy(np.array(dataset.array(name)[rows])).double()
    return raw, (changed * torch.from_numpy(norm.std) + torch.from_numpy(norm.mean)) / norm.scale


def test_mirrored_flow_changes_direction(dataset: PreparedDataset) -> None:
    raw, found = _samples(dataset, replace(NOTHING, flip=1.0), "flow")
    expected = raw.flip(-1)
    expected[:, :, 0::2] = 255 - expected[:, :, 0::2]
    assert (found - expected).abs().max() < 1e-3
    raw, found = _samples(dataset, replace(NOTHING, flip=1.0), "rgb")
    assert (found - raw.flip(-1)).abs().max() < 1e-3


def test_mirrored_flow_changes_direction_also_when_normalised_by_clip(tmp_path: Path) -> None:
    flow = np.random.default_rng(1).integers(0, 256, (N, 2, 4, 5, 6), dtype=np.uint8)
    mirrored = flow[..., ::-1].copy()
    mirrored[:, :, 0::2] = 255 - mirrored[:, :, 0::2]
    found = []
    for place, (array, options) in enumerate(((flow, replace(NOTHING, flip=1.0)), (mirrored, NOTHING))):
        held = write_dataset(
            tmp_path / str(place),
            {"flow": array},
            np.arange(N) % 2,
            normalize="clip",
            contents={"flow": "flow"},
        )
        found.append(_by_row(_data(held, options), 0))
    assert found[0].keys() == found[1].keys()
    for row, sample in found[0].items():
        assert torch.allclose(sample["flow"], found[1][row]["flow"], atol=1e-5)


def test_frames_and_flow_are_mirrored_together(dataset: PreparedDataset) -> None:
    half = replace(NOTHING, flip=0.5)
    sides = []
    for name in ("rgb", "flow"):
        raw, found = _samples(dataset, half, name)
        vertical = slice(1, None, 2)
        same = (found - raw)[:, :, vertical].abs().amax(dim=(1, 2, 3, 4)) < 1e-3
        sides.append(same)
    assert torch.equal(sides[0], sides[1])
    assert 4 < int(sides[0].sum()) < 20


def test_a_crop_is_bilinear_sampling_in_its_box() -> None:
    x = torch.from_numpy(RNG.normal(size=(2, 3, 6, 9))).float()
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.5], [0.0, 0.3, 0.5, 0.7]])
    found = _cropped(x, boxes, torch.tensor([False, True]))
    for sample, (left, top, width, height) in enumerate(boxes.tolist()):
        for row in range(6):
            for column in range(9):
                across = (column + 0.5) / 9 if sample == 0 else 1 - (column + 0.5) / 9
                u = min(max((left + width * across) * 9 - 0.5, 0), 8)
                v = min(max((top + height * (row + 0.5) / 6) * 6 - 0.5, 0), 5)
                i, j = int(v), int(u)
                k, m = min(i + 1, 5), min(j + 1, 8)
                upper = x[sample, :, i, j] * (1 - u + j) + x[sample, :, i, m] * (u - j)
                lower = x[sample, :, k, j] * (1 - u + j) + x[sample, :, k, m] * (u - j)
                expected = upper * (1 - v + i) + lower * (v - i)
                assert torch.allclose(found[sample, :, row, column], expected, atol=1e-5)


def test_crops_of_normalised_pictures_equal_normalised_crops(dataset: PreparedDataset) -> None:
    crop = replace(NOTHING, crop_area=0.3, aspect=1.3, flip=0.5)
    raw, found = _samples(dataset, crop, "flow")
    data = _data(dataset, crop)
    plain = Augmenter(data.modality_specs, data.normalizers, crop, 0)
    draws = plain._draws(torch.arange(24), 0)
    from equipoise.data.format.augment import _boxes, _turned

    flipped = draws[:, 4] < 0.5
    expected = _cropped(raw.float(), _boxes(draws, crop), flipped)
    expected = _turned(expected, flipped, torch.full((4, 1, 1), 127.5))
    assert (found - expected).abs().max() < 1e-2  # of 255


def test_masks_are_bands_of_zeros(dataset: PreparedDataset) -> None:
    options = replace(NOTHING, time_masks=1, time_width=0.2, frequency_masks=1, frequency_width=0.5)
    before, after = _by_row(_data(dataset, None), 0), _by_row(_data(dataset, options), 0)
    widths = []
    for row in before:
        hidden = (after[row]["audio"] == 0)[0]
        times, bins = hidden.all(dim=0), hidden.all(dim=1)
        widths.append((int(times.sum()), int(bins.sum())))
        assert torch.equal(hidden, times[None, :] | bins[:, None])
        assert torch.equal(after[row]["audio"][0][~hidden], before[row]["audio"][0][~hidden])
        for band in (times, bins):
            assert int((band.int().diff() != 0).sum()) <= 2
    assert 3 <= max(t for t, _ in widths) <= 6
    assert 5 <= max(b for _, b in widths) <= 10


def test_jitter_moves_to_neighbouring_frames(dataset: PreparedDataset) -> None:
    raw, found = _samples(dataset, replace(NOTHING, jitter=1.0), "rgb")
    flow, motion = _samples(dataset, replace(NOTHING, jitter=1.0), "flow")
    for sample in range(24):
        for frame in range(3):
            near = [max(frame - 1, 0), min(frame + 1, 2)]
            hits = [place for place in near if (found[sample, frame] - raw[sample, place]).abs().max() < 1e-3]
            assert hits
            assert (motion[sample, frame] - flow[sample, hits[0]]).abs().max() < 1e-3


def test_a_dataset_without_contents_is_not_augmented_and_gives_a_warning(tmp_path: Path) -> None:
    plain = write_dataset(tmp_path / "set", {"x": RNG.normal(size=(N, 3))}, np.arange(N) % 2)
    with pytest.warns(EquipoiseWarning, match="none is augmented"):
        data = _data(plain, AugmentOptions())
    assert _equal(_by_row(data, 1), _by_row(_data(plain, None), 1))


def test_positions_without_an_epoch_are_not_augmented(dataset: PreparedDataset) -> None:
    source: SplitData = _data(dataset, AugmentOptions()).train_samples
    plain: SplitData = _data(dataset, None).train_samples
    assert torch.equal(source[[3, 4]].inputs["rgb"], plain[[3, 4]].inputs["rgb"])
    assert not torch.equal(source[Positions([3, 4], 0)].inputs["rgb"], plain[[3, 4]].inputs["rgb"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"crop": 0.5}, UnknownNameError, "did you mean crop_area"),
        ({"flip": 2.0}, UsageError, "flip is 2.0"),
        ({"crop_area": 0.0}, UsageError, "crop_area is 0"),
        ({"time_masks": 9}, UsageError, "expected 0 to 8"),
        ({"flip": "often"}, UsageError, "'often'"),
    ],
)
def test_mistakes(options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Budget(augment="standard", augment_options=options)
    with pytest.raises(UnknownNameError):
        Budget(augment="standrad")
    with pytest.raises(UsageError, match="augment is 'none'"):
        Budget(augment_options={"flip": 0.5})


def test_the_budget_includes_the_augmentation() -> None:
    plain = fingerprints.of_budget(Budget())
    augmented = fingerprints.of_budget(Budget(augment="standard"))
    weaker = fingerprints.of_budget(Budget(augment="standard", augment_options={"flip": 0.0}))
    named = fingerprints.of_budget(Budget(augment="standard", augment_options={"flip": 0.5}))
    assert len({plain, augmented, weaker}) == 3
    assert named == augmented


def test_a_run_stores_its_augmentation(dataset: PreparedDataset, tmp_path: Path) -> None:
    options = {"augment": "standard", "augment_options": {"flip": 0.3}, "epochs": 2, "batch_size": 8}
    eq.fit(dataset.path, out=tmp_path / "one", **options)
    eq.fit(dataset.path, out=tmp_path / "two", **options)
    eq.fit(dataset.path, out=tmp_path / "plain", augment="none", epochs=2, batch_size=8)
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "one" / "model.safetensors").read_bytes() != (
        tmp_path / "plain" / "model.safetensors"
    ).read_bytes()
    kept = RunRecord(tmp_path / "one").options()
    assert kept["augment"] == "standard"
    assert kept["augment_option"] == ["flip=0.3"]
    assert "augment" not in RunRecord(tmp_path / "plain").options()


@pytest.mark.parametrize(("method", "warmup"), [("modality-valuation", {"warmup": 1}), ("pmr", {})])
def test_methods_measure_samples_without_augmentation(
    dataset: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    warmup: dict[str, int],
) -> None:
    plain = _data(dataset, None).train_samples
    seen: list[tuple[bool, bool]] = []
    taken = RunHandle.take

    def spy(run: RunHandle, positions: list[int]) -> Batch:
        batch = taken(run, positions)
        unchanged = torch.equal(batch.inputs["rgb"], plain[positions].inputs["rgb"])
        seen.append((run.model.training, unchanged))
        return batch

    monkeypatch.setattr(RunHandle, "take", spy)
    rows = np.arange(N)
    split = np.where(rows < 24, "train", np.where(rows < 32, "val", "test"))
    names = {name: dataset.array(name) for name in dataset.modalities}
    contents = {"rgb": "frames", "flow": "flow", "audio": "spectrogram"}
    write_dataset(tmp_path / "set", names, dataset.target, split=split, contents=contents)
    options = {"augment": "standard", "epochs": 2, "batch_size": 8, "method_options": warmup}
    eq.fit(tmp_path / "set", method=method, out=tmp_path / "run", **options)
    measured = [unchanged for training, unchanged in seen if not training]
    assert measured
    assert all(measured)
    assert not any(unchanged for training, unchanged in seen if training)
