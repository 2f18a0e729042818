"""The page of a training that was watched: the verdict on each modality, and what every look measured."""

from __future__ import annotations

import math
from dataclasses import replace

from equipoise.diagnosis.options import METRICS
from equipoise.relearning import Monitor
from equipoise.relearning.monitor import diagnosis_of
from equipoise.report.charts import relearning
from equipoise.report.charts.chart import Chart
from equipoise.report.charts.states import states
from equipoise.report.pages.page import Fold, Notice, Page
from equipoise.report.text import tables
from equipoise.report.text.detail_tables import states_table
from equipoise.report.text.learning import DIAGNOSIS, Reading
from equipoise.report.text.sentences import Statement
from equipoise.report.text.wording import counted

WATCHED = "this training"


def monitor_page(found: Monitor) -> Page:
    """Return the page of what a monitor has measured; without a look it says so."""
    title = "How well each modality is learnt"
    if found.last is None:
        names = ", ".join(found.encoders)
        return Page(kind="monitor", title=title, notices=[Notice(f"Nothing was measured yet: {names}.")])
    epochs = [entry["epoch"] for entry in found.history]
    looks = f"{counted(len(epochs), 'look')} in {found.seconds:.1f} s, after epoch {epochs[0]}"
    options = found.last.options
    return Page(
        kind="monitor",
        title=title,
        facts=[looks if len(epochs) == 1 else f"{looks} to {epochs[-1]}"],
        statements=_verdicts(found),
        tables=[states_table(found.last)],
        charts=[chart for chart in (_over_epochs(found), _last(found)) if chart is not None],
        folds=[
            Fold("How to read the numbers", _reading(options.metric)),
            Fold("Options", tables=[tables.options(options.to_dict(), "Options of the learning state.")]),
        ],
    )


def _verdicts(found: Monitor) -> list[Statement]:
    words = {name: state["verdict"] for name, state in found.history[-1]["modalities"].items()}
    return [
        Statement(name, f"{str(words[name]).capitalize()}.", " ".join(verdict.reasons))
        for name, verdict in found.verdicts.items()
    ]


def _over_epochs(found: Monitor) -> Chart | None:
    """Return the scores over epochs; None with a single look."""
    if len(found.history) < 2:
        return None
    read = [
        Reading(
            0, entry["epoch"], DIAGNOSIS, name, s.train_score, s.val_score, math.nan, s.metric, s.interval
        )
        for entry in found.history
        for name, s in diagnosis_of(entry).items()
    ]
    return relearning.scores({WATCHED: read})


def _last(found: Monitor) -> Chart | None:
    """Return the scores of the last look."""
    assert found.last is not None
    chart = states(found.last)
    after = f"{chart.title}, after epoch {found.history[-1]['epoch']}" if chart else ""
    return replace(chart, title=after) if chart else None


def _reading(measure: str) -> list[str]:
    return [
        f"{measure}: {METRICS.get(measure, 'a measure of separability')}. The gap is training minus "
        "validation; its interval shows how far it depends on the samples and on the draw of subsets.",
        "The strength is that by which Diagnosing & Re-learning would pull an encoder toward its initial "
        "weights: 0 leaves it as it is. Nothing was changed in this training.",
        "A gap says of an encoder only whether it is over-trained. What a modality contributes to the model, "
        "and whether more could be learnt from it, eq.examine_model measures.",
    ]
