"""The findings, in plain sentences that are computed from the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.diagnosis.verdict.rules import Thresholds
from equipoise.experiments.compare import floors
from equipoise.experiments.compare.statistics import MIN_SEEDS
from equipoise.report.text import learning
from equipoise.report.text.evidence import TREATMENT, Evidence
from equipoise.report.text.wording import between, counted, decimal, listed, p_equals
from equipoise.training.measuring.floor import SENTENCE, figures_below

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
        found = [over_training(evidence.read[baseline], "joint training")]
    else:
        text = "Joint training is not among the methods, so it is unknown which modality it over-trains."
        found = [Statement("Over-training", "Not measured.", text)]
    if treatment:
        found.append(relearning(evidence.read[treatment]))
    found.append(benefit(evidence))
    return [*floor(evidence), *found]


def floor(evidence: Evidence) -> list[Statement]:
    """Say which methods do not beat a linear model on their own inputs; nothing if all do."""
    marked = floors.marked(evidence.methods)
    if not marked:
        return []
    verb = "does not beat a linear model on its" if len(marked) == 1 else "do not beat linear models on their"
    told = [f"{method} {figures}" for method, figures in marked.items()][:NAMED]
    more = [f"{len(marked) - NAMED} others"] if len(marked) > NAMED else []
    names = listed([*list(marked)[:NAMED], *more])
    return [Statement("Floor", f"{names} {verb} own inputs.", f"{'; '.join(told)}.")]


def floor_of_run(result: Mapping[str, Any]) -> Statement | None:
    """Say that a run does not beat a linear model on its own inputs; None if it does, or if it is unknown."""
    figures = figures_below(result)
    return None if figures is None else Statement("Floor", f"The run {SENTENCE}.", figures)


def over_training(read: Sequence[learning.Reading], where: str) -> Statement:
    """Say which modalities were over-trained at the last diagnosis, by the rule of the verdicts."""
    last = learning.last_diagnosis(read)
    if not last:
        text = (
            f"No diagnosis of {where} was recorded (diagnose_every 0, or no run came to its end), so nothing "
            "can be said about over-training."
        )
        return Statement("Over-training", "Not measured.", text)
    measure = learning.metric(read)
    ordered = sorted(last.items(), key=lambda item: -item[1].gap.mean)
    gaps = [_gap(name, point) for name, point in ordered[:NAMED]]
    more = len(ordered) - len(gaps)
    text = (
        f"The gap, training minus validation {measure}, at the last diagnosis of {where} (epoch "
        f"{ordered[0][1].epoch}): {', '.join(gaps)}{f' and {more} smaller' if more else ''}."
    )
    judged = {name: learning.over_trained_by(name, point, measure) for name, point in ordered}
    if named := [name for name, amount in judged.items() if amount is not None and amount > 0]:
        verb = "was" if len(named) == 1 else "were"
        return Statement("Over-training", f"{listed(named)} {verb} over-trained.", text)
    if ordered[0][1].gap.mean <= 0:
        return Statement("Over-training", "No modality was over-trained.", text)
    if any(amount is not None for amount in judged.values()):
        text += f" Over-trained would be a gap above {Thresholds().gap:g} whose interval excludes zero."
    return Statement("Over-training", "No modality stands out.", text)


def _gap(name: str, point: learning.Point) -> str:
    span = f" (95 % interval {between(*point.interval)})" if point.interval else " (no interval)"
    return f"{name} {decimal(point.gap.mean, 3)}{span}"


def relearning(read: Sequence[learning.Reading]) -> Statement:
    """Say how strongly each modality was pulled back, and how its gap changed right after."""
    found = learning.effects(read)
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
        f"the initial ones). {_change(ordered, read)}"
    )
    return Statement("Re-learning", _most_pulled(ordered), text)


def _most_pulled(ordered: Sequence[tuple[str, learning.Effect]]) -> str:
    """Name the encoder whose strength clearly exceeded all others'."""
    name, effect = ordered[0]
    if not effect.strength.mean > 0:
        return "No encoder was changed."
    if len(ordered) == 1:
        return f"{name} was pulled back."
    leads = [own - ordered[1][1].by_seed.get(seed, math.nan) for seed, own in effect.by_seed.items()]
    lead = learning.interval_over_seeds([lead for lead in leads if math.isfinite(lead)])
    clear = lead is not None and lead[0] > 0
    return f"{name} was pulled back most." if clear else "Encoders were pulled back; none stands out."


def _change(ordered: Sequence[tuple[str, learning.Effect]], read: Sequence[learning.Reading]) -> str:
    if len(learning.by_one_ruler(read)) < len(read):
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
        f"{treatment} reached {decimal(own, 3)} test {figure.name}, joint {decimal(other, 3)}. Paired "
        f"over {counted(difference['n'], 'seed')}, the difference is "
        f"{decimal(difference['mean'], 3, signed=True)}"
    )
    verdict, reason = judge(difference)
    return Statement(topic, verdict, f"{reached}{reason}")


def judge(difference: Mapping[str, Any]) -> tuple[str, str]:
    """Return the verdict on a paired difference, and the end of the sentence that gives its reason."""
    none = "No difference can be claimed."
    low, high, seeds = difference["low"], difference["high"], difference["n"]
    if not (math.isfinite(low) and math.isfinite(high)):
        why = "one seed gives" if seeds == 1 else "differences that are equal on every seed give"
        return none, f"; {why} no interval."
    chance = p_equals("paired t-test", difference["p_value"])
    interval = f" (95 % interval {between(low, high, signed=True)}, {chance})"
    if seeds < MIN_SEEDS:
        return none, f"{interval}; a claim needs at least {MIN_SEEDS} seeds."
    if low > 0:
        return "Yes: re-learning helped here.", f"{interval}; the interval lies above zero."
    if high < 0:
        return "No: re-learning did harm here.", f"{interval}; the interval lies below zero."
    return none, f"{interval}; the interval includes zero."
