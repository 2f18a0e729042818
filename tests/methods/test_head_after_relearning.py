"""What `head_policy` does to the fusion and the heads, in the trainer and in a loop of one's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import equipoise as eq
import synthetic
from equipoise.methods import Run
from equipoise.methods.shared.relearns import Relearns
from equipoise.models import build_model

PLUS, PLAIN = "diagnose-relearn-plus", "diagnose-relearn"
Weights = dict[tuple[str, str], Tensor]
Look = tuple[Weights, Weights]
WHOLE: dict[str, Any] = {"strength": "fixed", "lam": 1.0, "allocation": "own", "sign": "abs"}
"""With these, every re-learning goes back to the first weights."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return synthetic.write(tmp_path_factory.mktemp("head") / "data", {"audio": (8,), "video": (6,)}, 120)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Look]:
    """Return all weights at the start, and around each re-learning, as it happens."""
    found: list[Look] = []
    setup, epoch_end = Relearns.setup, Relearns.epoch_end

    def weights(run: Run) -> Weights:
        model = run.model
        groups = {m: model.encoder_parameters(m) for m in model.modalities}
        groups["fusion"] = model.fusion_parameters()
        named = {(part, name): value for part, group in groups.items() for name, value in group}
        named |= {("own", name): value for name, value in run.modules.named_parameters()}
        return {key: value.detach().clone() for key, value in named.items()}

    def watched_setup(self: Relearns, run: Run) -> None:
        setup(self, run)
        found.append((weights(run), weights(run)))

    def watched_end(self: Relearns, run: Run) -> None:
        before = weights(run)
        epoch_end(self, run)
        if self._relearn.due(run.epoch):
            found.append((before, weights(run)))

    monkeypatch.setattr(Relearns, "setup", watched_setup)
    monkeypatch.setattr(Relearns, "epoch_end", watched_end)
    return found


def same(one: Weights, other: Weights) -> set[tuple[str, str]]:
    """Return the names of the weights that are equal in both."""
    return {key for key, value in one.items() if torch.equal(value, other[key])}


CASES = [
    (PLAIN, {"epochs": [1]}),
    (PLUS, {"cycles": 2}),
    (PLUS, {"cycles": 2, "prediction": "joint"}),
    (PLUS, {"cycles": 2, "cycle_mean": True}),
    (PLUS, {"cycles": 2, "weight": 0.0}),
]


@pytest.mark.parametrize(("method", "options"), CASES)
@pytest.mark.parametrize("policy", ["keep", "blend", "refit"])
def test_in_the_trainer(data: str, method: str, options: Any, policy: str, looks: list[Look]) -> None:
    eq.fit(data, method, method_options={**options, **WHOLE, "head_policy": policy}, epochs=4, batch_size=32)
    (initial, _), (before, after) = looks
    heads = {key for key in initial if key[0] in ("fusion", "own")}
    assert heads
    assert not same(initial, before)
    assert initial.keys() - heads <= same(initial, after)
    if policy == "keep":
        assert heads <= same(before, after)
    elif policy == "blend":
        assert heads <= same(initial, after)
    else:  # only what the prediction is made of has a gradient
        assert same(before, after) == {key for key in heads if key[0] == "own"}


def test_blended_with_the_mean_strength(data: str, looks: list[Look]) -> None:
    strengths = {"audio": 0.2, "video": 0.6}
    options = {**WHOLE, "lam": strengths, "cycles": 2, "head_policy": "blend"}
    eq.fit(data, PLUS, method_options=options, epochs=4, batch_size=32)
    (initial, _), (before, after) = looks
    for part, name in initial:
        of = (part, name)
        torch.testing.assert_close(after[of], torch.lerp(before[of], initial[of], strengths.get(part, 0.4)))


def test_in_a_loop_of_your_own(looks: list[Look]) -> None:
    torch.manual_seed(0)
    model = build_model({"audio": ((8,), "vector"), "video": ((6,), "vector")}, 3)
    target = torch.arange(60) % 3
    samples = [({"audio": torch.randn(8), "video": torch.randn(6)}, y) for y in target]
    loader = DataLoader(samples, batch_size=20)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    relearn = eq.by_hand(
        PLUS,
        model,
        train_loader=loader,
        val_loader=loader,
        optimizer=optimizer,
        epochs=4,
        head_policy="blend",
        cycles=2,
        **WHOLE,
    )
    for _ in relearn.epochs():
        for batch in loader:
            optimizer.zero_grad()
            relearn.loss(batch).backward()
            relearn.on_gradients()
            optimizer.step()
    (initial, _), (before, after) = looks
    assert not same(initial, before)
    assert same(initial, after) == initial.keys()


def test_a_frozen_head_cannot_follow() -> None:
    encoder, head = nn.Linear(4, 2), nn.Linear(2, 2).requires_grad_(False)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    with pytest.raises(eq.UsageError, match="needs a head that is trained"):
        eq.DiagnoseRelearn({"audio": encoder}, optimizer=optimizer, head=head, head_policy="refit")
