"""Contributions to plain PyTorch models with known answers; the model is not changed."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from equipoise.diagnosis.contribution.of_model import contribution
from equipoise.types import DataError, ModelError, UnknownNameError, UsageError

N = 60


class Late(nn.Module):
    """Logits `sum_m w_m * f_m(x_m)` with given encoders."""

    def __init__(self, audio: nn.Module, video: nn.Module, head: Any) -> None:
        super().__init__()
        self.audio, self.video, self.head = audio, video, head

    def forward(self, audio: Any, video: Any) -> Any:
        return self.head(self.audio(audio), self.video(video))


def loader(*tensors: torch.Tensor, size: int = 16, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*tensors), batch_size=size, **options)


def signs(n: int = N, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """All four pairs of signs, equally often, in a random order: each mean is exactly 0."""
    pairs = torch.tensor([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)]).repeat(n // 4, 1)
    pairs = pairs[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]
    return pairs[:, :1], pairs[:, 1:]


def two_logits(u: torch.Tensor) -> torch.Tensor:
    return torch.cat([-u, u], dim=1)


def handles(model: Late) -> dict[str, nn.Module]:
    return {"audio": model.audio, "video": model.video}


def test_a_linear_model_computed_by_hand() -> None:
    a, v = signs()
    y = (2 * a + v > 0).long()[:, 0]  # audio determines the class
    model = Late(nn.Identity(), nn.Identity(), lambda a, v: two_logits(2 * a + v))
    found = contribution(model, loader(a, v, y), loader(a, v, y), handles(model))
    assert (found.score, found.baseline, found.chance, found.n) == (1.0, 0.5, 0.5, N)
    assert (found["audio"].alone, found["video"].alone) == (1.0, 0.5)
    assert (found["audio"].removed, found["video"].removed) == (0.5, 1.0)
    assert (found["audio"].shapley, found["video"].shapley) == (0.5, 0.0)
    assert found["video"].drop_permuted == 0
    assert found["audio"].permuted == pytest.approx(0.5, abs=0.12)
    assert found.confusion == ((30, 0), (0, 30))


def test_an_ignored_modality_contributes_nothing_with_any_baseline() -> None:
    torch.manual_seed(0)
    a, v = torch.randn(N, 3), torch.randn(N, 4)
    y = torch.randint(3, (N,))
    model = Late(nn.Linear(3, 3), nn.Linear(4, 3), lambda a, v: a + 0 * v)
    found = contribution(model, loader(a, v, y), loader(a, v, y), handles(model))
    own = found["video"]
    assert (own.shapley, own.drop_removed, own.drop_permuted, own.drop_averaged) == (0, 0, 0, 0)
    assert own.alone == found.baseline
    assert set(own.intervals.values()) == {(0.0, 0.0)}
    assert found["audio"].shapley == pytest.approx(found.score - found.baseline)


def test_xor_needs_both_modalities() -> None:
    a, v = signs()
    y = (a * v > 0).long()[:, 0]
    model = Late(nn.Identity(), nn.Identity(), lambda a, v: two_logits(a * v))
    found = contribution(model, loader(a, v, y), loader(a, v, y), handles(model))
    for m in ("audio", "video"):
        assert (found[m].alone, found[m].drop_removed, found[m].shapley) == (0.5, 0.5, 0.25)
        assert found[m].drop_permuted == pytest.approx(0.5, abs=0.12)


def test_permutations_are_drawn_over_all_batches() -> None:
    a, v = signs()
    y = (a > 0).long()[:, 0]
    order = y.argsort()  # batches of one class: an exchange within a batch keeps the class
    model = Late(nn.Identity(), nn.Identity(), lambda a, v: two_logits(a + 0 * v))
    batches = loader(a[order], v[order], y[order], size=10)
    assert contribution(model, batches, batches, handles(model))["audio"].drop_permuted > 0.35


def test_a_continuous_target() -> None:
    a, v = signs()
    y = (2 * a + v)[:, 0] + 5
    model = Late(nn.Identity(), nn.Identity(), lambda a, v: 2 * a + v + 5)
    found = contribution(model, loader(a, v, y), loader(a, v, y), handles(model))
    assert (found.metric, found.confusion) == ("r2", None)
    assert found.score == pytest.approx(1)
    assert found.chance == pytest.approx(0)
    assert found["audio"].shapley == pytest.approx(0.8)  # variances 4 and 1
    assert found["video"].drop_averaged == pytest.approx(0.2)
    low, high = found["audio"].intervals["shapley"]
    assert low <= 0.8 <= high


@pytest.mark.parametrize(
    ("model_output", "target"),
    [
        ("logit", lambda y: y.float()[:, None]),
        ("logit", lambda y: y.bool()[:, None]),
        ("logit", lambda y: y.float()),
        ("logit", lambda y: y),
        ("probability", lambda y: y.float()[:, None]),
        ("flat", lambda y: y.float()[:, None]),
        ("two", lambda y: y.float()[:, None]),
    ],
)
def test_two_classes_may_have_one_output_and_a_column_of_floats(model_output: str, target: Any) -> None:
    """The same contributions as those of two logits for integer classes."""
    a, v = signs()
    y = (2 * a + v > 0).long()[:, 0]
    noisy = y.where(torch.arange(N) % 6 > 0, 1 - y)
    heads = {
        "two": two_logits,
        "logit": lambda u: u,
        "flat": lambda u: u[:, 0],
        "probability": torch.sigmoid,
    }
    found = []
    for name, own in (("two", noisy), (model_output, target(noisy))):
        model = Late(nn.Identity(), nn.Identity(), lambda a, v, head=heads[name]: head(2 * a + v + 0.5))
        batches = loader(a, v, own)
        found.append(asdict(contribution(model, batches, batches, handles(model))))
    assert found[0] == found[1]
    assert found[0]["score"] == pytest.approx(5 / 6)


def test_targets_that_are_no_two_classes_are_refused() -> None:
    a, v = signs()
    y = (a[:, 0] > 0).long()
    model = Late(nn.Identity(), nn.Identity(), lambda a, v: a + v)
    floats = loader(a, v, y.float())
    with pytest.raises(DataError, match="some of the scored split are other numbers"):
        contribution(model, floats, loader(a, v, y + 0.5), handles(model))
    with pytest.raises(DataError, match="a target is 2, .* 2 classes; .* or floating-point numbers"):
        contribution(model, floats, loader(a, v, 2 * y), handles(model))
    ignored = loader(a, v, y.masked_fill(torch.arange(N) % 5 == 0, -100))
    two = Late(nn.Identity(), nn.Identity(), lambda a, v: two_logits(a + v))
    with pytest.raises(DataError, match="12 of 60 labels are -100"):
        contribution(two, ignored, ignored, handles(two))


@dataclass
class Output:
    hidden: torch.Tensor
    mask: torch.Tensor
    note: str = "kept"


class Returns(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: torch.Tensor) -> Any:
        z = torch.stack([x, 3 * x], dim=1).repeat(1, 1, 2)  # [B, T, d]
        mask = torch.ones(len(x), dtype=torch.long)
        forms: dict[str, Any] = {
            "tuple": (z, mask),
            "list": [z, None],
            "mapping": {"hidden": z, "mask": mask},
            "dataclass": Output(z, mask),
            "frames": z.flatten(0, 1),
        }
        return forms[self.form]


def first(output: Any) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output.reshape(-1, 2, output.shape[-1]).mean((1, 2))[:, None] / 2
    z = output["hidden"] if isinstance(output, dict) else getattr(output, "hidden", None)
    return (output[0] if z is None else z).mean((1, 2))[:, None] / 2


@pytest.mark.parametrize("form", ["tuple", "list", "mapping", "dataclass", "frames"])
def test_encoders_may_return_any_structure(form: str) -> None:
    a, v = signs()
    y = (2 * a + v > 0).long()[:, 0]
    plain = Late(nn.Identity(), nn.Identity(), lambda a, v: two_logits(2 * a + v))
    model = Late(Returns(form), nn.Identity(), lambda a, v: two_logits(2 * first(a) + v))
    expected, found = (contribution(m, loader(a, v, y), loader(a, v, y), handles(m)) for m in (plain, model))
    assert found == expected


def test_one_module_for_both_modalities() -> None:
    a, v = signs()
    y = (2 * a + v > 0).long()[:, 0]
    shared = nn.Identity()
    model = Late(shared, shared, lambda a, v: two_logits(2 * a + v))
    found = contribution(model, loader(a, v, y), loader(a, v, y), handles(model))
    assert (found["audio"].alone, found["video"].alone, found["video"].drop_removed) == (1.0, 0.5, 0.0)


def test_names_do_not_matter() -> None:
    torch.manual_seed(1)
    a, v, y = torch.randn(N, 3), torch.randn(N, 3), torch.randint(3, (N,))
    model = Late(nn.Linear(3, 3), nn.Linear(3, 3), lambda a, v: a + v)
    batches = loader(a, v, y)
    found = contribution(model, batches, batches, handles(model))
    turned = contribution(model, batches, batches, {"video": model.audio, "audio": model.video})
    for name, other in (("audio", "video"), ("video", "audio")):
        one, two = asdict(found[name]), asdict(turned[other])
        assert {**one, "modality": other} == two


def test_no_side_effects_and_reproducible_results() -> None:
    torch.manual_seed(2)
    a, v, y = torch.randn(N, 3), torch.randn(N, 4), torch.randint(3, (N,))
    encoder = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    model = Late(encoder, nn.Linear(4, 3), lambda a, v: a + v)
    encoder[1].eval()
    (model(a, v).sum()).backward()
    generator = torch.Generator().manual_seed(5)
    train, val = loader(a, v, y, shuffle=True, generator=generator), loader(a, v, y, shuffle=True)

    def state() -> list[Any]:
        return [
            {k: t.clone() for k, t in model.state_dict().items()},
            [p.grad.clone() for p in model.parameters()],
            [m.training for m in model.modules()],
            [len(m._forward_hooks) for m in model.modules()],
            torch.get_rng_state(),
            generator.get_state(),
            random.getstate(),
            np.random.get_state()[1],
        ]

    before = state()
    found = contribution(model, train, val, handles(model))
    for one, other in zip(before, state(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert contribution(model, train, val, handles(model)) == found


class Wide(nn.Module):
    """Pads to the longest sample of its batch, like many text encoders."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, None].repeat(1, 2 if len(x) == 16 else 3, 1)


@pytest.mark.parametrize(
    ("encoder", "head", "message"),
    [
        (Wide(), lambda a, v: two_logits(a.mean(1) + v), "in one batch and"),
        (nn.LSTM(1, 1), lambda a, v: two_logits(a[0] + v), "batch in the first dimension"),
        (nn.Identity(), lambda a, v: two_logits(a + v)[:8], "predictions of shape"),
        (nn.Identity(), lambda a, v: two_logits(a / 0 + v), "NaN or infinite"),
        (nn.Identity(), lambda a, v: two_logits(v), None),
    ],
)
def test_invalid_input_gives_one_clear_line(encoder: Any, head: Any, message: str | None) -> None:
    a, v = signs()
    y = (a > 0).long()[:, 0]
    model = Late(encoder, nn.Identity(), head)
    given = handles(model)
    if message is None:
        given, message = {"audio": nn.Identity()}, "not part of the model"
    with pytest.raises(ModelError, match=message):
        contribution(model, loader(a, v, y), loader(a, v, y), given)


def test_invalid_calls_and_loaders() -> None:
    a, v = signs()
    y = (a > 0).long()[:, 0]
    model = Late(nn.Identity(), nn.Identity(), lambda a, v: two_logits(a + v))
    batches = loader(a, v, y)
    with pytest.raises(DataError, match="each time it is iterated"):
        contribution(model, batches, iter(list(batches)), handles(model))
    with pytest.raises(DataError, match="gave no batch"):
        contribution(model, [], batches, handles(model))
    with pytest.raises(UsageError, match="give encoders="):
        contribution(model, batches, batches)
    with pytest.raises(UnknownNameError, match="absence"):
        contribution(model, batches, batches, handles(model), absence="noise")
    with pytest.raises(UnknownNameError, match="repeats"):
        contribution(model, batches, batches, handles(model), repeat=2)
    twice = Late(nn.Identity(), nn.Identity(), None)
    twice.head = lambda a, v: two_logits(twice.audio(a) + v)
    with pytest.raises(ModelError, match="called 2 times"):
        contribution(twice, batches, batches, handles(twice))
