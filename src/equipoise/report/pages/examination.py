"""The page of an examination: the verdict on every modality, with its numbers and pictures."""

from __future__ import annotations

from pathlib import Path

from equipoise.diagnosis.options import METRICS
from equipoise.diagnosis.verdict.rules import BALANCED
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
from equipoise.report.text import examined, tables
from equipoise.report.text.detail_tables import states_table
from equipoise.report.text.wording import decimal
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
        statements=[*examined.floor(found), examined.verdict(found), examined.contribution(found)],
        tables=[examined.numbers(found)],
        sections=[Section("The verdict on each modality", (), examined.modalities(found), _advice(found))],
        charts=[chart for chart in _charts(found) if chart is not None],
        folds=[
            Fold("How to read the numbers", _reading(found)),
            *_estimates(found),
            Fold("Options", tables=[options]),
            *closing(runs, found.settings),
        ],
    )


def _advice(found: Examination) -> list[Notice]:
    return [
        Notice(f"What to try for {name}:", verdict.advice)
        for name, verdict in found.verdicts.items()
        if verdict.state != BALANCED
    ]


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
    return folds


def _quality(epochs: int) -> str:
    return (
        f"Probe: validation accuracy of a new classifier on the frozen encoder; fine-tuned: of one trained "
        f"together with it ({epochs} epochs); alone: of the modality trained alone (Wei et al., ECCV 2024, "
        "Fig. 1)."
    )


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
        f"{decimal(own.score, 3)} minus {decimal(own.baseline, 3)}, the score when every modality is absent.",
        *([] if found.quality is None else [_quality(found.quality.epochs)]),
        "Verdicts are tried in this order: scarcely informative (no head or model on the modality beats "
        "chance, and the joint prediction does not need it), over-trained (the gap is clearly above zero and "
        "wide), encoder too weak (a linear head on its inputs scores clearly more), under-trained (the "
        "modality holds more than its encoder has learnt, or than the joint prediction uses), unused (its "
        "features beat chance, but neither drop nor Shapley value is above zero beyond noise), balanced. "
        "They rest on the preset robust. 'close' marks one whose numbers are near a threshold.",
        "All of this is measured on training and validation samples"
        + (
            f", contributions on {own.split}."
            if own.split != "validation"
            else "; test was not opened for it."
        ),
    ]
