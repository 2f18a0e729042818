"""The page of an examination: the verdict on every modality, with its numbers and pictures."""

from __future__ import annotations

from pathlib import Path

from equipoise.diagnosis.options import METRICS
from equipoise.diagnosis.verdict.rules import BALANCED
from equipoise.experiments.examine.encoder_quality import EncoderQuality
from equipoise.experiments.examine.examination import Examination
from equipoise.report.charts.chart import Chart
from equipoise.report.charts.confusion import confusion
from equipoise.report.charts.contributions import contributions
from equipoise.report.charts.projections import projections
from equipoise.report.charts.states import measures, states
from equipoise.report.charts.trace import over_epochs
from equipoise.report.pages.comparison import closing
from equipoise.report.pages.page import Fold, Notice, Page, Section
from equipoise.report.records import read_run
from equipoise.report.text import tables
from equipoise.report.text.detail_tables import states_table, strength_of
from equipoise.report.text.sentences import Statement, certainty
from equipoise.report.text.tables import Cell, Table, amount, rounded
from equipoise.report.text.wording import between, decimal, listed, number, percent, score
from equipoise.training.record.trace import read_trace


def examination_page(found: Examination) -> Page:
    """Return the page of an examination.

    Raises:
        RunFolderError: the record of the run that was examined is damaged.
    """
    runs = [read_run(Path(found.source))] if found.result else []
    options = tables.options(found.learning.options.to_dict(), "Options of the learning state.")
    return Page(
        kind="diagnosis",
        title=f"Diagnosis of {Path(found.source).name}",
        facts=[found.source, *found.facts],
        statements=[_verdicts(found), _contributions(found)],
        tables=[_summary(found)],
        sections=[_modalities(found)],
        charts=[chart for chart in _charts(found) if chart is not None],
        folds=[
            Fold("How to read the numbers", _reading(found)),
            *_estimates(found),
            Fold("Options", tables=[options]),
            *closing(runs, found.settings),
        ],
    )


def _verdicts(found: Examination) -> Statement:
    by_state: dict[str, list[str]] = {}
    for name, verdict in found.verdicts.items():
        by_state.setdefault(verdict.state, []).append(name)
    told = [f"{state.capitalize()}: {listed(names)}." for state, names in by_state.items()]
    state = max(found.learning.values(), key=lambda s: s.train_score - s.val_score)
    gap = decimal(state.train_score - state.val_score, 3)
    widest = f"The widest gap is that of {state.modality}: {gap}{certainty(state)}"
    return Statement("Verdict", " ".join(told), widest)


def _contributions(found: Examination) -> Statement:
    own = found.contributions
    ordered = sorted(own.values(), key=lambda c: -c.shapley)
    most = ordered[0]
    shares = ", ".join(f"{c.modality} {decimal(c.shapley, 3)}" for c in ordered)
    model = "the model" if found.through == "model" else "a linear head on the features"
    full, chance = (score(value, own.metric) for value in (own.score, own.chance))
    text = (
        f"With all modalities {model} reaches {full} on {own.split} (chance {chance}). "
        f"Shapley values: {shares}."
    )
    if len(ordered) == 1:
        return Statement("Contribution", f"Only from {most.modality}.", text)
    if most.shapley <= 0:
        return Statement("Contribution", "From no modality.", text)
    return Statement("Contribution", f"Most comes from {most.modality}.", text)


def _summary(found: Examination) -> Table:
    measure, own = found.learning.options.metric, found.contributions
    rows = []
    for name, state in found.learning.items():
        gap, contribution, verdict = state.train_score - state.val_score, own[name], found.verdicts[name]
        drop, lost = contribution.drop_averaged, contribution.intervals.get("drop_averaged")
        row = {
            "modality": Cell(name),
            "verdict": Cell(verdict.state + ("" if verdict.certain else " (close)")),
            f"training {measure}": rounded(state.train_score),
            f"validation {measure}": rounded(state.val_score),
            "gap": Cell(decimal(gap, 3), gap, between(*state.interval) if state.interval else ""),
            "strength": rounded(strength_of(state), 2),
            "new head alone": rounded((own.refitted or {}).get(name)),
        }
        if found.inputs:
            row["head on inputs"] = rounded(found.inputs.get(name))
        row["alone"] = rounded(contribution.alone)
        row["drop without"] = Cell(decimal(drop, 3), drop, between(*lost) if lost else "")
        rows.append(row)
    caption = (
        f"Scores are of {measure} and {own.metric}. Gap and drop have 95 % intervals. Strength: "
        "how far re-learning would pull the encoder toward its initial weights (0 to 1). New head alone: a "
        "linear head fitted to this modality's features; head on inputs: one fitted to what its encoder is "
        "given. Alone and drop: the joint prediction with the mean in place of the others, or of this one."
    )
    return Table.of(caption, rows, ("verdict",))


def _modalities(found: Examination) -> Section:
    judged = found.verdicts.items()
    return Section(
        "What was found of each modality",
        statements=[
            Statement(
                name,
                f"{v.state.capitalize()}{'' if v.certain else ', close to the border'}.",
                " ".join((*v.reasons, *v.remarks, *v.lacks)),
            )
            for name, v in judged
        ],
        notices=[
            Notice(f"What to try for {name}:", v.advice)
            for name, v in judged
            if v.advice and v.state != BALANCED
        ],
    )


def _charts(found: Examination) -> list[Chart | None]:
    own = found.contributions
    classes = own.classes or [str(place) for place in range(len(own.confusion or ()))]
    trace = read_trace(found.source) if found.result else None
    return [
        states(found.learning),
        contributions(own),
        projections(found.projections),
        over_epochs([vars(point) for point in trace]) if trace else None,
        measures(found.measures),
        None if own.confusion is None else confusion(own.confusion, classes, own.split),
    ]


def _estimates(found: Examination) -> list[Fold]:
    folds = []
    if found.paper is not None:
        text = (
            "Each split is clustered by itself, and a sample counts as right where it is of the majority of "
            "its cluster. With few samples a cluster this is biased upward, and two clusterings may differ "
            "by chance."
        )
        folds.append(Fold("The paper's estimate", [text], [states_table(found.paper)]))
    if found.quality is not None:
        folds.append(Fold("Quality of the encoders", tables=[_quality(found.quality)]))
    return folds


def _quality(quality: EncoderQuality) -> Table:
    heads = {"frozen encoder": "probe", "fine-tuned encoder": "fine_tuned", "trained alone": "alone"}
    rows = []
    for name, state in quality.items():
        accuracies = {head: number(getattr(state, key)) for head, key in heads.items()}
        cells = {head: amount(value, percent(value)) for head, value in accuracies.items()}
        rows.append({"modality": Cell(name), **cells})
    caption = (
        f"Accuracy on validation of a new classifier on the frozen encoder, of one trained together with it "
        f"({quality.epochs} epochs), and of the modality trained alone (Wei et al., ECCV 2024, Fig. 1)."
    )
    return Table.of(caption, rows)


def _reading(found: Examination) -> list[str]:
    measure, own = found.learning.options.metric, found.contributions
    model = (
        "The joint prediction is the model's."
        if found.through == "model"
        else "There is no model that joins the features, so the joint prediction is that of a linear head "
        "(ridge regression of the classes on the standardised features), fitted to the training split."
    )
    orders = "over all subsets" if own.exact else f"over {own.permutations} sampled orders"
    return [
        f"{measure}: {METRICS.get(measure, 'a measure of separability')}. The gap is training minus "
        "validation; its interval shows how far it depends on the samples and on the draw of subsets.",
        f"{model} A modality is taken away by putting its mean over the training split, zeros, or another "
        f"sample's features in its place. The Shapley value is what it adds to the {own.metric}, averaged "
        f"over all orders in which modalities may join ({orders}); the values add up to "
        f"{score(own.score, own.metric)} minus {score(own.baseline, own.metric)}, the score when every "
        "modality is absent.",
        "Verdicts are tried in this order: scarcely informative (nothing fitted on the modality alone beats "
        "chance, and the joint prediction does not need it), over-trained (the gap is clearly above zero and "
        "wide), under-trained (the modality holds more than its encoder has learnt, or than the joint "
        "prediction uses), balanced. They rest on the preset robust. 'close' marks one whose numbers are "
        "near a threshold.",
        "All of this is measured on training and validation samples"
        + (
            f", contributions on {own.split}."
            if own.split != "validation"
            else "; test was not opened for it."
        ),
    ]
