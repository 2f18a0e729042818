"""The sentences of a verdict: the reason with its figure, remarks, advice, and what could not be judged."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.decimals import bracketed, fixed
from equipoise.diagnosis.state import relearning_strength
from equipoise.diagnosis.verdict.rules import (
    BALANCED,
    OVER_TRAINED,
    SCARCE,
    UNDER_TRAINED,
    UNUSED,
    WEAK,
    ModalityNumbers,
    Thresholds,
    behind,
    below_floor,
    best,
    information_floor,
    needed,
    over_trained,
    used_head,
)


def reason(numbers: ModalityNumbers, limits: Thresholds, state: str) -> str:
    """Return the sentence with the figure that decides the state."""
    drop = fixed(numbers.removed_drop or 0.0) + bracketed(numbers.removed_interval)
    if state == SCARCE:
        above = _ahead(numbers.potential, numbers.chance)
        side = f"{above[1:]} below" if above[0] == "-" else f"{above} above"
        return f"The best head or model on this modality scores {side} chance."
    if state == WEAK and (below_floor(numbers.floor_lead, numbers.floor_lead_error, limits) or 0.0) > 0:
        return f"A linear model on its inputs scores {fixed(numbers.floor_lead or 0.0)} more than this run."
    if state == WEAK:
        above = _ahead(numbers.inputs, best(numbers.learnt, numbers.trained))
        return f"A linear head on its inputs scores {above} more than its encoder."
    if state == UNUSED:
        return f"The drop without it is {drop}, while its features beat chance."
    if state == UNDER_TRAINED and (behind(numbers, limits) or 0.0) > 0:
        trained = numbers.trained is not None and numbers.trained == numbers.reference
        how = "Trained alone or further, it" if trained else "A linear head on its inputs"
        return f"{how} scores {_ahead(numbers.reference, numbers.learnt)} more than its encoder as it is."
    if state == UNDER_TRAINED:
        above = _ahead(used_head(numbers), numbers.joint)
        return f"A new head that uses it scores {above} more than the joint model, which neglects it."
    if numbers.gap is None:
        return f"The drop without it is {drop}." if numbers.removed_drop is not None else "No rule applies."
    side = "above" if numbers.gap > limits.gap else "not above"
    sure = side == "not above" or (over_trained(numbers, limits) or 0.0) > 0
    doubt = "" if sure else ", but the interval includes zero"
    span = bracketed(numbers.gap_interval)
    return f"The gap is {fixed(numbers.gap)}{span}, {side} {limits.gap:g}{doubt}."


def remarks(
    numbers: ModalityNumbers, limits: Thresholds, state: str, holding: Sequence[str]
) -> tuple[str, ...]:
    """Return what else is known of the modality, besides its state."""
    found = []
    if state == SCARCE and OVER_TRAINED in holding:
        found.append(
            f"It is also over-trained: a gap of {numbers.gap:.2f} without information means that the encoder "
            "has memorised noise."
        )
    elif state == OVER_TRAINED and WEAK in holding:
        found.append("It is also too weak: a linear head on its inputs reaches a higher score.")
    elif state == OVER_TRAINED and UNDER_TRAINED in holding:
        found.append("It is also under-trained: other training reaches a higher score.")
    if state == SCARCE and numbers.trained is None:
        found.append(
            "This applies to the present encoder: an informative modality whose encoder has learnt nothing "
            "may look the same. Train the modality alone to find out."
        )
    need, floor, potential = needed(numbers, limits), information_floor(numbers, limits), numbers.potential
    if floor is None or potential is None or need is None:
        return tuple(found)
    if need > 0 and potential < floor:
        found.append("It is informative only together with other modalities.")
    elif need <= 0 and state in (BALANCED, OVER_TRAINED) and potential >= floor:
        found.append("It is redundant: the other modalities contain the same information.")
    return tuple(found)


def border(margin: float, other: str) -> str:
    """Return the sentence on a verdict that is nearly `other`."""
    return f"Close to the border: a change of {margin:.3f} would make the verdict '{other}'."


def advice(numbers: ModalityNumbers, state: str) -> tuple[str, ...]:
    """Return what to try."""
    if state == OVER_TRAINED:
        strength = relearning_strength(max(0.0, numbers.gap or 0.0))
        return (
            "--method diagnose-relearn-plus (in your own loop equipoise.by_hand), which resets several times "
            "what encoders have learnt by heart.",
            "--method diagnose-relearn (equipoise.DiagnoseRelearn), which moves this encoder toward its "
            f"initial weights (strength {strength:.2f} at lam 3).",
            "Fewer epochs, more dropout or weight decay for this encoder, or more training samples.",
        )
    if state == WEAK:
        return (
            "Another encoder for this modality (--encoder), more epochs, or another learning rate (--lr).",
            "Methods that balance modalities do not help an encoder that cannot learn its own.",
        )
    if state == UNUSED:
        return (
            "Leave it out (--modalities) and compare: the others contain the same information.",
            "If another modality may be missing later: --method opm, which trains for that.",
        )
    if state == UNDER_TRAINED:
        # OGM-GE slows a modality down by the probability of the true class, which needs classes.
        slower = "ogm-ge" if numbers.score_name == "accuracy" else "mmpareto"
        return (
            "--method multi-loss or pretrain-finetune, which train this encoder with a loss of its own.",
            f"--method {slower} or diagnose-relearn, which keep other modalities from suppressing it.",
        )
    if state == SCARCE:
        return (
            "Better features or another encoder for this modality; more training will not help.",
            "Train without it and compare: if the score stays the same, leave it out.",
            "If it must stay, more dropout or weight decay for its encoder, against memorised noise.",
        )
    return ("Nothing for this modality.",)


def lacks(numbers: ModalityNumbers, unjudged: Sequence[str]) -> tuple[str, ...]:
    """Return what could not be judged, and which number is missing."""
    found = []
    if OVER_TRAINED in unjudged:
        found.append("Not judged: over-training. Missing: scores of training and validation features.")
    elif numbers.gap_interval is None:
        found.append("Not judged: how certain the gap is. Missing: its interval.")
    if SCARCE in unjudged:
        missing = (
            "the share of the largest class"
            if numbers.chance is None
            else "a score of the modality by itself"
        )
        found.append(f"Not judged: how informative the modality is. Missing: {missing}.")
    if numbers.learnt is None or numbers.trained is None:
        missing = "the modality trained alone" if numbers.trained is None else "a probe of its encoder"
        found.append(f"Not judged: whether the encoder could have learnt more. Missing: {missing}.")
    if numbers.removed_drop is None and numbers.shapley is None:
        found.append("Not judged: whether the joint model uses it. Missing: its contribution.")
    return tuple(found)


def _ahead(first: float | None, second: float | None) -> str:
    return fixed((first or 0.0) - (second or 0.0))
