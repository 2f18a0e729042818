"""Models by name: initial weights as a pure function of seed and name, and all refusals."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from equipoise.models import ENCODERS, FUSIONS, MultimodalModel, build_model
from equipoise.models.build import (
    MID_FUSIONS,
    available_models,
    build_encoder,
    build_fusion,
    describe,
    encoder_names,
)
from equipoise.models.options import option_names
from equipoise.types import ModelError, UnknownNameError, UsageError

SHAPES = {
    "audio": ((9,), "vector"),
    "a.b": ((2, 1, 8, 8), "video"),
    "text": ((4, 3), "sequence"),
    "type": ((3, 8, 8), "image"),
}


def equal(first, second) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_an_encoder_has_equal_initial_weights_alone_joint_and_reordered():
    joint = build_model(SHAPES, 5, seed=3)
    torch.manual_seed(123)  # global seeds must not matter
    torch.rand(17)
    turned = build_model(dict(reversed(SHAPES.items())), 7, seed=3, fusion="sum")
    other = build_model(SHAPES, 5, seed=4)
    for m in SHAPES:
        alone = build_model(SHAPES, 5, seed=3, only=(m,))
        assert alone.modalities == (m,)
        for model in (turned, alone):
            assert equal(model.encoder_module(m), joint.encoder_module(m))
        assert not equal(other.encoder_module(m), joint.encoder_module(m))
        assert equal(build_encoder(m, *SHAPES[m], encoder_names(SHAPES)[m], seed=3), joint.encoder_module(m))


def test_same_shape_modalities_and_fusions_draw_different_weights():
    model = build_model({"left": ((4,), "vector"), "right": ((4,), "vector")}, 3)
    assert not equal(model.encoder_module("left"), model.encoder_module("right"))
    again = build_model({"left": ((4,), "vector"), "right": ((4,), "vector")}, 3)
    assert equal(model, again)
    widths = {"left": 4, "right": 4}
    assert equal(build_fusion("sum", widths, 3, seed=1), build_fusion("sum", widths, 3, seed=1))
    assert not equal(build_fusion("sum", widths, 3, seed=1), build_fusion("sum", widths, 3, seed=2))
    concat, average = (build_fusion(name, {"a": 4}, 3) for name in ("concat", "average"))
    assert not torch.equal(concat.linear.weight, average.own.linears[0].weight)


def test_random_streams_of_the_caller_are_unchanged():
    def numpy_state():
        return np.random.get_state()[1].tolist()

    before = torch.get_rng_state(), numpy_state(), random.getstate()
    build_model(SHAPES, 5, encoders={"text": "transformer"})
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (numpy_state(), random.getstate())


def test_a_default_device_changes_no_weight():
    expected = build_model(SHAPES, 5)
    with torch.device("meta"):
        assert equal(build_model(SHAPES, 5), expected)


def test_encoders_by_kind_by_one_name_and_by_mapping():
    assert encoder_names(SHAPES) == {"audio": "mlp", "a.b": "frame-cnn", "text": "tcn", "type": "image-cnn"}
    frames = {m: SHAPES[m] for m in ("a.b", "type")}
    assert encoder_names(frames, "resnet18") == {"a.b": "resnet18", "type": "resnet18"}
    chosen = encoder_names(SHAPES, {"type": "resnet18", "text": "auto"}, only=["type", "audio", "text"])
    assert chosen == {"audio": "mlp", "text": "tcn", "type": "resnet18"}
    assert list(encoder_names(SHAPES, only="text")) == ["text"]


def test_options_reach_encoders_and_fusion():
    model = build_model(
        SHAPES,
        5,
        encoders={"type": "resnet18"},
        encoder_options={"audio": {"hidden": [6, 7]}, "type": {"width": 2, "stem": "imagenet"}},
        fusion="average",
        fusion_options={"rule": "logit"},
    )
    assert model.feature_widths() == {"audio": 7, "a.b": 128, "text": 128, "type": 16}
    assert model.fusion.rule == "logit"
    assert model.encoder_module("type").small is False
    assert model.num_outputs == 5


def test_describe():
    model = build_model(SHAPES, 5, encoders={"type": "resnet18"}, fusion="sum", only=("audio", "type"))
    assert describe(model) == "sum(audio=mlp, type=resnet18)"
    assert describe(encoder_names(SHAPES, only=("audio", "text"))) == "concat(audio=mlp, text=tcn)"
    custom = MultimodalModel({"audio": torch.nn.Linear(9, 3)}, build_fusion("concat", {"audio": 3}, 2))
    assert describe(custom) == "concat(audio=Linear)"
    assert describe(torch.nn.Linear(1, 1)) == "Linear"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"encoders": {"vido": "cnn"}}, UsageError, "'encoders' names the unknown modality 'vido'.*'audio'"),
        (
            {"encoder_options": {"vido": {}}},
            UsageError,
            "'encoder_options' names the unknown modality 'vido'",
        ),
        ({"only": ("vido",)}, UsageError, "'only' names the unknown modality 'vido'"),
        ({"only": ()}, UsageError, "at least one"),
        ({"encoders": "mpl"}, UnknownNameError, "did you mean mlp"),
        ({"fusion": "concatenation"}, UnknownNameError, "concat"),
        ({"encoders": "mlp"}, ModelError, "modality 'a.b'.*cnn, .*resnet18"),
        ({"encoder_options": {"audio": {"layers": 3}}}, UsageError, "modality 'audio'.*'layers'.*'hidden'"),
        ({"fusion_options": {"rule": "logit"}}, UsageError, "no option 'rule'"),
    ],
)
def test_refusals(arguments, error, words):
    with pytest.raises(error, match=words):
        build_model(SHAPES, 5, **arguments)


def test_invalid_data_are_refused():
    with pytest.raises(UsageError, match="at least one"):
        build_model({}, 5)
    with pytest.raises(ModelError, match="unknown kind of modality 'sound'"):
        build_model({"audio": ((9,), "sound")}, 5)
    with pytest.raises(ModelError, match="modality 'audio'"):
        build_model({"audio": ((9, 3), "vector")}, 5)
    with pytest.raises(ModelError, match="at least 1"):
        build_model({"audio": ((9,), "vector")}, 0)


def test_available_models_lists_everything_with_one_line_each():
    found = available_models()
    assert [name for name, facts in found.items() if facts["role"] == "encoder"] == list(ENCODERS)
    assert [name for name, facts in found.items() if facts["role"] == "fusion"] == sorted(
        [*FUSIONS, *MID_FUSIONS]
    )
    assert all(facts["description"] and "\n" not in facts["description"] for facts in found.values())
    assert found["mlp"]["kinds"] == found["mlp"]["default_for"] == "vector"
    assert found["image-cnn"]["default_for"] == "image"
    assert found["cnn"]["default_for"] == "video of one frame"
    assert found["frame-cnn"]["default_for"] == "video"
    assert "order" in found["frame-cnn"]["why"]
    assert option_names(ENCODERS["mlp"]) == ("hidden", "dropout")
    assert option_names(MID_FUSIONS["mmtm"]) == ("ratio", "stages")
