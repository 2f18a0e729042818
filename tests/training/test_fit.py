"""Guarantees of training runs, tested through `eq.fit`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional as F

import equipoise as eq
import synthetic
from equipoise.data import RunData, load_dataset, splits_of
from equipoise.methods import METHODS, create_method
from equipoise.methods.joint import Joint
from equipoise.models import with_fusion
from equipoise.models.fusion.base import Fusion
from equipoise.training import handle
from equipoise.training.fabric import make_fabric, passes_on

QUICK: dict[str, Any] = {"epochs": 4, "batch_size": 16, "diagnose_every": 0}
RELEARN: dict[str, Any] = {"method": "diagnose-relearn", "method_options": {"every": 1, "count": 2}}


def weights(result: eq.FitResult) -> dict[str, torch.Tensor]:
    return dict(result.model.state_dict())


def equal(first: eq.FitResult, second: eq.FitResult) -> bool:
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def epochs(result: eq.FitResult) -> list[dict[str, Any]]:
    lines = (result.run_dir / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [
        {k: v for k, v in event.items() if k != "seconds"} for event in events if event["event"] == "epoch"
    ]


def test_one_seed_gives_one_result_and_another_seed_another(data: str) -> None:
    first, second = eq.fit(data, **QUICK), eq.fit(data, **QUICK)
    assert equal(first, second)
    assert epochs(first) == epochs(second)
    assert first.test == second.test
    assert not equal(first, eq.fit(data, seed=1, **QUICK))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("diagnose-relearn", {"lam": 0.0, "every": 1, "count": 2}),
        ("diagnose-relearn", {"count": 0}),
        ("diagnose-relearn", {"lam": 0.0, "epochs": [0, 1], "preset": "robust"}),
        ("ogm", {"alpha": 0.0}),
    ],
)
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_a_method_switched_off_equals_joint_training_bit_for_bit(
    data: str, method: str, options: dict[str, Any]
) -> None:
    joint = eq.fit(data, "joint", **QUICK)
    off = eq.fit(data, method, method_options=options, **QUICK)
    assert equal(joint, off)
    assert epochs(joint) == epochs(off)


@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_diagnoses_without_relearning_change_nothing(data: str) -> None:
    blind = eq.fit(data, **RELEARN, **QUICK)
    looking = eq.fit(data, **RELEARN, **(QUICK | {"diagnose_every": 1}))
    assert equal(blind, looking)
    assert {diagnosis.event for diagnosis in looking.diagnoses} == {"relearning", "diagnosis"}
    assert [diagnosis.epoch for diagnosis in looking.relearnings] == [1, 2]
    state = looking.relearnings[0]["audio"]
    assert state.applied == pytest.approx(np.tanh(3 * abs(state.train_score - state.val_score)))


@pytest.mark.usefixtures("float64")
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_the_trainer_equals_a_plain_loop_with_a_slow_relearning(data: str) -> None:
    """All of D&R implemented again with scikit-learn and NumPy, in a separate loop."""
    budget = dict(epochs=4, batch_size=16, lr=0.05, momentum=0.9, weight_decay=1e-4)
    ours = eq.fit(data, "diagnose-relearn", method_options={"every": 1, "count": 2}, seed=3, **budget)

    dataset = load_dataset(data)
    run = RunData(dataset, splits_of(dataset), 16, seed=3)
    shapes = {name: (spec.shape, spec.kind) for name, spec in dataset.modalities.items()}
    model = eq.build_model(shapes, 3, seed=3)
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    best: tuple[float, float] = (-1.0, 0.0)
    for epoch in range(4):
        seed_of_epoch(3, epoch)
        run.set_epoch(epoch)
        model.train()
        for batch in run.train:
            optimizer.zero_grad()
            F.cross_entropy(model(batch).logits, batch.target).backward()
            optimizer.step()
        score = validation(model, run)
        if score > best:
            best, kept = score, {name: value.clone() for name, value in model.state_dict().items()}
        if epoch in (1, 2):
            slow_relearning(model, initial, run, lam=3.0)
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=1e-10)


def seed_of_epoch(seed: int, epoch: int) -> None:
    from equipoise.randomness import derive_seed, seed_everything

    seed_everything(derive_seed(seed, "epoch", epoch))


def validation(model: nn.Module, run: RunData) -> tuple[float, float]:
    model.eval()
    with torch.no_grad():
        pairs = [(model(batch).logits, batch.target) for batch in run.val]
    logits, target = torch.cat([u for u, _ in pairs]), torch.cat([y for _, y in pairs])
    accuracy = float((logits.argmax(1) == target).float().mean())
    return accuracy, -float(F.cross_entropy(logits.double(), target))


def slow_relearning(model: eq.MultimodalModel, initial: dict[str, Any], run: RunData, lam: float) -> None:
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import MinMaxScaler

    model.eval()
    for modality in model.modalities:
        purities = []
        for loader in (run.train_eval, run.val):
            with torch.no_grad():
                z = np.concatenate([model.encode(batch)[modality].numpy() for batch in loader])
            y = np.concatenate([batch.target.numpy() for batch in loader])
            scaled = MinMaxScaler((-1, 1)).fit_transform(z)
            clusters = KMeans(3, n_init=10, random_state=0).fit(scaled).labels_
            purities.append(sum(np.bincount(y[clusters == k]).max() for k in range(3)) / len(y))
        alpha = np.tanh(lam * abs(purities[0] - purities[1]))
        for name, parameter in model.named_parameters():
            if name.startswith(f"encoders.{modality}."):
                blended = (1 - alpha) * parameter.detach().numpy() + alpha * initial[name].numpy()
                parameter.data = torch.tensor(blended)


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["joint", "ogm-ge", "diagnose-relearn", "diagnose-relearn-plus"])
@pytest.mark.parametrize("killed_in", [1, 4])
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_a_resumed_run_equals_an_uninterrupted_one(data: str, out: Path, method: str, killed_in: int) -> None:
    options: dict[str, dict[str, Any]] = {
        "diagnose-relearn": {"every": 2, "count": 2, "rewarm_steps": 12, "optimizer_state": "scale"},
        "diagnose-relearn-plus": {
            "cycles": 3,
            "distillation": "mean",
            "prediction": "heads",
            "cycle_mean": True,
        },
    }
    settings: dict[str, Any] = {
        "epochs": 6,
        "batch_size": 16,
        "checkpoint_every": 1,
        "method_options": options.get(method, {}),
    }

    def kill(epoch: int, _: object) -> None:
        if epoch == killed_in:
            raise Killed

    with pytest.raises(Killed):
        eq.fit(data, method, out=out, on_epoch=kill, **settings)
    resumed = eq.fit(data, method, out=out, resume=True, **settings)
    unbroken = eq.fit(data, method, **settings)
    assert equal(resumed, unbroken)
    assert epochs(resumed) == epochs(unbroken)
    assert resumed.diagnoses == unbroken.diagnoses
    assert resumed.summary["forward_samples"] == unbroken.summary["forward_samples"]
    assert not (out / "checkpoint.pt").exists()


def test_a_run_killed_before_its_first_checkpoint_restarts(data: str, out: Path) -> None:
    def kill(epoch: int, _: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        eq.fit(data, out=out, on_epoch=kill, **QUICK)
    resumed = eq.fit(data, out=out, resume=True, **QUICK)
    assert epochs(resumed) == epochs(eq.fit(data, **QUICK))


def test_the_test_split_is_opened_once_and_last(
    data: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    original = RunData.open_test

    def watched(self: RunData) -> Any:
        opened.append(sum(1 for line in (out / "metrics.jsonl").read_text().splitlines() if "epoch" in line))
        return original(self)

    monkeypatch.setattr(RunData, "open_test", watched)
    eq.fit(data, out=out, **QUICK)
    assert opened == [QUICK["epochs"]]
    events = [json.loads(line)["event"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert events == ["start", *["epoch"] * QUICK["epochs"], "test"]


def test_the_kept_weights_are_those_of_the_best_validation_epoch(data: str) -> None:
    result = eq.fit(data, **(QUICK | {"epochs": 8}))
    history = epochs(result)
    best = max(range(8), key=lambda e: (history[e]["val_accuracy"], -history[e]["val_loss"]))
    assert result.best_epoch == best
    assert result.validation["accuracy"] == history[best]["val_accuracy"]
    dataset = load_dataset(data)
    run = RunData(dataset, splits_of(dataset), 16)
    assert validation(result.model, run)[0] == pytest.approx(history[best]["val_accuracy"])


def test_a_unimodal_run_starts_from_the_encoder_of_the_joint_run(data: str) -> None:
    joint, alone = (
        eq.fit(data, method, **(QUICK | {"epochs": 1, "lr": 0.0})) for method in ("joint", "unimodal:video")
    )
    assert alone.model.modalities == ("video",)
    for name, value in alone.model.encoder_module("video").state_dict().items():
        assert torch.equal(value, joint.model.encoder_module("video").state_dict()[name])
    assert alone.summary["init_fingerprint"] == joint.summary["init_fingerprint"]


def test_an_ensemble_is_the_mean_probability_of_the_unimodal_runs(data: str, out: Path) -> None:
    parts = {name: eq.fit(data, f"unimodal:{name}", **QUICK) for name in synthetic.VECTORS}
    ensemble = eq.fit(data, "ensemble", out=out, **QUICK)
    run = RunData(dataset := load_dataset(data), splits_of(dataset), 16)
    with torch.no_grad():
        for batch in run.val:
            expected = sum(part.model.eval()(batch).logits.softmax(1) for part in parts.values()) / 2
            torch.testing.assert_close(ensemble.model(batch).logits.softmax(1), expected)
    assert ensemble.summary["forward_samples"] == sum(p.summary["forward_samples"] for p in parts.values())
    assert (out / "parts").is_dir()


@pytest.mark.parametrize(
    "shapes",
    [
        {"only": (6,)},
        {"a.b": (6,), "train": (4,), "Ärger/x": (3,)},
        {f"m{place}": (place + 2,) for place in range(6)},
        {"vector": (6,), "sequence": (9, 4), "image": (2, 12, 10), "clip": (3, 1, 10, 12)},
    ],
    ids=["one", "three", "six", "kinds"],
)
@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_any_number_and_kind_of_modalities(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    folder = synthetic.write(tmp_path / "data", shapes, count=60).path
    result = eq.fit(folder, **RELEARN, **(QUICK | {"epochs": 3}))
    assert result.model.modalities == tuple(shapes)
    assert set(result.diagnoses[0]) == set(shapes)
    assert all(np.isfinite(value) for value in result.test.values())


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_options_of_encoders_and_fusion_reach_the_model(data: str, fusion: str) -> None:
    result = eq.fit(
        data,
        encoder={"audio": "mlp"},
        encoder_options={"audio": {"hidden": [7]}},
        fusion=fusion,
        **(QUICK | {"epochs": 1}),
    )
    assert result.model.feature_widths() == {"audio": 7, "video": 128}
    again = eq.load_run(result.run_dir)
    assert equal(again, result)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_optimisers_and_schedules_learn(data: str, optimizer: str, schedule: str) -> None:
    result = eq.fit(
        data,
        optimizer=optimizer,
        schedule=schedule,
        warmup_epochs=1,
        clip_norm=5.0,
        epochs=12,
        batch_size=16,
        diagnose_every=0,
    )
    assert result.test["accuracy"] > 0.8


@pytest.mark.parametrize(
    "method", ["joint", "unimodal:audio", "ensemble", "ogm", "ogm-ge", "diagnose-relearn"]
)
def test_bfloat16_learns_and_keeps_full_weights(data: str, method: str) -> None:
    result = eq.fit(data, method, precision="bf16-mixed", epochs=12, batch_size=16, diagnose_every=0)
    assert result.test["accuracy"] > 0.8
    assert {value.dtype for value in weights(result).values()} == {torch.float32}


def test_threads_and_random_streams_of_the_caller_are_unchanged(data: str) -> None:
    threads, stream = torch.get_num_threads(), torch.get_rng_state()
    numpy_stream = np.random.get_state()[1].tolist()
    eq.fit(data, threads=2, **QUICK)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), stream)
    assert np.random.get_state()[1].tolist() == numpy_stream


def test_seeds_may_be_numpy_integers(data: str, out: Path) -> None:
    assert equal(eq.fit(data, seed=np.int64(2), out=out, **QUICK), eq.fit(data, seed=2, **QUICK))


def test_the_record_does_not_depend_on_the_current_folder(
    data: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(data).parent)
    eq.fit(Path(data).name, out=out, **QUICK)
    monkeypatch.chdir(out)
    assert set(eq.diagnose_run(out)) == set(synthetic.VECTORS)


def test_relearning_toward_weights_in_a_file(data: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    start = eq.fit(data, seed=5, epochs=1, lr=0.0, diagnose_every=0).model
    wanted = {
        f"{m}.{name}": value.clone()
        for m in start.modalities
        for name, value in start.encoder_module(m).state_dict().items()
    }
    save_file(wanted, tmp_path / "pretrained.safetensors")
    hard = {
        "strength": "fixed",
        "lam": 1.0,
        "epochs": [1],
        "target": str(tmp_path / "pretrained.safetensors"),
    }
    method = create_method("diagnose-relearn", hard)
    reached = {}
    original = type(method).epoch_end

    def watched(self: Any, run: Any) -> None:
        original(self, run)
        if run.epoch == 1:
            for m in run.model.modalities:
                state = run.model.encoder_module(m).state_dict()
                reached.update({f"{m}.{name}": value.clone() for name, value in state.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(method), "epoch_end", watched)
        eq.fit(data, "diagnose-relearn", method_options=hard, **QUICK)
    assert reached.keys() == wanted.keys()
    assert all(torch.equal(reached[name], wanted[name]) for name in wanted)
    with pytest.raises(eq.UsageError, match="holds tensors"):
        eq.fit(data, "diagnose-relearn", method_options={"target": {"audio": {}}}, **QUICK)
    with pytest.raises(eq.UsageError, match="cannot read the target"):
        eq.fit(data, "diagnose-relearn", method_options={**hard, "target": "no.safetensors"}, **QUICK)


def test_an_inference_rule_is_part_of_the_model(data: str, tmp_path: Path) -> None:
    class Negative(Fusion):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner.widths, inner.num_classes)
            self.inner = inner

        def forward(self, z: Any) -> torch.Tensor:
            return -self.inner(z)

    class Upside(Joint):
        name = "upside-down"

        def build(self, reference: Any) -> Any:
            return with_fusion(reference, Negative(reference.fusion), reference.num_outputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS._entries(), "upside-down", Upside)
        result = eq.fit(data, "upside-down", epochs=12, batch_size=16, diagnose_every=0, out=tmp_path / "a")
        held = eq.load_run(tmp_path / "a")
    assert result.test["accuracy"] > 0.8
    inputs = {m: torch.randn(4, *shape) for m, shape in synthetic.VECTORS.items()}
    with torch.no_grad():
        assert torch.equal(held.model(inputs).logits, result.model(inputs).logits)
        assert torch.equal(held.model(inputs).logits, -held.model.fusion.inner(held.model.encode(inputs)))


def test_a_method_that_starts_from_other_weights_is_detected(data: str) -> None:
    class Head(Joint):
        name = "head-start"

        def setup(self, run: Any) -> None:
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.mul_(0.5)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS._entries(), "head-start", Head)
        table = eq.compare(data, ["joint", "head-start"], seeds=3, workers=1, **QUICK)
    assert table["rank"].isna().all()
    assert "differ in initial weights" in table.attrs["not_ranked_because"][0]


def test_a_run_in_another_order_is_detected(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lucky(Joint):
        name = "lucky-order"

        def epoch_start(self, run: Any) -> None:
            run._set_epoch(run.epoch + 1000)

    monkeypatch.setitem(METHODS._entries(), "lucky-order", Lucky)
    table = eq.compare(data, ["joint", "lucky-order"], seeds=3, workers=1, **QUICK)
    assert "differ in order of the training batches" in table.attrs["not_ranked_because"][0]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("ogm", {"alpha": "abc"}, "option 'alpha' of 'ogm' is 'abc'; expected a number"),
        ("ogm", {"start_epoch": 1.5}, "expected a whole number"),
        ("ogm", {"logits": "aux"}, "unknown value of logits"),
        ("diagnose-relearn", {"lam": "abc"}, "expected a number or a mapping"),
        ("diagnose-relearn", {"lam": None}, "'lam'"),
        ("diagnose-relearn", {"epochs": 5}, "expected a list"),
        ("diagnose-relearn", {"every": 1.5}, "'every'"),
        ("diagnose-relearn", {"count": True}, "'count'"),
        ("diagnose-relearn", {"max_alpha": "x"}, "'max_alpha'"),
        ("diagnose-relearn", {"parameters": 3}, "'parameters'"),
        ("diagnose-relearn", {"target": 3}, "'target'"),
        ("diagnose-relearn", {"layer_strength": 3}, "'layer_strength'"),
        ("diagnose-relearn", {"min_gap": [1]}, "min_gap"),
    ],
)
def test_options_of_a_wrong_type(data: str, method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(eq.UsageError) as caught:
        eq.fit(data, method, method_options=options, **QUICK)
    assert message in str(caught.value)


def test_a_diverging_run_is_reported(data: str) -> None:
    with pytest.raises(eq.TrainingError, match="loss is nan|loss is inf"):
        eq.fit(data, lr=1e20, **QUICK)


def test_batches_of_one_sample_are_too_few_for_batch_normalisation(tmp_path: Path) -> None:
    inputs, target = synthetic.samples({"audio": (4,), "video": (1, 8, 8)}, 60)
    data = eq.write_dataset(tmp_path / "data", inputs, target)
    with pytest.raises(eq.TrainingError, match="train on one sample; expected batches of at least two"):
        eq.fit(str(data.path), batch_size=1, epochs=1)


def test_a_relearning_schedule_that_cannot_work_gives_a_warning(data: str) -> None:
    with pytest.warns(eq.EquipoiseWarning, match="never takes effect"):
        eq.fit(data, "diagnose-relearn", method_options={"every": 20}, **QUICK)
    with pytest.warns(eq.EquipoiseWarning, match="learning rate below 10%"):
        eq.fit(
            data,
            "diagnose-relearn",
            method_options={"epochs": [8]},
            schedule="cosine",
            **(QUICK | {"epochs": 11}),
        )


def test_no_warning_without_problems(data: str, recwarn: pytest.WarningsRecorder) -> None:
    eq.fit(data, "diagnose-relearn", **(QUICK | {"epochs": 9}))
    assert not [w for w in recwarn if issubclass(w.category, eq.EquipoiseWarning)]


SHARED = """
from torch import nn

from equipoise.models import ConcatFusion, MultimodalModel


def build(shapes, num_classes):
    encoder = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    encoder.out_features = 6
    fusion = ConcatFusion(dict.fromkeys(shapes, 6), num_classes)
    return MultimodalModel(dict.fromkeys(shapes, encoder), fusion)
"""


@pytest.mark.filterwarnings("ignore::equipoise.types.EquipoiseWarning")
def test_one_encoder_for_two_modalities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared_encoder.py").write_text(SHARED)
    monkeypatch.chdir(tmp_path)
    folder = synthetic.write(tmp_path / "data", {"left": (4,), "right": (4,)}).path
    result = eq.fit(folder, model="shared_encoder:build", **RELEARN, **QUICK)
    left, right = (result.model.encoder_module(name) for name in ("left", "right"))
    assert left is right
    first = result.relearnings[0]
    assert first["left"].applied == first["right"].applied
    assert equal(eq.load_run(result.run_dir), result)


def test_samples_in_validation_and_test_are_all_counted(tmp_path: Path) -> None:
    x, split = np.random.default_rng(0).normal(size=(90, 3)), ["train"] * 50 + ["val"] * 20 + ["test"] * 20
    x[70:82] = x[50:62]  # twelve samples of validation are in the test split
    path = tmp_path / "leaky"
    eq.write_dataset(path, {"a": x, "b": x[:, :2]}, np.arange(90) % 2, split=split)
    with (
        pytest.warns(eq.EquipoiseWarning, match="12 whole contents"),
        pytest.raises(eq.LeakError, match="12 whole contents .* all listed in .*refused even with") as caught,
    ):
        eq.fit(path, allow_leaks=True, **QUICK)
    assert str(caught.value).count("is in val (") == 3
    assert len((tmp_path / "leaky.leaks.csv").read_text().splitlines()) == 1 + 2 * 12


@pytest.mark.parametrize("method", ["joint", "multi-loss"])
def test_without_the_wrappers_of_fabric_a_run_is_the_same(
    data: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = eq.fit(data, method, clip_norm=0.5, **QUICK)
    monkeypatch.setattr(handle, "passes_on", lambda fabric: False)
    wrapped = eq.fit(data, method, clip_norm=0.5, **QUICK)
    assert equal(plain, wrapped)
    assert epochs(plain) == epochs(wrapped)


@pytest.mark.parametrize(("precision", "wanted"), [("32-true", True), ("bf16-mixed", False)])
def test_the_wrappers_are_left_out_where_they_do_nothing(precision: str, wanted: bool) -> None:
    fabric = make_fabric("cpu", precision)
    assert passes_on(fabric) is wanted
    assert not passes_on(Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn"))
