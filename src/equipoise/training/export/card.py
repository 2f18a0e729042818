"""The model card: what a model is, how it was trained, how good it is, and what is not known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from equipoise import __version__
from equipoise.decimals import fixed
from equipoise.files.extras import needing
from equipoise.tasks import CLASSIFICATION, MULTILABEL
from equipoise.training.prediction.used_run import UsedRun
from equipoise.training.record.history import RecordedDiagnosis

TASKS: Final = {
    CLASSIFICATION.name: "one of {count} classes",
    MULTILABEL.name: "any of {count} labels",
}
SHOWN: Final = 50
"""Classes that are named at most."""


def card_of(run: UsedRun, diagnoses: Sequence[RecordedDiagnosis] = ()) -> str:
    """Return the text of a model card, with the header that the Hugging Face Hub reads.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
    """
    with needing("huggingface_hub", "hub", "a model card"):
        from huggingface_hub import EvalResult, ModelCardData
    summary = run.summary
    title = f"{summary['method']} on {summary['dataset']}"
    results = [
        EvalResult(
            task_type=run.task.name,
            dataset_type=str(summary["dataset"]),
            dataset_name=str(summary["dataset"]),
            dataset_split="test",
            metric_type=name,
            metric_value=value,
        )
        for name, value in summary["test"].items()
        if value is not None
    ]
    header = ModelCardData(
        library_name="equipoise",
        tags=["multimodal", "equipoise", str(summary["method"]), *run.model.modalities],
        datasets=[str(summary["dataset"])],
        model_name=title if results else None,
        eval_results=results or None,
    )
    sections = (
        f"# {_plain(title)}",
        _what(run),
        _loading(),
        _data(run),
        _training(run),
        _figures(run),
        _diagnosis(run, diagnoses),
        _limits(run),
    )
    return f"---\n{header.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"


def _what(run: UsedRun) -> str:
    target = TASKS.get(run.task.name, "a number").format(count=len(run.summary.get("classes", ())))
    encoders = run.summary.get("encoders", {})
    rows = [
        (m, run.inputs.specs[m].kind, " x ".join(map(str, run.inputs.specs[m].shape)), _encoder(encoders, m))
        for m in run.model.modalities
    ]
    text = f"A multimodal model that predicts {target}, trained with Equipoise {__version__}.\n\n"
    text += _table(("modality", "kind", "shape of a sample", "encoder"), rows)
    if names := list(run.summary.get("classes", ())):
        more = f", and {len(names) - SHOWN} more in `config.json`" if len(names) > SHOWN else ""
        text += f"\n\nClasses: {', '.join(_plain(name) for name in names[:SHOWN])}{more}."
    return text


def _encoder(encoders: Mapping[str, Any], modality: str) -> str:
    return str(encoders.get(modality, {}).get("name", "-"))


def _loading() -> str:
    return (
        "## How to load\n\n```python\nimport equipoise as eq\n\n"
        'model = eq.from_pretrained("FOLDER_OR_REPOSITORY")\n'
        "table = model.predict({...})  # arrays by modality, or prepared data by name\n```\n\n"
        "Weights and statistics are safetensors, the rest is JSON: no code of the folder is run. Samples are "
        "normalised by the statistics of the training split, which are in `inputs.safetensors`."
    )


def _data(run: UsedRun) -> str:
    summary = run.summary
    sizes = ", ".join(f"{count} {name}" for name, count in summary.get("split_sizes", {}).items())
    lines = [
        f"- dataset: {_plain(summary['dataset'])} (fingerprint `{summary.get('data_fingerprint', '-')}`)",
        f"- samples: {sizes or 'unknown'}",
        f"- splits: {_plain(summary.get('split_origin', 'unknown'))} "
        f"(fingerprint `{summary.get('split_fingerprint', '-')}`)",
    ]
    return "## Data and splits\n\n" + "\n".join(lines)


def _training(run: UsedRun) -> str:
    summary, budget = run.summary, run.settings.budget
    options = ", ".join(f"{k}={v}" for k, v in run.settings.method_options.items()) or "defaults"
    epoch = summary.get("best_epoch")
    lines = [
        f"- method: {summary['method']} ({_plain(options)})",
        f"- model: {_plain(summary.get('model', '-'))}",
        f"- seed: {summary['seed']}; initial weights `{summary.get('init_fingerprint', '-')}`",
        f"- {budget.epochs} epochs, batches of {budget.batch_size}, {budget.optimizer}, learning rate "
        f"{budget.lr}, precision {budget.precision}",
        f"- kept: the weights after {_epochs(epoch)}, the best {budget.select} on validation",
    ]
    return "## Training\n\n" + "\n".join(lines)


def _epochs(best: int | None) -> str:
    return "an unknown epoch" if best is None else f"epoch {best + 1}"


def _figures(run: UsedRun) -> str:
    validation, test = run.summary["validation"], run.summary["test"]
    rows = [(name, _number(validation.get(name)), _number(test.get(name))) for name in {**validation, **test}]
    text = "## Figures\n\n" + _table(("figure", "validation", "test"), rows) + "\n\n"
    chosen = "The weights were chosen on validation, so the figures on it are optimistic."
    if test:
        text += f"The test split was opened once, after the training. {chosen} "
    else:
        text += f"The test split was not opened. {chosen} "
    text += "This is one run with one seed: it does not say how much another seed would differ."
    floor = run.summary.get("floor", {}).get("own")
    if isinstance(floor, Mapping) and isinstance(floor.get("score"), int | float):
        side = "below" if floor.get("below") else "not below"
        text += (
            f" A linear model on the inputs scores {fixed(float(floor['score']))} on validation; this model "
            f"is {side} that."
        )
    return text


def _diagnosis(run: UsedRun, diagnoses: Sequence[RecordedDiagnosis]) -> str:
    title = "## How well each modality is learnt\n\n"
    probes = run.summary.get("probes", {})
    if not diagnoses and not probes:
        return title + "This was not measured in this run."
    text, header = title, ["modality"]
    last = diagnoses[-1] if diagnoses else None
    if last is not None:
        header += [f"{last.options.metric}, train", f"{last.options.metric}, validation", "difference"]
    header += ["linear probe, validation"]
    rows = []
    for m in run.model.modalities:
        row = [m]
        if last is not None:
            state = last.get(m)
            known = [state.train_score, state.val_score, state.train_score - state.val_score] if state else []
            row += [_number(value) for value in known] or ["-"] * 3
        rows.append([*row, _number(probes.get(m))])
    text += _table(header, rows)
    if last is not None:
        count = sum(1 for one in diagnoses if one.event == "relearning")
        text += (
            f"\n\nMeasured after epoch {last.epoch + 1} of {run.settings.budget.epochs}, on the features of "
            "each encoder. A score that is higher on training than on validation says that a modality was "
            f"learnt by heart. Encoders were re-learnt {'once' if count == 1 else f'{count} times'}."
        )
    return text


def _limits(run: UsedRun) -> str:
    lines = [
        "- It was measured on samples of the dataset above. Nothing is known about samples from elsewhere.",
        "- All modalities are expected. Without one, a mean feature stands in, and predictions are worse.",
        "- Probabilities were not calibrated.",
        "- The licence of the data, and what it allows to do with a model, are not recorded here.",
    ]
    if run.settings.allow_leaks:
        lines.insert(0, "- Splits may share samples: the check for leaks was switched off.")
    return "## Limits\n\n" + "\n".join(lines)


def _number(value: object) -> str:
    return fixed(float(value)) if isinstance(value, int | float) else "-"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(text: object) -> str:
    """Return a text in one line that Markdown does not take for anything else."""
    line = " ".join(str(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in line)
