"""The findings, in plain sentences that are computed from the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.diagnosis import LearningState
from equipoise.experiments.compare.statistics import MIN_SEEDS
from equipoise.report.records import Run
from equipoise.report.text import learning
from equipoise.report.text.evidence import TREATMENT, Evidence, same_ruler
from equipoise.report.text.main_figure import MainFigure
from equipoise.report.text.wording import between, counted, decimal, listed, p_equals

NAMED: Final = 3
"""Modalities that a sentence names; the tables name all."""


@dataclass(frozen=True)
class Statement:
    """One finding.

    Attributes:
        topic: what it is about, in a word or two.
        verdict: the finding in a few words.
        text: the numbers that support it.
    """

    topic: str
    verdict: str
    text: str


def of_comparison(evidence: Evidence) -> list[Statement]:
    """Return what was over-trained, what re-learning did, and whether it helped."""
    if not any(evidence.finished(method) for method in evidence.methods):
        return [
            Statement("Result", "No run came to its end.", "There is nothing to report but the failures.")
        ]
    baseline, treatment = evidence.baseline, evidence.treatment
    if baseline:
        found = [over_training(evidence.read[baseline], "joint training", evidence.finished(baseline))]
    else:
        text = "Joint training is not among the methods, so it is unknown which modality it over-trains."
        found = [Statement("Over-training", "Not measured.", text)]
    if treatment:
        found.append(relearning(evidence.read[treatment], evidence.finished(treatment)))
    found.append(benefit(evidence))
    return found


def over_training(read: Sequence[learning.Reading], where: str, runs: Sequence[Run]) -> Statement:
    """Say which modality had the largest gap at the last diagnosis."""
    last = learning.last_diagnosis(read)
    if not last:
        text = (
            f"No diagnosis of {where} was recorded (diagnose_every 0, or no run came to its end), so nothing "
            "can be said about over-training."
        )
        return Statement("Over-training", "Not measured.", text)
    ordered = sorted(last.items(), key=lambda item: -item[1].gap.mean)
    name, point = ordered[0]
    measure = learning.metric(read)
    text = (
        f"At the last diagnosis of {where} (epoch {point.epoch}) the {measure} of {name} was "
        f"{decimal(point.train.mean, 3)} on training and {decimal(point.val.mean, 3)} on validation "
        f"features: a gap of {decimal(point.gap.mean, 3)}{_range(point, runs)}.{_other_gaps(ordered[1:])}"
    )
    if point.gap.mean <= 0:
        return Statement("Over-training", "No modality was over-trained.", text)
    if len(ordered) == 1:
        return Statement("Over-training", f"{name} was over-trained.", text)
    first = learning.leads(read, name)
    if first < point.gap.n:
        text += f" The gap of {name} was the largest on {first} of {counted(point.gap.n, 'seed')}."
    text += _over_time(read, name)
    sure = "." if first == point.gap.n else ", though not clearly."
    return Statement("Over-training", f"{name} was over-trained most{sure}", text)


def _over_time(read: Sequence[learning.Reading], name: str) -> str:
    """Say so if the last diagnosis and the mean of all name different modalities."""
    gaps = learning.mean_gaps(read)
    largest = max(gaps, key=lambda modality: gaps[modality])
    if largest == name:
        return ""
    return f" Averaged over all diagnoses the largest gap is that of {largest}, {decimal(gaps[largest], 3)}."


def _range(point: learning.Point, runs: Sequence[Run]) -> str:
    gap = point.gap
    if len(runs) < 2 or gap.n < 2:
        return ""
    text = f" ({counted(gap.n, 'seed')}, {between(gap.low, gap.high)})"
    return text + (", though not on every seed" if gap.low <= 0 < gap.mean else "")


def _other_gaps(others: Sequence[tuple[str, learning.Point]]) -> str:
    if not others:
        return ""
    if len(others) == 1:
        return f" The gap of {others[0][0]} was {decimal(others[0][1].gap.mean, 3)}."
    shown = [f"{name} {decimal(point.gap.mean, 3)}" for name, point in others[:NAMED]]
    more = len(others) - len(shown)
    return f" The other gaps: {', '.join(shown)}{f' and {more} smaller' if more else ''}."


def relearning(read: Sequence[learning.Reading], runs: Sequence[Run]) -> Statement:
    """Say how strongly each modality was pulled back, and how its gap changed right after."""
    ruler = same_ruler(runs)
    found = learning.effects(read, same_ruler=ruler)
    if not found:
        text = "The records hold no re-learning: none was due, or no run came to its end."
        return Statement("Re-learning", "It never took place.", text)
    # Strengths that are not numbers come last.
    ordered = sorted(found.items(), key=lambda item: (not item[1].strength, -item[1].strength.mean))
    epochs = [str(epoch) for epoch in learning.relearning_epochs(read)]
    when = f"epoch {epochs[0]}" if len(epochs) == 1 else f"epochs {listed(epochs)}"
    pulls = [f"{name} {decimal(effect.strength.mean)}" for name, effect in ordered[:NAMED]]
    more = len(ordered) - len(pulls)
    text = (
        f"After {when} the encoders were pulled toward their initial weights; mean strength: "
        f"{', '.join(pulls)}{f', {more} more below that' if more else ''} (0 leaves the weights, 1 restores "
        f"the initial ones). {_change(ordered, ruler)}"
    )
    name, effect = ordered[0]
    verdict = f"{name} was pulled back most." if len(ordered) > 1 else f"{name} was pulled back."
    return Statement("Re-learning", verdict if effect.strength.mean > 0 else "No encoder was changed.", text)


def _change(ordered: Sequence[tuple[str, learning.Effect]], ruler: bool) -> str:
    if not ruler:
        return (
            "How the gaps changed right after is left out: re-learning measured them with other options than "
            "the diagnoses that followed."
        )
    changes = [_changed(name, effect) for name, effect in ordered[:NAMED] if effect.after]
    if not changes:
        return "No diagnosis followed at once, so how the gaps changed is unknown."
    return f"Right after, {listed(changes)}."


def _changed(name: str, effect: learning.Effect) -> str:
    before, after = decimal(effect.before.mean, 3), decimal(effect.after.mean, 3)
    if before == after:
        return f"the gap of {name} stayed at {before}"
    verb = "narrowed" if abs(effect.after.mean) < abs(effect.before.mean) else "widened"
    return f"the gap of {name} {verb} from {before} to {after}"


def benefit(evidence: Evidence) -> Statement:
    """Say whether re-learning helped, or why this is not known."""
    topic = "Did it help?"
    treatment, baseline = evidence.treatment, evidence.baseline
    if treatment is None:
        text = f"{TREATMENT} is not among the methods, so what re-learning would bring here is unknown."
        return Statement(topic, "Not tried.", text)
    if baseline is None:
        text = f"joint is not among the methods: {treatment} has nothing to be compared with."
        return Statement(topic, "Unknown.", text)
    if not evidence.comparable:
        text = f"The runs are not comparable: {'; '.join(evidence.comparison.summary['not_ranked_because'])}."
        return Statement(topic, "No difference can be claimed.", text)
    difference = evidence.difference(treatment)
    if not difference or not difference["n"] or not math.isfinite(difference["mean"]):
        text = f"No seed was finished by both {treatment} and joint."
        return Statement(topic, "Unknown.", text)
    own, other = (evidence.methods[method]["mean"] for method in (treatment, baseline))
    figure = evidence.figure
    reached = (
        f"{treatment} reached {figure.shown(own)} test {figure.name}, joint {figure.shown(other)}. Paired "
        f"over {counted(difference['n'], 'seed')}, the difference is {figure.difference(difference['mean'])}"
        f"{figure.difference_unit}"
    )
    verdict, reason = judge(difference, figure)
    return Statement(topic, verdict, f"{reached}{reason}")


def judge(difference: Mapping[str, Any], figure: MainFigure) -> tuple[str, str]:
    """Return the verdict on a paired difference, and the end of the sentence that gives its reason."""
    none = "No difference can be claimed."
    low, high, seeds = difference["low"], difference["high"], difference["n"]
    if not (math.isfinite(low) and math.isfinite(high)):
        why = "one seed gives" if seeds == 1 else "differences that are equal on every seed give"
        return none, f"; {why} no interval."
    chance = p_equals(difference["p_value"])
    interval = f" (95 % interval {figure.difference(low)} to {figure.difference(high)}, {chance})"
    if seeds < MIN_SEEDS:
        return none, f"{interval}; a claim needs at least {MIN_SEEDS} seeds."
    if low > 0:
        return "Yes: re-learning helped here.", f"{interval}; the interval lies above zero."
    if high < 0:
        return "No: re-learning did harm here.", f"{interval}; the interval lies below zero."
    return none, f"{interval}; the interval includes zero."


def certainty(state: LearningState) -> str:
    """Say what the interval of a gap shows, as the end of a sentence."""
    if state.interval is None:
        return "; how much of it is chance was not measured (bootstrap 0)."
    low, high = state.interval
    verdict = "includes zero, so it may be chance" if low <= 0 <= high else "excludes zero"
    return f" (95 % interval {between(low, high)}); the interval {verdict}."
