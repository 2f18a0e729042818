"""Methods that learn from the finished unimodal runs: frozen teachers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from equipoise.methods.core.method import Method
from equipoise.methods.core.run import Run, StepContext
from equipoise.methods.unimodal import Unimodal
from equipoise.models import BalancedModel
from equipoise.models.multimodal import in_earlier_names
from equipoise.models.precision import widened
from equipoise.types import Batch, RunFolderError, UsageError


@dataclass(frozen=True)
class Lesson:
    """The teachers' outputs for a batch, without gradient.

    Attributes:
        batch: the batch.
        features: modality to `zT^m [B, d_m]`.
        logits: modality to `t^m [B, C]`.
    """

    batch: Batch
    features: dict[str, Tensor]
    logits: dict[str, Tensor]


@dataclass
class ReadsTeachers(Method):
    """A method with a teacher for each modality: the model of the finished run `unimodal:m`.

    Teachers are frozen, in evaluation mode, and get the same inputs as the student. They are neither in the
    optimiser nor in checkpoints; a checkpoint holds a digest of their weights, so that a run can only be
    resumed with the same teachers.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._teachers: dict[str, BalancedModel] = {}
        self._lesson: Lesson | None = None
        self._digest = ""

    def taught(self) -> bool:
        """Whether the options need teachers."""
        return True

    def parts(self, modalities: Sequence[str]) -> list[str]:
        """Return the unimodal runs."""
        return Unimodal.variants(modalities) if self.taught() else []

    def load_parts(self, model: BalancedModel, parts: Mapping[str, BalancedModel]) -> None:
        """Copy the unimodal models as teachers."""
        super().load_parts(model, parts)
        if self.taught():
            teachers = {m: deepcopy(parts[f"{Unimodal.name}:{m}"]) for m in model.modalities}
            self._teachers = {m: teacher.eval().requires_grad_(False) for m, teacher in teachers.items()}
            self._digest = _digest(self._teachers)

    def setup(self, run: Run) -> None:
        """Move the teachers to the run's device, and count their passes.

        Raises:
            UsageError: the unimodal models were not loaded.
        """
        super().setup(run)
        if self.taught() and not self._teachers:
            raise UsageError(
                f"the method {self.name!r} needs the models of the runs "
                f"{', '.join(self.parts(run.model.modalities))}; call load_parts before setup."
            )
        for modality, teacher in self._teachers.items():
            teacher.to(run.device)
            run.count_passes(teacher.encoder_module(modality))

    def lesson(self, context: StepContext) -> Lesson:
        """Return the teachers' outputs for the batch, computed once a step."""
        if self._lesson is None or self._lesson.batch is not context.batch:
            self._lesson = self.consult(context.batch, context.run)
        return self._lesson

    def consult(self, batch: Batch, run: Run) -> Lesson:
        """Pass a batch, on the run's device, through the teachers."""
        with torch.no_grad(), run.autocast():
            z = {m: teacher.encode(batch)[m] for m, teacher in self._teachers.items()}
            return Lesson(batch, z, {m: self._teachers[m].fuse({m: feature}) for m, feature in z.items()})

    def after_step(self, context: StepContext) -> None:
        """Free the outputs of the step."""
        super().after_step(context)
        self._lesson = None

    def state_dict(self) -> dict[str, Any]:
        """Add a digest of the teachers."""
        return {**super().state_dict(), "teachers": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that the teachers are those that the run was started with.

        Raises:
            RunFolderError: they differ.
        """
        super().load_state_dict(state)
        if state["teachers"] != self._digest:
            raise RunFolderError(
                "the unimodal runs that teach this run have changed since it was started; overwrite the run "
                "to start again."
            )


def feature_distance(z: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor:
    """Return `sum_m MSE(z^m, zT^m)` of features `[B, d_m]`, each the mean over samples and features."""
    errors = [F.mse_loss(widened(feature), widened(taught[m])) for m, feature in z.items()]
    return torch.stack(errors).sum()


def _digest(teachers: Mapping[str, BalancedModel]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for modality in sorted(teachers):
        teacher = teachers[modality]
        # Under the names of earlier versions, so that their interrupted runs can be resumed.
        for name, value in in_earlier_names(teacher, teacher.state_dict()).items():
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(f"{modality} {name}".encode() + content.numpy().tobytes())
    return digest.hexdigest()
