"""The page of a comparison, and of several runs shown together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.grid.output_folder import held_configuration
from equipoise.report.charts.chart import Chart
from equipoise.report.charts.encoders import QualityPoint, encoder_quality
from equipoise.report.charts.methods import accuracy, curves, method_styles
from equipoise.report.charts.relearning import scores, strengths
from equipoise.report.pages.page import Fold, Notice, Page
from equipoise.report.records import FINISHED, Run
from equipoise.report.text import sentences, tables
from equipoise.report.text.detail_tables import costs, differences
from equipoise.report.text.evidence import Evidence
from equipoise.report.text.main_figure import MainFigure
from equipoise.report.text.tuning import tuning_tables
from equipoise.report.text.wording import counted, listed, number
from equipoise.tasks import CLASSIFICATION, MULTILABEL, Task
from equipoise.types import RunFolderError


def comparison_page(comparison: Comparison, runs: Sequence[Run], *, kind: str = "comparison") -> Page:
    """Return the page of a comparison with its runs in any order; `kind` is what its head calls it."""
    evidence = Evidence.of(comparison, runs)
    summary = comparison.summary
    methods, seeds = len(summary["methods"]), len(summary["seeds"])
    return Page(
        kind=kind,
        title=f"{summary['dataset']}: {counted(methods, 'method')}, {counted(seeds, 'seed')}",
        facts=facts_of(comparison, runs),
        statements=sentences.of_comparison(evidence),
        notices=notices(evidence, runs),
        tables=[tables.results(evidence), *tuning_tables(summary)],
        charts=pictures(evidence, accuracy(evidence)),
        folds=_folds(evidence, runs),
    )


def pictures(evidence: Evidence, first: Chart | None = None) -> list[Chart]:
    """Return the charts for which there are numbers, in the order of the page."""
    treated = evidence.treatment
    shown = {method: evidence.read[method] for method in evidence.diagnosed()}
    drawn = [
        first,
        scores(shown),
        strengths(evidence.read[treated], treated) if treated else None,
        curves(evidence),
        encoder_spots(evidence),
    ]
    return [chart for chart in drawn if chart is not None]


def encoder_spots(evidence: Evidence) -> Chart | None:
    """Return the quality of the encoders of every run by themselves, if it is in the records."""
    if evidence.figure.task is not CLASSIFICATION:  # the axes of the paper's figure are accuracies
        return None
    points: list[QualityPoint] = []
    alone: dict[str, float] = {}
    for method, runs in evidence.runs.items():
        held = [run for run in runs if run.result.get("probes")]
        if method.startswith("unimodal:"):
            modality = method.removeprefix("unimodal:")
            own = [number(run.result["validation"].get("accuracy")) for run in held]
            alone |= {modality: math.fsum(own) / len(own)} if own else {}
            continue
        points += [
            QualityPoint(
                method, run.seed, run.result["probes"], number(run.result["validation"].get("accuracy"))
            )
            for run in held
        ]
    colors = {method: color for method, (color, _) in method_styles(evidence).items()}
    return encoder_quality(points, alone, colors=colors) if points else None


def facts_of(comparison: Comparison, runs: Sequence[Run]) -> list[str]:
    """Return what was compared."""
    seeds = listed([str(seed) for seed in comparison.summary["seeds"]])
    return facts(runs, [f"model {comparison.summary['model']}", f"seeds {seeds}"])


def facts(runs: Sequence[Run], known: Sequence[str]) -> list[str]:
    """Return what was run, from the record of a finished run."""
    result = next((run.result for run in runs if run.result), {})
    found = list(known)
    if "epochs" in result:
        found.append(counted(int(result["epochs"]), "epoch"))
    if sizes := result.get("split_sizes"):
        found.append(", ".join(f"{count:,} {split}" for split, count in sizes.items()) + " samples")
    if classes := result.get("classes"):
        found.append(f"{len(classes)} {'labels' if result.get('task') == MULTILABEL.name else 'classes'}")
    return found


def notices(evidence: Evidence, runs: Sequence[Run]) -> list[Notice]:
    """Return important facts: failures, reasons against a ranking, gaps in the records."""
    summary, found = evidence.comparison.summary, []
    failed = [f"{run.method}, seed {run.seed}: {run.status}" for run in runs if not run.finished]
    if failed:
        text = f"{counted(len(failed), 'run')} did not come to an end; the numbers are those of the others."
        found.append(Notice(text, failed))
    if reasons := summary.get("not_ranked_because"):
        found.append(Notice("The methods are not ranked:", reasons))
    if despite := summary.get("ranked_despite"):
        found.append(Notice("The methods are ranked by request, although:", despite))
    if left_out := summary.get("left_out"):
        reasons = [f"{method}: {reason}" for method, reason in left_out.items()]
        found.append(Notice("The model cannot be trained by these methods, which were left out:", reasons))
    if missing := summary.get("missing_references"):
        text = "These reference runs are not among them, and a gain over joint training alone proves little:"
        found.append(Notice(text, missing))
    gone = [f"{run.method}, seed {run.seed}" for run in runs if run.finished and not run.result]
    if gone:
        found.append(Notice("The folders of these runs are missing; the charts lack them:", gone))
    opened = [f"{r.method}, seed {r.seed}: {r.tests} times" for r in runs if r.result and r.tests != 1]
    if opened:
        found.append(Notice("The record does not show that the test split was opened once:", opened))
    return found


def _folds(evidence: Evidence, runs: Sequence[Run]) -> list[Fold]:
    settings, tests = configuration(evidence.comparison, runs), differences(evidence)
    states = [
        table
        for method in evidence.diagnosed()
        if (table := tables.learning(evidence.read[method], method)) is not None
    ]
    return [
        Fold("Every run", [selection(runs, settings)], [tables.runs(evidence)]),
        Fold("How to read the numbers", _reading(settings)),
        *([Fold("Tests of the differences to joint", tables=[tests])] if tests else []),
        Fold("Cost of each method", tables=[costs(evidence)]),
        *([Fold("Learning state of each modality", tables=states)] if states else []),
        *closing(runs, settings, [method_options(runs)]),
    ]


def closing(
    runs: Sequence[Run], settings: Mapping[str, Any], more: Sequence[tables.Table] = ()
) -> list[Fold]:
    """Return the details that end every report of runs: configuration, fingerprints, environment."""
    folds = []
    if settings:
        shown = {k: _selector(runs, settings) if k == "select" else v for k, v in settings.items()}
        folds.append(Fold("Configuration", tables=[tables.options(shown, "Settings of all runs."), *more]))
    if any(run.result for run in runs):
        folds.append(Fold("Fingerprints", tables=[tables.fingerprints(runs)]))
        folds.append(Fold("Environment and versions", tables=[tables.environments(runs)]))
    return folds


def configuration(comparison: Comparison, runs: Sequence[Run]) -> Mapping[str, Any]:
    """Return the settings of a comparison; of single runs, those in which all of them agree."""
    with suppress(RunFolderError):  # a report without configuration is better than no report
        if held := held_configuration(comparison.folder):
            return held
    own = [run.settings for run in runs if run.settings]
    return {
        key: value for key, value in (own[0].items() if own else ()) if all(s.get(key) == value for s in own)
    }


def method_options(runs: Sequence[Run]) -> tables.Table:
    """Return the options that each method ran with, its defaults included."""
    held = {run.method: run.result.get("method_options") or {} for run in runs if run.result}
    rows = [(method, own or "none") for method, own in held.items()]
    return tables.options(dict(rows), "Options of each method, defaults included.")


def selection(runs: Sequence[Run], settings: Mapping[str, Any]) -> str:
    """Say how epochs were selected and when test was opened; the latter only where the records show it."""
    select = _selector(runs, settings)
    select = _task(runs).figures.get(select, select)
    text = f"The epoch whose weights were kept was selected by {select} on the validation split."
    finished = [run for run in runs if run.status == FINISHED and run.result]
    if finished and all(run.tests == 1 for run in finished):
        text += " The test split was opened once a run, at the end; each record holds one such event."
    return text + " Epochs are counted from 0."


def _selector(runs: Sequence[Run], settings: Mapping[str, Any]) -> str:
    """Return the figure that selected the epoch: the default means the main figure of every task."""
    task, select = _task(runs), str(settings.get("select", "accuracy"))
    return select if select in task.figures or select == "loss" else task.main


def _task(runs: Sequence[Run]) -> Task:
    return MainFigure.of(next((run.result for run in runs if run.result), {})).task


def _reading(settings: Mapping[str, Any]) -> list[str]:
    if settings.get("split_seed") == "run":
        covers = (
            "Each seed draws its own splits, initial weights and order of batches; the interval covers all."
        )
    else:
        covers = (
            "The interval covers seeds only: initial weights and the order of batches. The splits are the "
            "same for every seed (split_seed is not 'run'), so another choice of test samples may give "
            "another result."
        )
    return [
        "Differences are paired: each method's run minus the run of joint with the same seed. The 95 % "
        f"interval is that of Student's t for the mean of these differences. {covers}",
        "Wilcoxon p (Holm) is that of the two-sided signed-rank test of these differences, corrected by "
        "Holm's method for the number of methods. With n seeds it cannot be below 2^(1-n) before the "
        "correction, so it is left out for fewer than 6 seeds. The p of a sentence about one method is that "
        "of the paired t-test, not corrected.",
        "The bootstrap interval (BCa, else percentiles; 9,999 resamples) supposes no distribution, but draws "
        "from the seeds that there are: with fewer than 6 it is too narrow, and Student's is to be trusted.",
        "A gap is training minus validation, measured on features before fusion. By chance alone it differs "
        "from zero, the more so on small splits; compare modalities and moments rather than single values.",
        "Samples forward and backward count each sample that passed through all encoders in training once; "
        "one that passed through some of them counts as that share. Peak memory is that of the tensors on a "
        "GPU; on a CPU it is that of the whole process, its libraries included.",
        "Seconds are wall-clock time of training, that of finished parts (as of an ensemble) included; runs "
        "that shared a machine may have slowed each other. Samples do not depend on the machine.",
    ]
