"""PMR: prototypes, weights and losses against loops in NumPy, and which encoder gets which gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from equipoise.methods import StepContext, create_method
from equipoise.methods.pmr import balance_weights
from equipoise.methods.shared.positions import stratified
from equipoise.types import Batch, UnknownNameError, UsageError
from hand_run import HandRun, random_batch, same, small_model

BOTH, THREE = ("audio", "video"), ("audio", "video", "text")


def batches(model, count=3, n=12):
    return [random_batch(model, n, seed) for seed in range(count)]


def begun(options=None, modalities=BOTH, count=3, epoch=0, **model_options):
    model = small_model(modalities, **model_options)
    run = HandRun(create_method("pmr", options or {}), model, train=batches(model, count))
    run.epoch = epoch
    run.method.epoch_start(run)
    return run


def step(run, batch):
    context = StepContext(run, batch)
    run.method.forward(context)
    return run.method.losses(context), context


def encoded(model, batch):
    """Features in evaluation mode, from the layers."""
    out = {}
    for m in model.modalities:
        e, x = model.encoder_module(m), batch.inputs[m].numpy()
        w = {k: v.detach().numpy() for k, v in e.state_dict().items()}
        h = x @ w["first.weight"].T + w["first.bias"]
        h = (h - w["norm.running_mean"]) / np.sqrt(w["norm.running_var"] + 1e-5)
        h = np.maximum(h * w["norm.weight"] + w["norm.bias"], 0)
        out[m] = h @ w["last.weight"].T + w["last.bias"]
    return out


def slow_means(model, samples):
    out = {}
    z = [encoded(model, batch) for batch in samples]
    y = np.concatenate([batch.target.numpy() for batch in samples])
    for m in model.modalities:
        whole = np.concatenate([part[m] for part in z])
        out[m] = np.stack(
            [np.mean([row for row, k in zip(whole, y, strict=True) if k == c], 0) for c in sorted(set(y))]
        )
    return out


def slow_terms(context, prototypes, alpha, mu):
    """Weights and losses, computed sample by sample."""
    y, pce, entropy, scores = context.batch.target.tolist(), {}, {}, {}
    for m, z in context.z.items():
        pce[m], entropy[m], scores[m] = 0.0, 0.0, 0.0
        for row, k in zip(z.detach().numpy(), y, strict=True):
            e = [math.exp(-math.dist(row, c)) for c in prototypes[m].numpy()]
            pi = [value / sum(e) for value in e]
            pce[m] -= math.log(pi[k]) / len(y)
            entropy[m] -= sum(p * math.log(p) for p in pi) / len(y)
            scores[m] += pi[k]
    most, least = max(scores.values()), min(scores.values())
    beta = {m: min(max(most / s - 1, 0), 1) for m, s in scores.items()}
    gamma = {m: min(max(s / least - 1, 0), 1) for m, s in scores.items()}
    one = alpha * sum(beta[m] * pce[m] for m in beta)
    return one, -mu * sum(gamma[m] * entropy[m] for m in gamma), beta, gamma


def test_prototypes_are_class_means_in_evaluation_mode_with_a_running_average():
    run = begun({"subset": 1.0, "ema": 0.3})
    modes = [part.training for part in run.model.modules()]
    assert all(modes)
    first = slow_means(run.model, run.train)
    for m, c in run.method.state_dict()["prototypes"].items():
        np.testing.assert_allclose(c.numpy(), first[m], atol=1e-9)
        assert not c.requires_grad
    run.fit(run.train)
    run.epoch = 1
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.method.epoch_start(run)
    assert same(before, run.model.state_dict())  # running statistics too
    second = slow_means(run.model, run.train)
    for m, c in run.method.state_dict()["prototypes"].items():
        np.testing.assert_allclose(c.numpy(), 0.3 * first[m] + 0.7 * second[m], atol=1e-9)
        assert not np.allclose(first[m], second[m])


def test_the_subset_is_stratified_and_drawn_from_the_generator_of_the_run():
    model = small_model()
    run = HandRun(create_method("pmr"), model, train=batches(model, 5, n=40))
    target = torch.cat([b.target for b in run.train])

    def draw(share: float, seed: int) -> torch.Tensor:
        drawn = stratified(run.train_target, share, torch.Generator().manual_seed(seed), leave=0)
        return drawn.nonzero()[:, 0]

    drawn = draw(0.1, 1)
    counts = torch.bincount(target[drawn])
    assert counts.tolist() == [max(1, round(0.1 * n)) for n in torch.bincount(target).tolist()]
    assert len(set(drawn.tolist())) == len(drawn)
    assert torch.equal(drawn, draw(0.1, 1))
    assert not torch.equal(drawn, draw(0.1, 2))
    assert len(draw(1.0, 1)) == len(target)  # all of them
    assert draw(1e-6, 0).shape == (3,)  # at least one of each class


@pytest.mark.parametrize("modalities", [BOTH, THREE])
@pytest.mark.parametrize("fusion", ["concat", "gated"])
def test_losses_against_a_loop(modalities, fusion):
    run = begun({"alpha": 1.5, "mu": 0.2, "subset": 0.5}, modalities, fusion=fusion)
    terms, context = step(run, random_batch(run.model, seed=9))
    one, two, beta, gamma = slow_terms(context, run.method.state_dict()["prototypes"], 1.5, 0.2)
    assert terms["prototypes"].item() == pytest.approx(one, abs=1e-6)
    assert terms["entropy"].item() == pytest.approx(two, abs=1e-6)
    assert one > 0 > two
    assert min(beta.values()) == 0 == min(gamma.values())
    if len(modalities) == 2:
        assert sum(b > 0 for b in beta.values()) == 1
        assert max(beta.values()) == max(gamma.values()) <= 1
        assert max(beta, key=beta.get) != max(gamma, key=gamma.get)


def test_for_two_modalities_the_weights_equal_those_of_the_paper():
    def log_pi(first, second):  # of one sample with two classes
        return torch.tensor([[[first, 1 - first]], [[second, 1 - second]]], dtype=torch.float64).log()

    for first, second in ((0.3, 0.6), (0.2, 0.9), (0.8, 0.5), (0.4, 0.4)):
        rho = first / second
        beta, gamma = balance_weights(log_pi(first, second), torch.tensor([0]))
        paper_beta, paper_gamma = (min(max(value, 0), 1) for value in (1 / rho - 1, rho - 1))
        assert beta.tolist() == pytest.approx([paper_beta, paper_gamma], abs=1e-9)
        assert gamma.tolist() == pytest.approx([paper_gamma, paper_beta], abs=1e-9)


def test_hard_weights_are_one_for_all_but_the_fastest_modality():
    for modalities in (BOTH, THREE):
        hard = begun({"weights": "hard", "mu": 0.0}, modalities)
        terms, context = step(hard, random_batch(hard.model, seed=9))
        prototypes = hard.method.state_dict()["prototypes"]
        _, _, beta, _ = slow_terms(context, prototypes, 1.0, 0.0)
        expected = 0.0
        for m, z in context.z.items():
            if beta[m] > 0:
                u = -torch.cdist(z, prototypes[m], compute_mode="donot_use_mm_for_euclid_dist")
                expected += torch.nn.functional.cross_entropy(u, context.batch.target)
        torch.testing.assert_close(terms["prototypes"], expected, atol=1e-8, rtol=0)
        assert "entropy" not in terms


def test_with_equal_scores_the_loss_is_cross_entropy():
    model = small_model(width=4)
    first, second = (model.encoder_module(m) for m in BOTH)
    second.load_state_dict(first.state_dict())
    train = []
    for seed in range(3):
        b = random_batch(model, seed=seed)
        train.append(Batch(dict.fromkeys(BOTH, b.inputs["audio"]), b.target, b.index))
    run = HandRun(create_method("pmr", {"mu": 1.0}), model, train=train)
    run.method.epoch_start(run)
    terms, context = step(run, train[0])
    joint = torch.nn.functional.cross_entropy(context.u, context.batch.target)
    assert sum(terms.values()).item() == joint.item()


def test_only_the_slower_encoder_gets_a_gradient():
    run = begun({"mu": 0.0, "alpha": 2.0})
    batch = random_batch(run.model, seed=9)
    terms, context = step(run, batch)
    _, _, beta, _ = slow_terms(context, run.method.state_dict()["prototypes"], 2.0, 0.0)
    terms["prototypes"].backward()
    for m in BOTH:
        total = sum(float(p.grad.abs().sum()) for _, p in run.model.encoder_parameters(m))
        assert (total > 0) == (beta[m] > 0)
    assert all(p.grad is None for _, p in run.model.fusion_parameters())


def test_the_gradient_against_finite_differences():
    # Weights are constants: differentiate the sum with the weights of that point.
    run = begun({"mu": 0.3, "alpha": 1.0})
    batch = random_batch(run.model, seed=9)
    gradients, context = run.gradients(batch)
    prototypes = run.method.state_dict()["prototypes"]
    _, _, beta, gamma = slow_terms(context, prototypes, 1.0, 0.3)

    def value():
        with torch.no_grad():
            z = {m: run.model.encoder_module(m)(batch.inputs[m]) for m in BOTH}
            u = run.model.fuse(z)
            total = float(torch.nn.functional.cross_entropy(u, batch.target))
        for m in BOTH:
            for row, k in zip(z[m].numpy(), batch.target.tolist(), strict=True):
                e = [math.exp(-math.dist(row, c)) for c in prototypes[m].numpy()]
                pi = [v / sum(e) for v in e]
                total += beta[m] * -math.log(pi[k]) / len(batch)
                total += 0.3 * gamma[m] * sum(p * math.log(p) for p in pi) / len(batch)
        return total

    for m in BOTH:
        weight, key = run.model.encoder_module(m).last.weight, f"encoders.{m}.last.weight"
        for i, j in ((0, 0), (3, 5)):
            with torch.no_grad():
                weight[i, j] += 1e-5
                high = value()
                weight[i, j] -= 2e-5
                low = value()
                weight[i, j] += 1e-5
            assert float(gradients[key][i, j]) == pytest.approx((high - low) / 2e-5, abs=1e-6)


def test_a_feature_on_its_prototype():
    run = begun()
    z = {m: run.method.state_dict()["prototypes"][m][:1].clone().requires_grad_() for m in BOTH}
    for m in BOTH:  # the other classes are far away
        run.method._prototypes[m][1:] += 1e3
    context = StepContext(run, Batch({}, torch.tensor([0]), torch.tensor([0])))
    context.features, context.u = z, torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    terms = run.method.losses(context)
    assert terms["prototypes"].item() == pytest.approx(0, abs=1e-6)
    sum(terms.values()).backward()
    assert all(torch.isfinite(feature.grad).all() for feature in z.values())


def test_a_class_without_training_samples_has_no_prototype():
    model = small_model()
    train = [random_batch(model, seed=seed) for seed in range(3)]
    train = [Batch(b.inputs, torch.where(b.target == 1, 2, b.target), b.index) for b in train]
    run = HandRun(create_method("pmr", {"mu": 1.0}), model, train=train)
    run.method.epoch_start(run)
    assert {len(c) for c in run.method.state_dict()["prototypes"].values()} == {2}
    terms, context = step(run, train[0])
    remapped = Batch(train[0].inputs, (train[0].target == 2).long(), train[0].index)
    context.batch = remapped
    one, two, _, _ = slow_terms(context, run.method.state_dict()["prototypes"], 1.0, 1.0)
    assert terms["prototypes"].item() == pytest.approx(one, abs=1e-6)
    assert terms["entropy"].item() == pytest.approx(two, abs=1e-6)


def test_epochs():
    def terms(epoch, **options):
        run = begun(options, epoch=epoch)
        return list(step(run, random_batch(run.model, seed=9))[0])

    assert terms(0) == terms(4) == ["joint", "prototypes", "entropy"]
    assert terms(5) == ["joint", "prototypes"]
    assert terms(5, start_epoch=1) == ["joint", "prototypes", "entropy"]
    assert terms(3, end_epoch=2) == terms(0, start_epoch=1) == ["joint"]
    assert terms(0, alpha=0.0) == ["joint", "entropy"]


def test_invalid_options_are_refused():
    for options in ({"alpha": -1.0}, {"ema": 1.5}, {"subset": 0.0}, {"subset": 2.0}, {"per_epochs": -1}):
        with pytest.raises(UsageError):
            create_method("pmr", options)
    with pytest.raises(UnknownNameError, match="did you mean hard"):
        create_method("pmr", {"weights": "harsh"})
    with pytest.raises(UsageError, match="at least 2 modalities"):
        create_method("pmr").check(small_model(("audio",)))
