"""The page of one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.report.charts.chart import Chart
from equipoise.report.charts.confusion import confusion as confusion_chart
from equipoise.report.charts.layers import layer_strengths
from equipoise.report.charts.trace import over_epochs
from equipoise.report.pages.comparison import closing, facts, pictures, selection
from equipoise.report.pages.page import Fold, Notice, Page
from equipoise.report.records import Run, gather
from equipoise.report.text import sentences, tables
from equipoise.report.text.evidence import Evidence
from equipoise.report.text.main_figure import MainFigure
from equipoise.report.text.tables import Cell, Table, rounded
from equipoise.report.text.wording import counted, decimal, number
from equipoise.tasks import CLASSIFICATION
from equipoise.training.record.predictions import confusion, read_predictions
from equipoise.training.record.trace import read_trace

SINGLE_SEED = "One run is one seed: how far another seed would have ended elsewhere is not known from it."


def run_page(folder: Path) -> Page:
    """Return the page of a run.

    Raises:
        RunFolderError: there is no finished run in the folder.
    """
    comparison, (run,) = gather([folder])
    evidence = Evidence.of(comparison, [run])
    read, result = evidence.read[run.method], run.result
    floor = sentences.floor_of_run(result)
    statements = [_outcome(run), *([floor] if floor else []), sentences.over_training(read, "this run")]
    if evidence.treatment:
        statements.append(sentences.relearning(read))
    states = tables.learning(read, "this run")
    kept = f"weights of epoch {result['best_epoch']}"
    notice = f"The record shows that the test split was opened {counted(run.tests, 'time')}; expected 1."
    return Page(
        kind="run",
        title=f"{result['dataset']}: {run.method}, seed {run.seed}",
        facts=facts([run], [f"model {result['model']}", kept]),
        statements=statements,
        notices=[] if run.tests == 1 else [Notice(notice)],
        tables=[_figures(result), *tables.floors(result), *([states] if states else [])],
        charts=[*pictures(evidence), *recorded(run)],
        folds=[
            Fold("How to read the numbers", [selection([run], run.settings), SINGLE_SEED]),
            *closing([run], run.settings),
        ],
    )


def recorded(run: Run) -> list[Chart]:
    """Return the other charts of a run: layers, trace and confusion matrices."""
    trace, predictions = read_trace(run.folder), read_predictions(run.folder)
    layers = [event["layers"] for event in run.states if event.get("layers")]
    charts = [layer_strengths(layers[-1])] if layers else []
    charts += [over_epochs([vars(point) for point in trace])] if trace else []
    if predictions is not None and MainFigure.of(run.result).task is CLASSIFICATION:
        charts += [
            confusion_chart(confusion(run.folder, split), run.result["classes"], name)
            for split, name in (("val", "validation"), ("test", "test"))
        ]
    return [chart for chart in charts if chart is not None]


def _outcome(run: Run) -> sentences.Statement:
    figure = MainFigure.of(run.result)
    test, validation = (number(run.result[split].get(figure.key)) for split in ("test", "validation"))
    verdict = f"{decimal(test, 3)} test {figure.name}."
    selected = f"On validation, which selected epoch {run.result['best_epoch']}"
    text = f"{selected}, it was {decimal(validation, 3)}."
    return sentences.Statement("Result", verdict, text)


def _figures(result: Mapping[str, Any]) -> Table:
    figure = MainFigure.of(result)
    rows = []
    for split in ("validation", "test"):
        shown = {"split": Cell(split)}
        for key, name in {**figure.task.figures, "loss": "loss"}.items():
            shown[name] = rounded(result[split].get(key))
        rows.append(shown)
    seconds, samples = (number(result.get(key)) for key in ("train_seconds", "forward_samples"))
    caption = f"Trained in {decimal(seconds, 1)} s, {decimal(samples, 0)} samples forwarded."
    return Table.of(caption, rows)
