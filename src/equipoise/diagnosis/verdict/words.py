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


def reasons(numbers: ModalityNumbers, limits: Thresholds, state: str) -> tuple[str, ...]:
    """Return the sentences that lead to a state, the decisive one first."""
    found = {
        SCARCE: (_information(numbers, limits), _use(numbers), _gap(numbers, limits)),
        OVER_TRAINED: (_gap(numbers, limits), _information(numbers, limits), _use(numbers)),
        UNDER_TRAINED: (_shortfall(numbers), _use(numbers), _gap(numbers, limits)),
        BALANCED: (
            _gap(numbers, limits),
            _information(numbers, limits),
            _shortfall(numbers),
            _use(numbers),
        ),
    }
    return tuple(sentence for sentence in found[state] if sentence)


def remarks(
    numbers: ModalityNumbers, limits: Thresholds, state: str, holding: Sequence[str]
) -> tuple[str, ...]:
    """Return what else is to be said of the modality beside its state."""
    found = []
    if state == SCARCE and OVER_TRAINED in holding:
        found.append(
            f"It is over-trained as well: a gap of {numbers.gap:.2f} without information is noise learnt by "
            "heart."
        )
    elif state == OVER_TRAINED and UNDER_TRAINED in holding:
        found.append("It is under-trained as well: trained otherwise, the modality tells more.")
    if state == SCARCE and numbers.trained is None:
        found.append(
            "This speaks of the encoder as it is: one that has learnt nothing of an informative modality may "
            "look the same; the modality trained alone would tell."
        )
    need, floor, potential = needed(numbers, limits), information_floor(numbers, limits), numbers.potential
    if floor is None or potential is None or need is None:
        return tuple(found)
    if need > 0 and potential < floor:
        found.append("It tells the class only together with other modalities.")
    elif need <= 0 and state in (BALANCED, OVER_TRAINED) and potential >= floor:
        found.append("It is redundant: the others tell what it tells.")
    return tuple(found)


def border(margin: float, other: str) -> str:
    """Return the sentence on a verdict that might as well have been `other`."""
    return f"Close to the border: a change of {margin:.3f} would make it {other}."


def advice(numbers: ModalityNumbers, state: str) -> tuple[str, ...]:
    """Return what to try."""
    if state == OVER_TRAINED:
        strength = relearning_strength(max(0.0, numbers.gap or 0.0))
        return (
            f"--method diagnose-relearn, which pulls this encoder toward its initial weights (strength "
            f"{strength:.2f} at lam 3).",
            "Fewer epochs, more dropout or weight decay for this encoder, or more training samples.",
        )
    if state == UNDER_TRAINED:
        # What holds modalities back reads the probability of the true class, which a number has not.
        slower = "ogm-ge" if numbers.score_name == "accuracy" else "mmpareto"
        return (
            "--method multi-loss or pretrain-finetune, which train this encoder by a loss of its own.",
            f"--method {slower} or diagnose-relearn, which keep other modalities from holding it back.",
        )
    if state == SCARCE:
        return (
            "Better features or another encoder for this modality; more training will not help.",
            "Train without it and compare: if the model stays as good, leave it out.",
            "If it must stay, more dropout or weight decay for its encoder keeps it from learning noise.",
        )
    return ("Nothing for this modality by itself.",)


def lacks(numbers: ModalityNumbers, unjudged: Sequence[str]) -> tuple[str, ...]:
    """Return what could not be judged, and which number would tell."""
    found = []
    if OVER_TRAINED in unjudged:
        found.append("Not judged: over-training, for lack of the scores of training and validation features.")
    elif numbers.gap_interval is None:
        found.append("Not known: how certain the gap is, for lack of its interval.")
    if SCARCE in unjudged:
        missing = "the share of the largest class" if numbers.chance is None else "a score of it alone"
        found.append(f"Not judged: how informative the modality is, for lack of {missing}.")
    if numbers.learnt is None or numbers.trained is None:
        missing = "the modality trained alone" if numbers.trained is None else "a probe of its encoder"
        found.append(f"Not judged: whether the encoder could have learnt more, for lack of {missing}.")
    if numbers.removed_drop is None and numbers.shapley is None:
        found.append("Not judged: whether the joint model uses it, for lack of its contribution.")
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
    return (
        f"Alone it reaches {_score(numbers)} {potential:.2f} at best, {side} the {floor:.2f} that count as "
        f"informative (chance {numbers.chance:.2f}){_sources(numbers)}."
    )


def _sources(numbers: ModalityNumbers) -> str:
    names = {"refit": "head on its features", "inputs": "head on its inputs", "probe": "probe"}
    names |= {"alone": "trained alone", "fine_tuned": "fine-tuned"}
    known = numbers.known()
    return ": " + ", ".join(f"{name} {known[key]:.2f}" for key, name in names.items() if key in known)


def _shortfall(numbers: ModalityNumbers) -> str:
    """Return how the encoder compares with what its modality can reach."""
    if numbers.learnt is None:
        return ""
    if numbers.reference is None:
        return f"A head on its features reaches {numbers.learnt:.2f}."
    by_training = numbers.trained is not None and numbers.trained >= numbers.reference
    how = "trained alone or further, the modality" if by_training else "a linear head on its inputs"
    return f"Its encoder gives {_score(numbers)} {numbers.learnt:.2f}; {how} reaches {numbers.reference:.2f}."


def _use(numbers: ModalityNumbers) -> str:
    parts = []
    if numbers.removed_drop is not None:
        parts.append(f"loses {numbers.removed_drop:.2f}{_span(numbers.removed_interval)} without it")
    if numbers.shapley is not None:
        parts.append(f"owes it {numbers.shapley:.2f}{_span(numbers.shapley_interval)} (Shapley value)")
    sentence = f"The joint model {' and '.join(parts)}." if parts else ""
    if numbers.without_refit is not None:
        whole = "" if numbers.all_refit is None else f", one on all {numbers.all_refit:.2f}"
        joint = "" if numbers.joint is None else f", the joint model {numbers.joint:.2f}"
        sentence += f" A new head on the others reaches {numbers.without_refit:.2f}{whole}{joint}."
    return sentence.strip()


def _span(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"


def _score(numbers: ModalityNumbers) -> str:
    return "R^2" if numbers.score_name == "r2" else numbers.score_name
