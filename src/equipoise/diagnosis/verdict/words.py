"""The sentences of a verdict: reasons with their numbers, remarks, advice, and what could not be judged."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.diagnosis.state import relearning_strength
from equipoise.diagnosis.verdict.rules import (
    BALANCED,
    OVER_TRAINED,
    SCARCE,
    UNDER_TRAINED,
    ModalityNumbers,
    Thresholds,
    information_floor,
    needed,
)

SOURCES = {
    "refit": "head on its features",
    "inputs": "head on its inputs",
    "probe": "probe",
    "alone": "trained alone",
    "fine_tuned": "fine-tuned",
}


def reasons(numbers: ModalityNumbers, limits: Thresholds, state: str) -> tuple[str, ...]:
    """Return the reasons for a state, the decisive one first."""
    gap, information = _gap(numbers, limits), _information(numbers, limits)
    shortfall, use = _shortfall(numbers), _use(numbers)
    found = {
        SCARCE: (information, use, gap),
        OVER_TRAINED: (gap, information, use),
        UNDER_TRAINED: (shortfall, use, gap),
        BALANCED: (gap, information, shortfall, use),
    }
    return tuple(sentence for sentence in found[state] if sentence)


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
    return f"Close to the border: a change of {margin:.3f} would make it {other}."


def advice(numbers: ModalityNumbers, state: str) -> tuple[str, ...]:
    """Return what to try."""
    if state == OVER_TRAINED:
        strength = relearning_strength(max(0.0, numbers.gap or 0.0))
        return (
            f"--method diagnose-relearn, which moves this encoder toward its initial weights (strength "
            f"{strength:.2f} at lam 3).",
            "Fewer epochs, more dropout or weight decay for this encoder, or more training samples.",
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
        missing = "the share of the largest class" if numbers.chance is None else "its score alone"
        found.append(f"Not judged: how informative the modality is. Missing: {missing}.")
    if numbers.learnt is None or numbers.trained is None:
        missing = "the modality trained alone" if numbers.trained is None else "a probe of its encoder"
        found.append(f"Not judged: whether the encoder could have learnt more. Missing: {missing}.")
    if numbers.removed_drop is None and numbers.shapley is None:
        found.append("Not judged: whether the joint model uses it. Missing: its contribution.")
    return tuple(found)


def _gap(numbers: ModalityNumbers, limits: Thresholds) -> str:
    if numbers.gap is None:
        return ""
    scores = f"{numbers.measure} {numbers.train_score:.2f} in training, {numbers.val_score:.2f} in validation"
    side = "above" if numbers.gap > limits.gap else "not above"
    return f"The gap is {numbers.gap:.2f}{_span(numbers.gap_interval)}, {side} {limits.gap:g} ({scores})."


def _information(numbers: ModalityNumbers, limits: Thresholds) -> str:
    floor, potential = information_floor(numbers, limits), numbers.potential
    if floor is None or potential is None:
        return ""
    side = "above" if potential >= floor else "below"
    known = numbers.known()
    sources = ", ".join(f"{name} {known[key]:.2f}" for key, name in SOURCES.items() if key in known)
    return (
        f"Alone it reaches at most {_score(numbers)} {potential:.2f}, {side} {floor:.2f}, from which on it "
        f"counts as informative (chance {numbers.chance:.2f}): {sources}."
    )


def _shortfall(numbers: ModalityNumbers) -> str:
    """Return how the encoder compares with what its modality can reach."""
    if numbers.learnt is None:
        return ""
    if numbers.reference is None:
        return f"A head on its features reaches {_score(numbers)} {numbers.learnt:.2f}."
    by_training = numbers.trained is not None and numbers.trained >= numbers.reference
    how = "trained alone or further, it" if by_training else "a linear head on its inputs"
    return (
        f"Its encoder reaches {_score(numbers)} {numbers.learnt:.2f}; {how} reaches {numbers.reference:.2f}."
    )


def _use(numbers: ModalityNumbers) -> str:
    parts = []
    if numbers.removed_drop is not None:
        drop, span = numbers.removed_drop, _span(numbers.removed_interval)
        parts.append(f"The joint model loses {drop:.2f}{span} without it.")
    if numbers.shapley is not None:
        parts.append(f"Its Shapley value is {numbers.shapley:.2f}{_span(numbers.shapley_interval)}.")
    if numbers.without_refit is not None:
        whole = "" if numbers.all_refit is None else f", one on all {numbers.all_refit:.2f}"
        joint = "" if numbers.joint is None else f", the joint model {numbers.joint:.2f}"
        parts.append(f"A new head on the others reaches {numbers.without_refit:.2f}{whole}{joint}.")
    return " ".join(parts)


def _span(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"


def _score(numbers: ModalityNumbers) -> str:
    return "R^2" if numbers.score_name == "r2" else numbers.score_name
