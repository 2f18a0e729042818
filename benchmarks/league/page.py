"""The page of the league."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from analysis import ALPHA, SEVERAL_NETWORKS, League, SetRows
from pictures import costs, gains, save

from equipoise.decimals import bracketed, fixed
from equipoise.experiments.compare.across import MIN_DATASETS
from equipoise.experiments.compare.comparison import BASELINE
from equipoise.report.charts.look import INK, PALETTE
from equipoise.report.charts.ranks import critical_difference

PLUS, SHORT, LOSSES = "diagnose-relearn-plus", "short-ensemble", "multi-loss"
SHOWN = (PLUS, SHORT, LOSSES, "diagnose-relearn")
"""Methods with a column or colour of their own."""


def write(league: League, page: Path, images: Path, commit: str, notes: Sequence[str]) -> None:
    """Write page, pictures and `league.json`."""
    images.mkdir(parents=True, exist_ok=True)
    colors = {BASELINE: INK, **dict(zip(SHOWN, PALETTE, strict=False))}
    save(critical_difference(league.across, colors), images / "league-ranks.svg")
    save(gains(league, SHOWN), images / "league-gains.svg")
    save(costs(league, SHOWN), images / "league-costs.svg")
    found = league.to_dict(commit)
    page.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    page.write_text(text(league, page, images, commit, notes), encoding="utf-8")


def text(league: League, page: Path, images: Path, commit: str, notes: Sequence[str]) -> str:
    place = os.path.relpath(images, page.parent)
    across = league.across
    lines = [
        "# League",
        "",
        f"Asked: does `{PLUS}` do better than joint training, than other methods at equal cost, and than the "
        "method that it was made from?",
        "",
        *answer(league),
        "",
        f"![gains over joint training]({place}/league-gains.svg)",
        "",
        "Gain in test accuracy over joint training, in points, with 95 % intervals over seeds (paired, by "
        "Student's t).",
        "",
        "## Methods that were run on every set",
        "",
        f"Mean rank over {len(across.datasets)} sets (1 is best). Friedman's test: p = "
        f"{across.friedman_p:.2g}. By Nemenyi's test at the 5 % level, two methods differ if their mean "
        f"ranks differ by {across.critical_difference:.1f}. Gains and the worst case are in points over "
        "joint training; costs are samples forward and backward through the encoders, and their work, in "
        "which a sample backward counts twice, in multiples of it.",
        "",
        *ranking(league),
        "",
        f"![critical differences]({place}/league-ranks.svg)",
        "",
        f"![cost beside gain]({place}/league-costs.svg)",
        "",
        "## By set",
        "",
        *by_set(league),
        "",
        *everywhere(league),
        *several(league),
        "## Conditions",
        "",
        *(f"- {note}" for note in notes),
        "- Written by `make league` from the rows in `docs/results/league`, not edited by hand; at commit "
        f"`{commit}`. Each row names the commit, versions and processor of its run.",
        "",
    ]
    return "\n".join(lines)


def answer(league: League) -> list[str]:
    """Say what came out for D&R-plus, in words."""
    place, count = league.place(PLUS)
    own_place, own_count = league.place(PLUS, one_network=True)
    neglected = [one for one in league.sets if one.neglected]
    lines = [
        f"By mean rank `{PLUS}`, with its defaults, is number {place} of the {count} methods that were run "
        f"on all {len(league.sets)} sets, and number {own_place} of the {own_count} of them with one network "
        f"at inference. It is {points(league.mean_gain(PLUS, league.sets))} points over joint training on "
        f"average, {points(league.mean_gain(PLUS, neglected))} over {counted(len(neglected))} with a noisy "
        "or neglected modality.",
        "",
    ]
    if place > 1:
        across, best = league.across, league.names[0]
        lines.append(
            f"- The best by mean rank is `{best}` ({across.mean_ranks[best]:.1f}, `{PLUS}` "
            f"{across.mean_ranks[PLUS]:.1f}; from a difference of {across.critical_difference:.1f} on they "
            f"would differ significantly). On average `{PLUS}` is "
            f"{points(league.mean_gain(PLUS, league.sets, best))} points from it, "
            f"{points(league.mean_gain(PLUS, neglected, best))} on sets with a noisy or neglected modality."
        )
    for other in (BASELINE, LOSSES, SHORT):
        losses = league.losses(PLUS, other)
        said = f"significantly below it on {named(losses)}" if losses else "significantly below it on no set"
        better = sum(one.gain(PLUS, other)[0] > 0 for one in league.sets)
        lines.append(
            f"- Against `{other}`: {points(league.mean_gain(PLUS, league.sets, other))} points on average, "
            f"ahead on {better} of {len(league.sets)} sets, {said} (paired t-test, Holm over sets, "
            f"{ALPHA:.0%})."
        )
    cost = {name: league.cost(PLUS, name) for name in ("forward_samples", "backward_samples")}
    lines.append(
        f"- Cost of training: {cost['forward_samples']:.2f} times joint's samples forward, "
        f"{cost['backward_samples']:.2f} times backward."
    )
    return lines


def counted(sets: int) -> str:
    return "the one set" if sets == 1 else f"the {sets} sets"


def named(sets: Sequence[SetRows]) -> str:
    return ", ".join(one.title for one in sets)


def points(value: float) -> str:
    return fixed(100 * value, 1, signed=True)


def ranking(league: League) -> list[str]:
    neglected = [one for one in league.sets if one.neglected]
    lines = [
        "| method | mean rank | wins | mean gain | noisy or neglected | worst case | on | forward | backward "
        "| work |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for name in league.names:
        worst, where = league.worst(name)
        costs = " | ".join(
            f"{league.cost(name, column):.2f}" for column in ("forward_samples", "backward_samples")
        )
        costs += f" | {league.passes(name):.2f}"
        mark = " (experimental)" if name in league.across.experimental else ""
        mark += " (several networks)" if name in SEVERAL_NETWORKS else ""
        lines.append(
            f"| {name}{mark} | {league.across.mean_ranks[name]:.1f} | {league.wins(name)} "
            f"| {points(league.mean_gain(name, league.sets))} "
            f"| {points(league.mean_gain(name, neglected)) if neglected else ''} "
            f"| {points(worst)} | {where.title} | {costs} |"
        )
    reasons: dict[str, list[str]] = {}
    for name, reason in league.across.left_out.items():
        reasons.setdefault(reason, []).append(name)
    left = [f"- Not ranked: {', '.join(names)}: {reason}." for reason, names in reasons.items()]
    return [*lines, "", *left]


def everywhere(league: League) -> list[str]:
    """Rank all methods over the sets on which the most of them were run."""
    most = max(len(one.scores.columns) for one in league.sets)
    sets = [one for one in league.sets if len(one.scores.columns) == most]
    if len(sets) < MIN_DATASETS or len(sets) == len(league.sets):
        return []
    across = league.over(sets)
    lines = [
        f"## All methods on {counted(len(sets))} where all were run",
        "",
        f"Gains are in points over joint training. Two methods differ by Nemenyi's test if their mean ranks "
        f"differ by {across.critical_difference:.1f}.",
        "",
        f"| method | mean rank | mean gain | {' | '.join(one.title for one in sets)} |",
        f"|---|---:|---:|{'---:|' * len(sets)}",
    ]
    for name in across.names:
        gains = " | ".join(points(one.gain(name)[0]) for one in sets)
        mean = points(league.mean_gain(name, sets))
        lines.append(f"| {name} | {across.mean_ranks[name]:.1f} | {mean} | {gains} |")
    return [*lines, ""]


def by_set(league: League) -> list[str]:
    """Return mean test figures of some methods on each set, and gains of plus with intervals."""
    lines = [
        f"| set | seeds | {BASELINE} | floor | {' | '.join(SHOWN)} | best of all | {PLUS} over joint | "
        f"{PLUS} over {LOSSES} |",
        f"|---|---:|{'---:|' * (len(SHOWN) + 2)}---|---|---|",
    ]
    for one in league.sets:
        means = one.scores.mean()
        best = str(means.drop([m for m in means.index if m.startswith("unimodal:")]).idxmax())
        cells = [fixed(float(means[name])) for name in SHOWN]
        floor = one.comparison.summary["methods"][BASELINE].get("floor") or {}
        over = []
        for other in (BASELINE, LOSSES):
            mean, low, high, _ = one.gain(PLUS, other)
            interval = None if math.isnan(low) else (100 * low, 100 * high)
            over.append(points(mean) + bracketed(interval, 1, signed=True))
        lines.append(
            f"| {one.title}{' *' if one.neglected else ''} | {len(one.seeds)} "
            f"| {fixed(float(means[BASELINE]))} | {fixed(floor['mean']) if floor else ''} "
            f"| {' | '.join(cells)} | {best} {fixed(float(means[best]))} | {' | '.join(over)} |"
        )
    return [
        *lines,
        "",
        "Mean test accuracy; \\* marks sets with a noisy or neglected modality. The floor is the validation "
        "score of a linear model on the inputs.",
    ]


def several(league: League) -> list[str]:
    """Say what failed, and which sets have conditions that differ."""
    lines = []
    for one in league.sets:
        failed = one.failed.groupby("method")["status"].agg(["size", "first"])
        lines += [
            f"- {one.title}: {name} failed {int(row['size'])} of {len(one.seeds)} times: {row['first']}"
            for name, row in failed.iterrows()
        ]
    return ["## Runs that failed", "", *lines, ""] if lines else []
