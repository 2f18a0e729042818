"""Table 3: more than two modalities, and other frameworks, among them transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.experiments.paper.item import Case, Item

_TRANSFORMER = {"encoder": "transformer"}
_SENSORS = ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")
_NARROW = {name: {"width": 32} for name in _SENSORS}
"""Windows of three channels need no wider transformers."""
_WORDS = {"encoder": {"text": "token-transformer"}}


def _mult(data: str, settings: Mapping[str, Any], *, in_quick: bool = True) -> Case:
    return Case(data=data, label="MulT", settings={"fusion": "mult", **settings}, in_quick=in_quick)


def _mbt(data: str, **encoders: Mapping[str, Any]) -> Case:
    """The head of MBT averages those of the modalities, so that no part of its weights is one modality's."""
    settings = {"fusion": "mbt", **_TRANSFORMER, "encoder_options": encoders}
    options = {"ogm-ge": {"logits": "zero-feature"}}
    return Case(data=data, label="MBT", settings=settings, method_options=options)


ITEM = Item(
    name="table3",
    title="More than two modalities, and other frameworks",
    form="comparison",
    paper=(
        Case(data="cmu-mosi", label="transformers", settings=_TRANSFORMER),
        _mult("cmu-mosi", _TRANSFORMER),
        _mbt("cmu-mosi"),
    ),
    stand_in=(
        Case(data="cmu-mosi"),
        _mult("cmu-mosi", _WORDS, in_quick=False),
        Case(data="phone-watch"),
        _mult("phone-watch", {}, in_quick=False),
        _mbt("phone-watch", **_NARROW),
    ),
    quick_methods=("joint", "diagnose-relearn"),
)
