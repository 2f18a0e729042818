"""Write one page from all ablations of diagnose-relearn-plus.

Usage: python benchmarks/ablations.py FOLDER docs/results/ablations.md

FOLDER is that of `equipoise reproduce ablation-NAME --out FOLDER`, for every NAME.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pandas as pd

from equipoise.decimals import bracketed, fixed
from equipoise.experiments.compare.significance import holm
from equipoise.experiments.paper.items import ITEMS
from equipoise.experiments.paper.items.ablations import DEFAULT, JOINT, REFERENCES
from equipoise.report.paper.ablation import NO_EFFECT

ALPHA = 0.05
ABLATIONS = {name: item.title for name, item in ITEMS.items() if item.form == "ablation"}
WRITTEN = "- Written by `make ablations` from run records; not edited by hand."
SHARED = [variant.label for variant in REFERENCES]
"""Variants that are in each ablation, and in a table of their own here."""


def read(folder: Path) -> pd.DataFrame:
    """Return the rows of all ablations.

    Raises:
        SystemExit: one is missing.
    """
    missing = [name for name in ABLATIONS if not (folder / f"{name}.csv").is_file()]
    if missing:
        raise SystemExit(f"{folder} lacks {', '.join(missing)}; run equipoise reproduce NAME --out {folder}")
    return pd.concat(
        [pd.read_csv(folder / f"{name}.csv").assign(ablation=name) for name in ABLATIONS], ignore_index=True
    )


def corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the p-value against the default, by Holm over all variants of a set, each counted once."""
    held = []
    for _, own in rows.groupby("set", sort=False):
        others = own[(own["variant"] != DEFAULT) & ~without_effect(own)]
        # Two ablations may hold the same variant under two names.
        keys = others["method"] + others["options"]
        found = holm(dict(zip(keys, others["vs_default_p_value"], strict=True)))
        held.append(own.assign(p=(own["method"] + own["options"]).map(found)))
    return pd.concat(held)


def without_effect(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return whether each row has the accuracy of the default with every seed."""
    return (rows["vs_default_low"] == 0) & (rows["vs_default_high"] == 0)


def answer(rows: pd.DataFrame) -> list[str]:
    """Say which variants differ from the default."""
    own = rows[~rows["variant"].isin(SHARED) & ~without_effect(rows)]
    lines = []
    for name, part in own.groupby("set", sort=False):
        part = part.drop_duplicates(["method", "options"])
        sure = part[part["p"] < ALPHA].sort_values("vs_default")
        better, worse = sure[sure["vs_default"] > 0], sure[sure["vs_default"] < 0]
        low, high = 100 * part["vs_default"].min(), 100 * part["vs_default"].max()
        lines.append(
            f"- **{name}**: of {len(part)} variants {named(better) or 'none'} significantly better, "
            f"{named(worse) or 'none'} significantly worse than the default (paired t-test, Holm over the "
            f"variants, {ALPHA:.0%}). Differences reach from {fixed(low, 1, signed=True)} to "
            f"{fixed(high, 1, signed=True)} points."
        )
    return lines


def named(rows: pd.DataFrame) -> str:
    return ", ".join(
        f"*{row.variant}* of `{row.ablation}` ({fixed(100 * row.vs_default, 1, signed=True)})"
        for row in rows.itertuples()
    )


def table(rows: pd.DataFrame, base: str) -> list[str]:
    """Return variants by sets: accuracy, and the difference to a baseline with its interval."""
    sets = list(dict.fromkeys(rows["set"]))
    heads = [f"{name}: {what}" for name in sets for what in ("test", f"over {base} [95 %]", "cost")]
    lines = [f"| variant | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for variant in dict.fromkeys(rows["variant"]):
        cells = []
        for name in sets:
            found = rows[(rows["set"] == name) & (rows["variant"] == variant)]
            if found.empty:
                cells += ["", "", ""]
                continue
            row = found.iloc[0]
            interval = 100 * row[f"vs_{base}_low"], 100 * row[f"vs_{base}_high"]
            gain = fixed(100 * row[f"vs_{base}"], 1, signed=True) + bracketed(interval, 1, signed=True)
            gain = NO_EFFECT if interval == (0, 0) else gain
            gain = "" if variant == base else gain
            cells += [f"{fixed(row['test'], 3)} ± {fixed(row['test_std'], 3)}", gain, fixed(row["cost"], 2)]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return [*lines, ""]


def with_cost(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the samples forward as a multiple of those of joint training on the same set."""
    joint = rows[rows["variant"] == JOINT].groupby("set")["forward_samples"].first()
    return rows.assign(cost=rows["forward_samples"] / rows["set"].map(joint))


def conditions(folder: Path) -> list[str]:
    """Return what the first ablation says of its runs."""
    text = (folder / f"{next(iter(ABLATIONS))}.md").read_text(encoding="utf-8")
    return re.findall(r"^- .*", text.partition("## Conditions")[2], flags=re.M)


def page(folder: Path) -> str:
    rows = corrected(with_cost(read(folder)))
    shared = rows[rows["variant"].isin(SHARED)].drop_duplicates(["set", "variant"])
    lines = [
        "# Ablations of diagnose-relearn-plus",
        "",
        "Asked: which parts of "
        "[diagnose-relearn-plus](../methods/diagnose-relearn-plus.md) matter? Each variant changes one thing "
        "of the default, on the same splits, initial weights and batches.",
        "",
        *answer(rows),
        "",
        "Differences are in points of test accuracy, paired by seed, with Student's 95 % intervals that are "
        "not corrected for the number of rows. Cost: samples forward in training, in multiples of those of "
        "joint training. *No effect*: the accuracy of the default with every seed, as the encoders of these "
        "sets have no layers of normalisation. The default was tried before on other seeds and "
        "validation samples; but it became the default after the test figures of its joint head of "
        "features of length one, and of its product of all heads, had been seen on these sets and seeds.",
        "",
        "## References",
        "",
        *table(shared, JOINT),
    ]
    for name, title in ABLATIONS.items():
        own = rows[(rows["ablation"] == name) & ~rows["variant"].isin(SHARED)]
        lines += [f"## {title}", "", f"`equipoise reproduce {name}`", "", *table(own, DEFAULT)]
    return "\n".join([*lines, "## Conditions", "", *conditions(folder), WRITTEN, ""])


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(Path(sys.argv[1])), encoding="utf-8")
