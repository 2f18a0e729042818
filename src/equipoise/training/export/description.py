"""What a file says of the model in it: inputs, their normalisation, classes, and where it comes from."""

from __future__ import annotations

from typing import Any, Final

from equipoise import __version__
from equipoise.data import ModalitySpec, Normalizer
from equipoise.data.format.modality import KIND_AXES
from equipoise.tasks import CLASSIFICATION, MULTILABEL
from equipoise.training.prediction.used_run import UsedRun

KEY: Final = "equipoise"
"""The one key of a file's metadata, whose text is JSON."""
OUTPUT: Final = "logits"
FROM_SUMMARY: Final = ("dataset", "model", "method", "seed")
MEANING: Final = {
    CLASSIFICATION.name: "logits [batch, classes]; their softmax is the probability of each class",
    MULTILABEL.name: "logits [batch, labels]; their sigmoid is the probability of each label",
}
OF_A_NUMBER: Final = "[batch, 1]; times deviation plus mean of target_scale it is the predicted number"


def description_of(run: UsedRun) -> dict[str, Any]:
    """Return what is needed to use the model elsewhere, as plain values."""
    found = {
        "toolkit": "equipoise",
        "toolkit_version": __version__,
        **{key: run.summary[key] for key in FROM_SUMMARY if key in run.summary},
        "task": run.task.name,
        "inputs": [_input(run.inputs.specs[m], run.inputs.normalizers[m]) for m in run.model.modalities],
        "output": {"name": output_name(run), "meaning": MEANING.get(run.task.name, OF_A_NUMBER)},
        "preparation": dict(run.inputs.preparation),
    }
    if run.task.name in MEANING:
        found["classes"] = list(run.summary.get("classes", ()))
    else:
        mean, deviation = run.target_scale
        found["target_scale"] = {"mean": mean, "deviation": deviation}
    return found


def output_name(run: UsedRun) -> str:
    """Return the name of the output, which must not be that of an input."""
    name = OUTPUT
    while name in run.model.modalities:
        name += "_"
    return name


def _input(spec: ModalitySpec, normalizer: Normalizer) -> dict[str, Any]:
    """Describe an input: float32 `[batch, *shape]`, and how it is made from a stored sample."""
    found: dict[str, Any] = {
        "name": spec.name,
        "kind": spec.kind,
        "axes": ["batch", *KIND_AXES[spec.kind]],
        "shape": list(spec.shape),
        "dtype": "float32",
        "stored_as": spec.dtype,
    }
    if spec.content is not None:
        found["content"] = spec.content
    if spec.kind == "tokens":
        return found | {"normalization": "none", "padding": 0}
    if spec.normalize == "clip":
        return found | {"normalization": "clip"}
    return found | {
        "normalization": "(stored * scale - mean) / deviation",
        "scale": normalizer.scale,
        "mean": normalizer.mean.reshape(-1).tolist(),
        "deviation": normalizer.std.reshape(-1).tolist(),
    }
