"""Table 3: more than two modalities, and other frameworks, among them transformers."""

from __future__ import annotations

from equipoise.experiments.paper.item import Case, Item

_TRANSFORMER = {"encoder": "transformer"}
_MULT = {"fusion": "mult"}
_WORDS = {"encoder": {"text": "token-transformer"}}
_MBT = {"fusion": "mbt", **_TRANSFORMER}

ITEM = Item(
    name="table3",
    title="More than two modalities, and other frameworks",
    form="comparison",
    paper=(
        Case(data="cmu-mosi", label="transformers", settings=_TRANSFORMER),
        Case(data="cmu-mosi", label="MulT", settings={**_MULT, **_TRANSFORMER}),
        Case(data="cmu-mosi", label="MBT", settings=_MBT),
    ),
    stand_in=(
        Case(data="cmu-mosi"),
        Case(data="cmu-mosi", label="MulT", settings={**_MULT, **_WORDS}, in_quick=False),
        Case(data="phone-watch"),
        Case(data="phone-watch", label="MulT", settings=_MULT, in_quick=False),
        Case(data="phone-watch", label="MBT", settings=_MBT),
    ),
    quick_methods=("joint", "ogm-ge", "diagnose-relearn"),
)
