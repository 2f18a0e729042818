"""Write the index of the method pages from the attributes of the methods.

Usage: python benchmarks/method_index.py docs/methods/README.md
"""

from __future__ import annotations

import sys
from pathlib import Path

import equipoise as eq

FAMILIES = {
    "reference": "Baselines that every comparison should include.",
    "objective": "Methods that change the loss.",
    "optimisation": "Methods that change gradients, steps or weights.",
    "forward": "Methods that change the forward pass.",
    "loop": "Methods that change the training loop.",
    "data": "Methods that change the training data.",
}


def index() -> str:
    lines = [
        "# Methods",
        "",
        "`equipoise list methods --long` prints this list. `make method-index` writes it; do not edit it.",
        "",
        "Symbols: `z^m` are the features of modality m, `u` the joint logits, `u^m` the logits of modality",
        "m, `p^m = softmax(u^m)`, `theta_m` the weights of an encoder, `psi` the weights of fusion and head,",
        "and `CE` the cross-entropy, averaged over the batch.",
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
