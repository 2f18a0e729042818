"""MMTM blocks against the formula in NumPy, and the running means of their gates."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch

from equipoise.models.mid_fusion.mmtm import MMTM
from equipoise.types import ModelError, UsageError

WIDTHS = {"a.b": 4, "train": 3, "keys": 5}
DIMS = {"a.b": 1, "train": -1, "keys": 1}


def block_of(count: int = 3, ratio: int = 4) -> MMTM:
    names = list(WIDTHS)[:count]
    return MMTM({m: WIDTHS[m] for m in names}, DIMS, ratio=ratio).double()


def maps_of(block: MMTM, batch: int = 2) -> dict[str, torch.Tensor]:
    shapes = {"a.b": (batch, 4, 3, 2), "train": (batch, 6, 3), "keys": (batch * 3, 5, 2, 2)}
    return {
        m: torch.randn(shapes[m], dtype=torch.float64).requires_grad_()
        for m in reversed(block.modalities)  # in any order
    }


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def gates_by_hand(block: MMTM, maps: dict[str, torch.Tensor], batch: int = 2) -> dict[str, np.ndarray]:
    squeezed = []
    for m in block.modalities:
        if m not in maps:
            squeezed.append(np.zeros((batch, WIDTHS[m])))
        elif m == "train":
            squeezed.append(array(maps[m]).mean(axis=1))
        else:  # all positions of all frames of a sample
            h = array(maps[m])
            frames = h.reshape(batch, -1, *h.shape[1:])
            squeezed.append(frames.mean(axis=(1, 3, 4)))
    s = np.concatenate(squeezed, axis=1)
    e = np.maximum(s @ array(block.squeeze.weight).T + array(block.squeeze.bias), 0)
    gates = {}
    for m, layer in zip(block.modalities, block.excite, strict=True):
        gates[m] = 1 / (1 + np.exp(-(e @ array(layer.weight).T + array(layer.bias))))
    return {m: gates[m] for m in maps}


def gated_by_hand(maps, gates):
    gated = {}
    for m, h in maps.items():
        if m == "train":
            gated[m] = array(h) * gates[m][:, None, :]
        else:
            rows = np.repeat(gates[m], len(h) // len(gates[m]), axis=0)
            gated[m] = array(h) * rows[:, :, None, None]
    return gated


def assert_maps(found, expected):
    assert set(found) == set(expected)
    for m, value in expected.items():
        np.testing.assert_allclose(array(found[m]), value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_it_equals_the_formula(count, training):
    block = block_of(count).train(training)
    maps = maps_of(block)
    gated = block(maps, 2)
    assert list(gated) == list(block.modalities)
    assert_maps(gated, gated_by_hand(maps, gates_by_hand(block, maps)))


@pytest.mark.parametrize(
    ("count", "ratio", "narrow"), [(2, 4, 3), (3, 4, 6), (3, 5, 4), (2, 100, 1), (2, 1, 14)]
)
def test_width_of_the_squeezed_vector(count, ratio, narrow):
    block = block_of(count, ratio)
    total = sum(list(WIDTHS.values())[:count])
    assert block.squeeze.weight.shape == (narrow, total)
    assert [layer.weight.shape for layer in block.excite] == [
        (d, narrow) for d in list(WIDTHS.values())[:count]
    ]


def test_an_absent_modality_counts_as_zeros():
    block = block_of()
    maps = maps_of(block)
    for names in (["train"], ["keys", "a.b"]):
        some = {m: maps[m] for m in names}
        assert_maps(block(some, 2), gated_by_hand(some, gates_by_hand(block, some)))
    assert block.gate_count.item() == 0  # means are of the joint model's gates


def test_running_mean_is_the_mean_of_the_batch_means():
    block = block_of()
    means = {m: [] for m in WIDTHS}
    for batch in (2, 5, 3):  # batches have equal weights, whatever their size
        maps = maps_of(block, batch)
        for m, gate in gates_by_hand(block, maps, batch).items():
            means[m].append(gate.mean(axis=0))
        block.train()(maps, batch)
        block.eval()(maps_of(block), 2)  # changes nothing
        with torch.no_grad():
            block.squeeze.weight += 0.3
    assert block.gate_count.item() == 3
    for m in WIDTHS:
        assert block.mean_gate(m).shape == (WIDTHS[m],)
        np.testing.assert_allclose(array(block.mean_gate(m)), np.mean(means[m], axis=0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", list(WIDTHS))
@pytest.mark.parametrize("training", [True, False])
def test_curation_replaces_the_gates_by_their_running_mean(target, training):
    block = block_of().train()
    for _ in range(2):
        block(maps_of(block), 2)
    before = {name: value.clone() for name, value in block.named_buffers()}
    block.curate(target)
    maps = maps_of(block)
    gates = gates_by_hand(block, maps)
    gates[target] = np.tile(array(block.mean_gate(target)), (2, 1))
    assert_maps(block.train(training)(maps, 2), gated_by_hand(maps, gates))
    assert all(torch.equal(value, before[name]) for name, value in block.named_buffers())
    block.curate(None)
    assert_maps(block(maps, 2), gated_by_hand(maps, gates_by_hand(block, maps)))


def test_curated_gates_carry_no_gradient_to_the_squeeze_path():
    block = block_of().train()
    block(maps_of(block), 2)
    block.curate("train")
    maps = maps_of(block)
    gated = block(maps, 2)
    gated["train"].square().sum().backward(retain_graph=True)
    assert all(p.grad is None for p in block.parameters())
    assert [m for m, h in maps.items() if h.grad is not None] == ["train"]
    gated["keys"].square().sum().backward()
    assert block.squeeze.weight.grad.abs().sum() > 0
    assert block.excite[1].weight.grad is None
    assert maps["train"].grad is not None  # it still affects the other modalities


def test_curation_before_any_batch_uses_the_mean_of_the_current_batch():
    block = block_of().train()
    block.curate("a.b")
    maps = maps_of(block)
    gates = gates_by_hand(block, maps)
    gates["a.b"] = np.tile(gates["a.b"].mean(axis=0), (2, 1))
    gated = block(maps, 2)
    assert_maps(gated, gated_by_hand(maps, gates))
    gated["a.b"].sum().backward()
    assert block.squeeze.weight.grad is None
    assert block.gate_count.item() == 0


def test_a_backward_pass_works_after_later_updates_of_the_mean():
    block = block_of().train()
    block(maps_of(block), 2)
    block.curate("a.b")
    maps = maps_of(block)
    gated = block(maps, 2)
    mean = block.mean_gate("a.b").clone()
    block.curate(None)
    block(maps_of(block), 2)
    gated["a.b"].sum().backward()
    torch.testing.assert_close(maps["a.b"].grad, mean[None, :, None, None].expand(2, 4, 3, 2))


def test_means_are_buffers_that_are_saved_and_copied():
    block = block_of().train()
    block(maps_of(block), 2)
    assert {name for name, _ in block.named_buffers()} == {
        "gate_count",
        *(f"gate_mean_{k}" for k in range(3)),
    }
    buffer = io.BytesIO()
    torch.save(block.state_dict(), buffer)
    buffer.seek(0)
    other = block_of().train()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    twin = copy.deepcopy(block)
    maps = maps_of(block)
    for same in (block, other, twin):
        same(maps, 2)
        assert same.gate_count.item() == 2
        assert all(torch.equal(same.mean_gate(m), block.mean_gate(m)) for m in WIDTHS)


def test_invalid_inputs_are_refused():
    block = block_of()
    maps = maps_of(block)
    with pytest.raises(ModelError, match="at least two"):
        MMTM({"a": 3})
    with pytest.raises(UsageError, match="ratio"):
        block_of(ratio=0)
    for ask in (block.curate, block.mean_gate, block.excite_layer):
        with pytest.raises(ModelError, match="no modality 't'"):
            ask("t")
    assert block.curated is None
    with pytest.raises(ModelError, match="map of at least one"):
        block({}, 2)
    with pytest.raises(ModelError, match="no modality 't'"):
        block({**maps, "t": maps["train"]}, 2)
    with pytest.raises(ModelError, match=r"5 channels in dimension 1.*'keys'.*\(6, 4, 2, 2\)"):
        block({**maps, "keys": maps["keys"][:, :4]}, 2)
    with pytest.raises(ModelError, match="rows for 4 samples"):
        block({"keys": maps["keys"]}, 4)
