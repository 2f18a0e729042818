"""Write the index of the methods' pages from what the methods say of themselves.

Usage: python benchmarks/method_index.py docs/methods/README.md
"""

from __future__ import annotations

import sys
from pathlib import Path

import equipoise as eq

FAMILIES = {
    "reference": "What every comparison should include: methods have to beat these.",
    "objective": "Methods that change the loss.",
    "optimisation": "Methods that change gradients, steps or weights.",
    "forward": "Methods that change the forward pass.",
    "loop": "Methods that change the order of training.",
    "data": "Methods that change what is trained on.",
}


def index() -> str:
    lines = [
        "# Methods",
        "",
        "`equipoise list methods` shows the same in a terminal. Written by `make method-index`, not by",
        "hand.",
        "",
        "Symbols: `z^m` is the feature of modality m, `u` the joint logits, `u^m` those of a modality alone,",
        "`p^m = softmax(u^m)`, `theta_m` the weights of an encoder, `psi` those of fusion and head, `CE` the",
        "cross-entropy, a mean over the batch.",
    ]
    methods = eq.list_methods()
    assert {facts["family"] for facts in methods.values()} <= FAMILIES.keys()
    for family, meaning in FAMILIES.items():
        rows = [(name, facts) for name, facts in methods.items() if facts["family"] == family]
        if not rows:
            continue
        lines += ["", f"## {family.capitalize()}", "", meaning, ""]
        lines += ["| method | idea | needs | cost | source |", "|---|---|---|---|---|"]
        for name, facts in rows:
            mark = " (experimental)" if facts["experimental"] else ""
            cells = [
                f"[{name}]({name}.md){mark}",
                *(facts[key] for key in ("summary", "needs", "cost", "source")),
            ]
            lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(index(), encoding="utf-8")
