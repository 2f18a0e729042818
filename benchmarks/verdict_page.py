"""The page of `benchmarks/verdicts.py`: verdicts against known truth, and how the thresholds were set."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import version

from synthetic_worlds import (
    ALL,
    FEW_SAMPLES,
    NOISE_LEVELS,
    few_samples,
    noisy,
)

from equipoise.diagnosis.verdict.rules import STATES, ModalityNumbers, Thresholds
from equipoise.diagnosis.verdict.verdict import Verdict, judge, state_of

TUNING_SEED = 1000
PROCESSES = 2
GRID = {
    "information": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    "gap": (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    "shortfall": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    "use": (0.01, 0.02, 0.05, 0.1, 0.2),
    "errors": (0.0, 1.0, 2.0, 3.0),
}


@dataclass(frozen=True)
class Case:
    """One modality of one run: the true state, and the numbers for the verdict."""

    world: str
    seed: int
    truth: str | None
    numbers: ModalityNumbers


def page(tuning: list[Case], report: list[Case], seeds: int, seconds: float) -> list[str]:
    judged = [(case, judge(case.numbers)) for case in report]
    known = [(case, verdict) for case, verdict in judged if case.truth is not None]
    return [
        "# Verdicts against known truth",
        "",
        "Written by `python benchmarks/verdicts.py docs/results/verdicts.md`; not edited by hand.",
        "",
        "The datasets are synthetic, so that the true state of every modality is known from its "
        "construction. Models are trained on them with `eq.fit`. The verdict on each modality is based on "
        "training and validation samples: diagnosis (preset `robust`), contributions to the joint model, new "
        "linear heads on the features, a probe of the encoder, and the modality trained alone. The rules and "
        f"thresholds were developed on seed 100 and seeds {TUNING_SEED} to {TUNING_SEED + seeds - 1}. Except "
        f"for the section on the thresholds, this page uses seeds 0 to {seeds - 1}, which were not used for "
        "development. The kinds of datasets are the same, so the results may not transfer to other kinds. "
        "For real data, the truth is not known.",
        "",
        *confusion(known),
        *mistakes(known),
        *by_world(known),
        *noise_levels(judged),
        *sample_counts(judged),
        *remarked(judged),
        *with_less(report),
        *how_set(tuning),
        *conditions(seeds, seconds),
    ]


def table(head: list[str], rows: Iterable[Iterable[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines] + [""]


def confusion(known: list[tuple[Case, Verdict]]) -> list[str]:
    counts = Counter((case.truth, verdict.state) for case, verdict in known)
    rows = [[f"**{truth}**", *(counts[truth, state] or "" for state in STATES)] for truth in STATES]
    lines = [
        "## Confusion matrix",
        "",
        "Rows are true states, columns are verdicts; numbers of modalities.",
        "",
    ]
    lines += table(["", *STATES], rows)
    for what, part in (
        ("all verdicts", known),
        ("verdicts not close to a threshold", [pair for pair in known if pair[1].certain]),
        ("verdicts close to a threshold", [pair for pair in known if not pair[1].certain]),
    ):
        lines.append(f"- Agreement of {what}: {agreement_text(part)}")
    return [*lines, ""]


def agreement_text(part: list[tuple[Case, Verdict]]) -> str:
    if not part:
        return "none"
    right = sum(case.truth == verdict.state for case, verdict in part)
    return f"{right} of {len(part)} ({right / len(part):.1%})"


def mistakes(known: list[tuple[Case, Verdict]]) -> list[str]:
    wrong = [(case, verdict) for case, verdict in known if case.truth != verdict.state]
    lines = ["## Wrong verdicts", ""]
    if not wrong:
        return [*lines, "None on these seeds.", ""]
    rows = [
        [
            *(case.world, case.seed, case.numbers.modality, case.truth, verdict.state),
            *(f"{verdict.margin:.3f}", " ".join(verdict.reasons)),
        ]
        for case, verdict in wrong
    ]
    return lines + table(["dataset", "seed", "modality", "truth", "verdict", "margin", "reasons given"], rows)


def by_world(known: list[tuple[Case, Verdict]]) -> list[str]:
    rows = []
    for name, world in ALL.items():
        for modality, truth in world.truth.items():
            own = [v for c, v in known if (c.world, c.numbers.modality) == (name, modality)]
            if own:
                given = ", ".join(f"{state} {n}" for state, n in Counter(v.state for v in own).items())
                gap = statistics.mean(v.numbers["train_score"] - v.numbers["val_score"] for v in own)
                scores = [
                    statistics.mean(v.numbers[k] for v in own) for k in ("refit", "alone", "removed_drop")
                ]
                figures = [f"{value:.2f}" for value in (gap, *scores)]
                rows.append([name, world.why, modality, truth, given, *figures])
    head = ["dataset", "construction", "modality", "truth", "verdicts", "gap", "new head", "alone", "drop"]
    return ["## By dataset", "", "Numbers are means over the seeds.", "", *table(head, rows)]


def noise_levels(judged: list[tuple[Case, Verdict]]) -> list[str]:
    rows = []
    for level in NOISE_LEVELS:
        own = [v for c, v in judged if c.world == noisy(level).name and c.numbers.modality == "b"]
        states = Counter(v.state for v in own)
        alone = statistics.mean(v.numbers["alone"] for v in own)
        rows.append([f"{level:g}", f"{alone:.2f}", *(states[state] or "" for state in STATES)])
    text = (
        "The distance between the classes of one modality is multiplied by 1 - level. Between the two "
        "extremes the true state is a matter of degree, so these datasets are not counted above."
    )
    head = ["noise level", "alone", *STATES]
    return ["## Noise levels", "", text, "", *table(head, rows)]


def sample_counts(judged: list[tuple[Case, Verdict]]) -> list[str]:
    rows = []
    for count in FEW_SAMPLES:
        own = [v for c, v in judged if c.world == few_samples(count).name and c.numbers.modality == "b"]
        states = Counter(v.state for v in own)
        gaps = sorted(v.numbers["train_score"] - v.numbers["val_score"] for v in own)
        shown = ", ".join(f"{gap:.2f}" for gap in gaps)
        rows.append([count, shown, *(states[state] or "" for state in STATES)])
    text = (
        "One modality has many dimensions without signal, so that fewer training samples mean more "
        "overfitting. The true state is a matter of degree here too, so these datasets are not counted above."
    )
    head = ["training samples", "gaps", *STATES]
    return ["## Degrees of overfitting", "", text, "", *table(head, rows)]


def remarked(judged: list[tuple[Case, Verdict]]) -> list[str]:
    rows = []
    for word, worlds in (("redundant", ("copy", "copy-and-noise")), ("together", ("xor", "xor-and-noise"))):
        apply = {(name, m) for name in worlds for m in ("a", "b")}
        here = [v for c, v in judged if (c.world, c.numbers.modality) in apply]
        others = Counter(
            c.world
            for c, v in judged
            if (c.world, c.numbers.modality) not in apply and any(word in r for r in v.remarks)
        )
        hits = sum(any(word in remark for remark in v.remarks) for v in here)
        shown = ", ".join(f"{name} {n}" for name, n in others.items()) or "none"
        rows.append([word, f"{hits} of {len(here)}", shown])
    text = (
        "A modality is balanced, with a remark, if the others contain the same information, or if it "
        "predicts the class only in combination with another one. If two modalities each predict the class "
        "almost without error, both are correctly called redundant although they are not copies."
    )
    head = ["remark", "given where it is true by construction", "given elsewhere"]
    return ["## Remarks", "", text, "", *table(head, rows)]


def with_less(report: list[Case]) -> list[str]:
    """Recompute the verdicts from fewer numbers, as for features in a file."""
    joint = ("removed_drop", "removed_interval", "shapley", "shapley_interval", "joint")
    heads = ("refit", "without_refit", "all_refit", "chance")
    settings = {
        "all numbers": (),
        "no modality trained alone": ("alone", "fine_tuned"),
        "features only: gap and new heads": ("alone", "probe", *joint),
        "only the gap": ("alone", "probe", *joint, *heads),
        "no gap": ("train_score", "val_score", "gap_interval"),
    }
    rows = []
    for name, dropped in settings.items():
        pairs = [
            (case, judge(replace(case.numbers, **dict.fromkeys(dropped))))
            for case in report
            if case.truth is not None
        ]
        found = [agreement_text([pair for pair in pairs if pair[0].truth == state]) for state in STATES]
        rows.append([name, agreement_text(pairs), *found])
    text = "Verdicts list what could not be checked; with fewer numbers, the state is less certain."
    head = ["verdict from", "agreement", *(f"of {state}" for state in STATES)]
    return ["## With fewer numbers", "", text, "", *table(head, rows)]


def how_set(tuning: list[Case]) -> list[str]:
    known = [case for case in tuning if case.truth is not None]
    own = Thresholds()
    rows = []
    for name, values in GRID.items():
        scores = {value: agreement(known, replace(own, **{name: value})) for value in values}
        cells = ", ".join(f"{value:g}: {score:.1%}" for value, score in scores.items())
        rows.append([name, f"{getattr(own, name):g}", cells])
    best, where = best_of_grid(known)
    places = [f"{name} {', '.join(f'{value:g}' for value in values)}" for name, values in where.items()]
    text = (
        f"On the tuning seeds, the default thresholds agree with the truth for {agreement(known, own):.1%} "
        f"of {len(known)} modalities. The best of all {len(list(grid()))} combinations of these values "
        f"agrees for {best:.1%} (reached with: {'; '.join(places)}). The table varies one threshold at a "
        "time. The defaults are round numbers chosen on seed 100. Where many values perform equally well, "
        "these datasets support a threshold but do not determine it. Errors on the tuning seeds led to one "
        "change of the rules: chance is the share of the largest class among the scored samples, because "
        "selecting an epoch on these samples can find a constant prediction."
    )
    return [
        "## How the thresholds were set",
        "",
        text,
        "",
        *table(["threshold", "default", "agreement"], rows),
    ]


def grid() -> Iterable[Thresholds]:
    for values in itertools.product(*GRID.values()):
        yield Thresholds(**dict(zip(GRID, values, strict=True)))


def best_of_grid(known: list[Case]) -> tuple[float, Mapping[str, list[float]]]:
    """Return the best agreement on the grid, and the values of each threshold that reach it."""
    scored = [(agreement(known, limits), limits) for limits in grid()]
    best = max(score for score, _ in scored)
    winners = [limits for score, limits in scored if score == best]
    return best, {name: sorted({getattr(limits, name) for limits in winners}) for name in GRID}


def agreement(cases: list[Case], limits: Thresholds) -> float:
    return statistics.mean(state_of(case.numbers, limits) == case.truth for case in cases)


def conditions(seeds: int, seconds: float) -> list[str]:
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn", "numpy"))
    limits = Thresholds()
    return [
        "## Conditions",
        "",
        f"- Command: `python benchmarks/verdicts.py docs/results/verdicts.md --seeds {seeds}`; {seconds:.0f} "
        f"s in {PROCESSES} processes of one thread",
        f"- Seeds {TUNING_SEED} to {TUNING_SEED + seeds - 1} for the thresholds, 0 to {seeds - 1} for the "
        "rest; the seed determines data, initial weights and batch order",
        f"- Thresholds: {', '.join(f'{f.name} {getattr(limits, f.name):g}' for f in fields(limits))}",
        f"- On top of commit `{head.stdout.strip()}`; equipoise {version('equipoise')}, {versions}",
        f"- Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores",
        "",
    ]
