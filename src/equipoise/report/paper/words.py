"""The words of a reproduced table or figure: title, notes, and the conditions of its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from equipoise.experiments.compare.comparison import Comparison
from equipoise.experiments.compare.floors import marked
from equipoise.experiments.paper.reproduce import Reproduction
from equipoise.experiments.paper.runs import finished_runs
from equipoise.report.text.wording import counted, listed
from equipoise.training.record.record import CONFIG, RunRecord

PAPER: Final = "Wei, Li, Feng, Hu, Diagnosing and Re-learning for Balanced Multimodal Learning, ECCV 2024"
BELOW: Final = "\N{DAGGER}"
BUDGET: Final = (
    "batch_size",
    "optimizer",
    "lr",
    "momentum",
    "weight_decay",
    "schedule",
    "clip_norm",
    "augment",
)


def title(found: Reproduction) -> str:
    """Return what is shown, on which sets, and whether it is quick."""
    text = f"{found.item.head}. {found.item.title}"
    if found.cases:
        other = found.stand_in and found.item.form != "ablation"  # which has no sets of the paper
        text += f", {'on the stand-in ' if other else 'on '}{listed(found.sets)}"
    if found.choices.quick:
        text += f" (quick: {_quick(found)})"
    return text


def _quick(found: Reproduction) -> str:
    seeds = {len(list(case.cell.seeds)) for case in found.cases}
    epochs = {case.cell.settings.budget.epochs for case in found.cases}
    return f"{_range(seeds, 'seed')}, {_range(epochs, 'epoch')}" if found.cases else "no runs"


def _range(values: set[int], noun: str) -> str:
    low, high = min(values), max(values)
    return counted(low, noun) if low == high else f"{low} to {counted(high, noun)}"


def notes(found: Reproduction) -> list[str]:
    """Return what a reader must know of the comparisons: no ranking, floors, failures."""
    lines = []
    for case, comparison in compared(found):
        summary = comparison.summary
        if summary["not_ranked_because"] and found.item.form == "comparison":
            lines.append(f"{case}: not ranked, because {'; '.join(summary['not_ranked_because'])}.")
        for method, figures in marked(summary["methods"]).items():
            lines.append(f"{case}: {method} does not beat a linear model on its own inputs, {figures}.")
        failed = comparison.results[comparison.results["status"] != "ok"]
        lines += [f"{case}: {row.method}, seed {row.seed}, {row.status}." for row in failed.itertuples()]
        lines += [f"{case}: left out {name}: {why}" for name, why in summary.get("left_out", {}).items()]
    return lines


def compared(found: Reproduction) -> Iterator[tuple[str, Comparison]]:
    """Yield the title of each case with its comparison, those with augmentation too."""
    for case in found.cases:
        yield case.title, found.comparisons[case.cell.name]
        if case.augmented is not None:
            yield f"{case.title}, augmented", found.comparisons[case.augmented.name]


def conditions(found: Reproduction) -> list[str]:
    """Return how the runs were made, from their records: cases with the same conditions share a line."""
    held: dict[str, list[str]] = {}
    machines = []
    for case in found.cases:
        comparison = found.comparisons[case.cell.name]
        if record := first_record(comparison):
            result = record.result()
            title = case.data if found.item.form == "ablation" else case.title
            held.setdefault(of_runs(comparison, result, record.options()), []).append(title)
            machines.append(machine(result["environment"]))
    lines = [f"{'; '.join(dict.fromkeys(titles))}: {text}" for text, titles in held.items()]
    if len(held) == 1:
        lines = [f"All cases: {text}" for text in held] if len(found.cases) > 1 else lines
    return [*lines, *(f"Versions and machine: {text}." for text in dict.fromkeys(machines))]


def of_runs(comparison: Comparison, result: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return model, seeds, budget, sizes and fingerprints of a comparison, given one of its runs."""
    seeds = ", ".join(map(str, comparison.summary["seeds"]))
    sizes = ", ".join(f"{count:,} {split}" for split, count in result["split_sizes"].items())
    budget = ", ".join(f"{key} {options[key]}" for key in BUDGET if options.get(key) is not None)
    return (
        f"model {result['model']}; seeds {seeds}; {counted(result['epochs'], 'epoch')}; {budget}; {sizes} "
        f"samples; data {result['data_fingerprint'][:12]}, splits {result['split_fingerprint'][:12]}."
    )


def machine(environment: Mapping[str, Any]) -> str:
    """Return the versions and the machine of a run."""
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    parts = [f"Python {environment['python']}"]
    parts += [environment[key] for key in ("platform", "device") if key in environment]
    parts += [counted(environment["cores"], "core")] if "cores" in environment else []
    return f"{versions}; {', '.join(parts)}"


def first_record(comparison: Comparison) -> RunRecord | None:
    """Return the record of the first finished run of a comparison whose folder is there."""
    records = (RunRecord(folder) for _, _, folder in finished_runs(comparison))
    return next((one for one in records if one.has_result and one.path(CONFIG).is_file()), None)


def selection(found: Reproduction) -> Sequence[str]:
    """Say how epochs were selected, and what the columns that are not honest show."""
    if not found.cases:
        return []
    lines = [
        "The epoch whose weights are kept is selected on validation, and the test split is opened once a "
        "run, after training. Means and standard deviations are over seeds."
    ]
    if found.item.form == "ablation":
        lines.append(
            "Intervals are Student's 95 % intervals of the mean of the paired differences, seed by seed, in "
            "test accuracy; they are not corrected for the number of rows. No effect: the same accuracy with "
            "every seed, where the models lack what the variant changes. Cost: samples passed forward in "
            "training, as a multiple of joint training; a mean of several models also costs several at "
            "prediction. Whoever chooses a variant has to do so by validation, not by these differences."
        )
    if found.choices.original:
        lines.append(
            "The columns 'not honest' show what the published protocol would report: 'best on test' is the "
            "highest test accuracy of any epoch, measured after training from kept weights; 'best on test, "
            "augmented' adds the published difference in augmentation, by which all methods but "
            "diagnose-relearn train on augmented batches, on sets that can be augmented. Nothing in the "
            "other columns depends on them."
        )
    return lines
