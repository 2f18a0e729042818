"""Weights are named by modality, and those that an earlier version numbered are read."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from equipoise.models import ConcatFusion, MultimodalModel, SumFusion, build_model, with_fusion
from equipoise.models.averaged import AllHeadsModel, CopiesModel
from equipoise.models.build import MID_FUSIONS
from equipoise.models.multimodal import in_earlier_names, in_present_names

ODD = {
    "audio": "audio",
    "a.b": "a%2Eb",
    "a%2Eb": "a%252Eb",
    "train": "%74rain",
    "keys": "%6Beys",
    "_keys": "%5Fkeys",
    "encoder_list": "encoder_list",
    "encoders": "encoders",
    "0": "0",
    "1": "1",
    "Ärger": "Ärger",
    " ": " ",
}


def odd_model() -> MultimodalModel:
    widths = {m: 2 + place for place, m in enumerate(ODD)}
    return MultimodalModel({m: nn.Linear(5, d) for m, d in widths.items()}, ConcatFusion(widths, 2))


def numbered(state: dict[str, torch.Tensor], keys: list[str]) -> dict[str, torch.Tensor]:
    """The state as an earlier version wrote it, by its definition: encoders in a list."""
    found = {}
    for name, value in state.items():
        parts = name.split(".")
        if "encoders" in parts:
            place = parts.index("encoders")
            parts[place : place + 2] = ["encoder_list", str(keys.index(parts[place + 1]))]
        found[".".join(parts)] = value
    return found


def test_each_weight_is_named_by_its_modality() -> None:
    model = odd_model()
    assert list(model.encoders) == list(model.modalities) == list(ODD)
    expected = [f"encoders.{key}.{name}" for key in ODD.values() for name in ("weight", "bias")]
    assert list(model.state_dict()) == [*expected, "fusion.linear.weight", "fusion.linear.bias"]
    for m, key in ODD.items():
        assert model.get_submodule(f"encoders.{key}") is model.encoders[m] is model.encoder_module(m)
        assert [name for name, _ in model.encoder_parameters(m)] == [
            f"encoders.{key}.weight",
            f"encoders.{key}.bias",
        ]
    assert copy.deepcopy(model).encoders["a.b"] is not model.encoders["a.b"]
    assert "b" not in model.encoders
    with pytest.raises(KeyError):
        model.encoders["b"]


def test_odd_names_that_another_version_of_torch_escapes() -> None:
    """Which names are attributes of a module depends on torch."""
    model, other = odd_model(), odd_model()
    state = model.state_dict()
    foreign = {name.replace("encoders.audio.", "encoders.%61udio."): v for name, v in state.items()}
    foreign = {name.replace("encoders.%74rain.", "encoders.train."): v for name, v in foreign.items()}
    other.load_state_dict(foreign)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in state.items())


SHAPES = {"audio": ((6, 8), "sequence"), "a.b": ((5, 8), "sequence")}


def built(seed: int, kind: str) -> nn.Module:
    fusion = kind if kind in MID_FUSIONS else "concat"
    encoders = "transformer" if fusion != "concat" else "auto"
    model = build_model(SHAPES, 3, encoders=encoders, fusion=fusion, seed=seed)
    if kind == "all heads":
        return AllHeadsModel(model)
    if kind == "copies":
        return CopiesModel(AllHeadsModel(model), 2)
    if kind == "another fusion":

        class Doubled(MultimodalModel):
            pass

        inner = Doubled(model.encoders, model.fusion)
        return with_fusion(inner, SumFusion(model.feature_widths(), 3))
    return model


@pytest.mark.parametrize("kind", ["late", "mmtm", "mult", "mbt", "all heads", "copies", "another fusion"])
def test_a_state_of_an_earlier_version_is_read(kind: str) -> None:
    written, read, by_name = (built(seed, kind).double() for seed in (0, 1, 2))
    with torch.no_grad():
        for parameter in written.parameters():
            parameter.normal_()
    state = written.state_dict()
    earlier = numbered(state, ["audio", "a%2Eb"])
    assert earlier.keys() == in_earlier_names(written, state).keys() != state.keys()
    given = dict(earlier)
    read.load_state_dict(given)
    assert given.keys() == earlier.keys()  # the caller's mapping is left as it is
    found = in_present_names(by_name, earlier)
    assert list(found) == list(state)
    by_name.load_state_dict(found)
    for name, value in state.items():
        assert torch.equal(read.state_dict()[name], value)
        assert torch.equal(by_name.state_dict()[name], value)
    torch.testing.assert_close(read.state_dict(), in_present_names(read, state), rtol=0, atol=0)


def test_what_is_missing_or_too_much_in_an_earlier_state_is_said() -> None:
    model = built(0, "late")
    earlier = numbered(model.state_dict(), ["audio", "a%2Eb"])
    lacking = {name: value for name, value in earlier.items() if not name.startswith("encoder_list.1.")}
    with pytest.raises(RuntimeError, match=r"Missing key.*encoders\.a%2Eb\."):
        model.load_state_dict(lacking)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*encoder"):
        model.load_state_dict({**earlier, "encoder_list.2.weight": torch.zeros(1)})


def test_a_list_of_that_name_in_a_model_of_ones_own_stays() -> None:
    class Own(MultimodalModel):
        def __init__(self) -> None:
            super().__init__({"a": nn.Linear(5, 3)}, ConcatFusion({"a": 3}, 2))
            self.encoder_list = nn.ModuleList([nn.Linear(1, 1)])

    first, second = Own(), Own()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.encoder_list[0].weight, second.encoder_list[0].weight)
