"""What an examination found: the sentences and the table of its page, which a terminal prints, too."""

from __future__ import annotations

from equipoise.diagnosis.verdict.rules import BALANCED
from equipoise.experiments.examine.examination import Examination
from equipoise.report.text.detail_tables import strength_of
from equipoise.report.text.sentences import NAMED, Statement, floor_of_run
from equipoise.report.text.tables import Cell, Table, rounded
from equipoise.report.text.wording import between, decimal, listed


def verdict(found: Examination) -> Statement:
    """Return the states of all modalities, and the reasons for those that are not balanced."""
    by_state: dict[str, list[str]] = {}
    for name, own in found.verdicts.items():
        by_state.setdefault(own.state, []).append(name)
    told = [f"{state.capitalize()}: {listed(names)}." for state, names in by_state.items()]
    why = [f"{name}: {own.reasons[0]}" for name, own in found.verdicts.items() if own.state != BALANCED]
    return Statement("Verdict", " ".join(told), " ".join(why[:NAMED]))


def floor(found: Examination) -> list[Statement]:
    """Return that the run does not beat a linear model on its own inputs; nothing if it does."""
    said = floor_of_run(found.result)
    return [said] if said else []


def contribution(found: Examination) -> Statement:
    """Return which modality the joint prediction owes most to; none where noise may have decided."""
    own = found.contributions
    ordered = sorted(own.values(), key=lambda c: -c.shapley)
    model = "the model" if found.through == "model" else "a linear head on the features"
    text = (
        f"With all modalities {model} reaches {own.metric} {decimal(own.score, 3)} on {own.split} (chance "
        f"{decimal(own.chance, 3)})."
    )
    spans = [c.intervals.get("shapley", (c.shapley, c.shapley)) for c in ordered]
    if spans[0][0] <= max((high for _, high in spans[1:]), default=0.0) or spans[0][0] <= 0:
        return Statement("Contribution", "No modality stands out.", text)
    first = "Only from" if len(ordered) == 1 else "Most comes from"
    return Statement("Contribution", f"{first} {ordered[0].modality}.", text)


def modalities(found: Examination) -> list[Statement]:
    """Return the verdict on each modality: its state, the reason, and remarks."""
    return [
        Statement(
            name,
            f"{own.state.capitalize()}{'' if own.certain else ', close to the border'}.",
            " ".join((*own.reasons, *own.remarks, *own.lacks)),
        )
        for name, own in found.verdicts.items()
    ]


def numbers(found: Examination) -> Table:
    """Return all numbers of each modality."""
    measure, own, quality = found.learning.options.metric, found.contributions, found.quality
    rows = []
    for name, state in found.learning.items():
        verdict = found.verdicts[name]
        row = {
            "modality": Cell(name),
            "verdict": Cell(verdict.state + ("" if verdict.certain else " (close)")),
            f"training {measure}": rounded(state.train_score),
            f"validation {measure}": rounded(state.val_score),
            "gap": _with(state.train_score - state.val_score, state.interval),
            "strength": rounded(strength_of(state)),
            "new head": rounded((own.refitted or {}).get(name)),
            "new head on others": rounded((own.without or {}).get(name)),
        }
        if found.inputs:
            row["head on inputs"] = rounded(found.inputs.get(name))
        if quality is not None:
            row["probe"], row["fine-tuned"] = rounded(quality[name].probe), rounded(quality[name].fine_tuned)
            row["alone"] = rounded(quality[name].alone)
        row["with it only"] = rounded(own[name].alone)
        row["drop"] = _with(own[name].drop_averaged, own[name].intervals.get("drop_averaged"))
        row["Shapley value"] = _with(own[name].shapley, own[name].intervals.get("shapley"))
        rows.append(row)
    caption = (
        f"Scores are of {measure} and {own.metric}; gap, drop and Shapley value have 95 % intervals. "
        "Strength: how far re-learning would pull the encoder toward its initial weights (0 to 1). New head: "
        "a linear head fitted to this modality's features, or to those of all others; head on inputs: one "
        "fitted to what its encoder is given. With it only: the score of the joint prediction if the others "
        "are absent; drop: what it loses if this one is. An absent modality is replaced by its mean."
    )
    return Table.of(caption, rows, ("verdict",))


def _with(value: float, interval: tuple[float, float] | None) -> Cell:
    return Cell(decimal(value, 3), value, between(*interval) if interval else "")
