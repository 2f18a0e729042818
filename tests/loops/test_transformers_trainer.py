"""The callback of transformers.Trainer equals the plain loop, with checkpoints and adapters."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

import equipoise as eq
from processes import python

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytest.importorskip("accelerate")
from transformers import BertConfig, BertModel, Trainer, TrainingArguments, ViTConfig, ViTModel  # noqa: E402
from transformers.modeling_outputs import SequenceClassifierOutput  # noqa: E402

from equipoise.loops.transformers import DiagnoseRelearnCallback  # noqa: E402

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
PATHS = {"text": "text", "image": "image"}
POOL = {"pool": lambda output: output.last_hidden_state[:, 0]}
EPOCHS = 4


class TextImage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        text = BertConfig(vocab_size=20, max_position_embeddings=6, **SMALL)
        image = ViTConfig(image_size=8, patch_size=4, num_channels=1, **SMALL)
        self.text = BertModel(text, add_pooling_layer=False)
        self.image = ViTModel(image, add_pooling_layer=False)
        self.head = nn.Linear(16, 3)

    def forward(
        self, input_ids: Tensor, pixel_values: Tensor, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        states = (self.text(input_ids=input_ids), self.image(pixel_values=pixel_values))
        logits = self.head(torch.cat([state.last_hidden_state[:, 0] for state in states], dim=1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class Pairs(Dataset[Any]):
    def __init__(self, n: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(n) % 3
        self.tokens = torch.randint(0, 20, (n, 6), generator=draw)
        self.tokens[:, 1] = self.labels
        self.pixels = torch.randn(n, 1, 8, 8, generator=draw) + self.labels[:, None, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {
            "input_ids": self.tokens[row],
            "pixel_values": self.pixels[row],
            "labels": self.labels[row],
        }


def model(*, lora: bool = False) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = TextImage()
        if not lora:
            return built
        config = peft.LoraConfig(
            r=2, target_modules=r".*(query|value|q_proj|v_proj)", modules_to_save=["head"]
        )
        return peft.get_peft_model(built, config)


def callback(**options: Any) -> DiagnoseRelearnCallback:
    return DiagnoseRelearnCallback(PATHS, Pairs(40, 1), **{"every": 1, "count": 2, **POOL, **options})


def trained(
    folder: Path,
    *callbacks: Any,
    lora: bool = False,
    resume: Path | None = None,
    data: Any = None,
    **options: Any,
) -> Trainer:
    args = TrainingArguments(
        str(folder),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=16,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **{"save_strategy": "no", **options},
    )
    trainer = Trainer(model(lora=lora), args, train_dataset=data or Pairs(61, 0), callbacks=list(callbacks))
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return trainer


def same(one: Trainer, two: Trainer) -> bool:
    left, right = one.model.state_dict(), two.model.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_strength_zero_changes_no_bit_and_another_strength_does(tmp_path: Path, lora: bool) -> None:
    options = {"parameters": "adapters"} if lora else {}
    plain = trained(tmp_path, lora=lora)
    still, moving = callback(lam=0.0, **options), callback(**options)
    assert same(plain, trained(tmp_path, still, lora=lora))
    assert not same(plain, trained(tmp_path, moving, lora=lora))
    for one in (still, moving):
        assert one.relearn is not None
        assert [entry["epoch"] for entry in one.relearn.history] == [1, 2]


@pytest.mark.usefixtures("float64")
def test_a_re_learning_equals_that_of_the_plain_loop(tmp_path: Path) -> None:
    """The weights after the first re-learning, computed by definition from those before it."""
    seen: list[dict[str, Tensor]] = []

    class Noting(transformers.TrainerCallback):
        def on_epoch_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
            seen.append({name: value.clone() for name, value in model.state_dict().items()})

    relearning = callback(count=1)
    trained(tmp_path, Noting(), relearning, Noting())
    before, after = seen[4:6]  # epoch 2, before and after the callback
    expected = model()
    by_hand = eq.DiagnoseRelearn({name: getattr(expected, name) for name in PATHS}, every=1, count=1, **POOL)
    expected.load_state_dict(before)
    loaders = [torch.utils.data.DataLoader(Pairs(n, seed), batch_size=8) for n, seed in ((61, 0), (40, 1))]
    diagnosis = by_hand.step(1, expected, *loaders)
    assert all(state.applied for state in diagnosis.values())
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("saving", [{"save_strategy": "epoch"}, {"save_strategy": "steps", "save_steps": 3}])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, saving: dict[str, Any]) -> None:
    whole = trained(tmp_path, callback(optimizer_state="scale"), **saving)
    kept = sorted(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in kept[:-1]:
        again = callback(optimizer_state="scale")
        assert same(whole, trained(tmp_path, again, resume=path, **saving)), path.name
        assert again.relearn is not None
        assert [entry["epoch"] for entry in again.relearn.history] == [1, 2]
    (kept[1] / "equipoise.pt").unlink()
    with pytest.raises(eq.RunFolderError, match=r"equipoise.pt does not exist.*resume_from="):
        trained(tmp_path, callback(), resume=kept[1], **saving)


@pytest.mark.parametrize(
    "options", [{"bf16": True}, {"gradient_accumulation_steps": 2}, {"max_grad_norm": 0.1}]
)
def test_it_works_with_options_of_the_trainer(tmp_path: Path, options: dict[str, Any]) -> None:
    plain = trained(tmp_path, **options)
    assert same(plain, trained(tmp_path, callback(lam=0.0), **options))
    assert not same(plain, trained(tmp_path, callback(), **options))


def test_without_pool_the_feature_is_the_mean_over_the_sequence(tmp_path: Path) -> None:
    one, other = callback(pool=None), callback(pool=lambda output: output.last_hidden_state.mean(dim=1))
    assert same(trained(tmp_path, one), trained(tmp_path, other))


FIXED = {"strength": "fixed", "max_alpha": 0.3, "count": 1}


@pytest.mark.parametrize("policy", ["keep", "blend", "copy"])
def test_a_named_averaged_copy_is_updated(tmp_path: Path, policy: str) -> None:
    seen: list[Any] = []

    class Averaging(transformers.TrainerCallback):
        average: Any = None

        def on_train_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
            with torch.no_grad():
                for parameter in average.parameters():
                    parameter.fill_(1.0)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            seen.append({k: v.clone() for k, v in average.module.text.named_parameters()})

    average = torch.optim.swa_utils.AveragedModel(model())
    trained(tmp_path, callback(**FIXED, ema=average, ema_policy=policy), Averaging())
    for name, initial in model().text.named_parameters():
        if policy == "copy":
            assert not torch.equal(seen[0][name], torch.ones_like(initial))
        else:
            expected = torch.ones_like(initial) if policy == "keep" else 0.7 + 0.3 * initial
            torch.testing.assert_close(seen[0][name], expected)


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "sgd", "adafactor"])
def test_moments_are_cleared_and_the_rate_warms_up_again_with_a_scheduler(tmp_path: Path, optim: str) -> None:
    rates: list[list[float]] = []
    cleared: list[bool] = []

    class Noting(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, optimizer: Any, **__: Any) -> None:
            own: list[float] = []
            rates.append(own)
            raw = getattr(optimizer, "optimizer", optimizer)
            raw.register_step_post_hook(lambda o, *_: own.append(float(o.param_groups[0]["lr"])))

        def on_epoch_begin(self, *_: Any, optimizer: Any, model: nn.Module, **__: Any) -> None:
            states = [optimizer.state.get(parameter, {}) for parameter in model.text.parameters()]
            cleared.append(not any(v.any() for state in states for v in state.values() if torch.is_tensor(v)))

    for options in ({}, {"rewarm_steps": 4, "optimizer_state": "zero"}):
        trained(tmp_path, Noting(), callback(**FIXED, **options), Noting(), optim=optim)
    planned, found = rates[0], rates[2]
    factors = [1.0] * 8 + [0.25, 0.5, 0.75] + [1.0] * 5
    assert found == pytest.approx([f * rate for f, rate in zip(factors, planned, strict=True)])
    assert cleared[-3]  # epoch 2, after the callback


def test_scores_gap_and_strength_are_in_the_log_history(tmp_path: Path) -> None:
    one = callback()
    history = trained(tmp_path, one).state.log_history
    assert one.relearn is not None
    for name in PATHS:
        logged = [entry[f"equipoise/gap/{name}"] for entry in history if f"equipoise/gap/{name}" in entry]
        assert logged == [entry["modalities"][name]["gap"] for entry in one.relearn.history]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        rows = Pairs(61, 0)
        return (rows[at % 61] for at in count())


class Sized(Stream):
    def __len__(self) -> int:
        return 61


def test_a_training_set_without_a_length_is_refused_or_given_one(tmp_path: Path) -> None:
    with pytest.raises(eq.UsageError, match="training set without a length; give it __len__, and train_d"):
        trained(tmp_path, callback(train_dataset=Pairs(61, 0)), data=Stream(), max_steps=9)
    with pytest.raises(eq.UsageError, match="a Sized cannot be read a second time in order; give train_data"):
        trained(tmp_path, callback(), data=Sized(), max_steps=9)
    with pytest.raises(eq.UsageError, match="a Stream cannot be read .*; give val_dataset="):
        trained(tmp_path, DiagnoseRelearnCallback(PATHS, Stream(), every=1, count=1))
    sized, usual = callback(train_dataset=Pairs(61, 0)), callback()
    trained(tmp_path, sized, data=Sized(), max_steps=16)
    trained(tmp_path, usual)
    assert sized.relearn is not None
    assert usual.relearn is not None
    assert [entry["epoch"] for entry in sized.relearn.history] == [1, 2]


def test_a_second_training_keeps_the_initial_weights_of_the_first(tmp_path: Path) -> None:
    """A strength of 1 sets an encoder to its initial weights."""
    seen: list[bool] = []

    class Noting(transformers.TrainerCallback):
        def on_epoch_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
            now = model.text.named_parameters()
            seen.append(all(torch.equal(value, initial[name]) for name, value in now))

    initial = dict(model().text.named_parameters())
    relearning = callback(every=2, count=1, strength="fixed", max_alpha=1.0)
    made = trained(tmp_path, relearning, Noting())
    with pytest.warns(eq.EquipoiseWarning, match="initial weights are those from before that training"):
        made.train()
    assert seen == [True, False, False, True, False, False, False, True]


def test_wrong_use_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(eq.ModelError, match=r"no submodule 'sound' for 'text'; it has text, image, head"):
        trained(tmp_path, DiagnoseRelearnCallback({"text": "sound"}, Pairs(9, 1), every=1, count=1))
    code = "import sys; sys.modules['transformers'] = None; import equipoise.loops.transformers"
    found = python("-c", code, cwd=tmp_path)
    assert "pip install 'equipoise[transformers]'" in found.stderr.splitlines()[-1]
