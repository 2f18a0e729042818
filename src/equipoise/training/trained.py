"""What a trained model can do, whether it comes from a run or from a folder that was passed on."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.models import BalancedModel
from equipoise.training.record.history import RecordedDiagnosis

if TYPE_CHECKING:
    import pandas as pd

    from equipoise.data import PreparedDataset
    from equipoise.training.export.export import Exported
    from equipoise.training.prediction.used_run import UsedRun


class TrainedModel(ABC):
    """A trained model, with what turns new samples into its inputs.

    Attributes:
        model: the model, in evaluation mode. For a numeric target it predicts the standardised value;
            `summary["target_scale"]` has mean and deviation.
        summary: the result of the run that trained it.
        diagnoses: those of the run, in order.
    """

    model: BalancedModel
    summary: dict[str, Any]
    diagnoses: list[RecordedDiagnosis]

    @abstractmethod
    def used(self) -> UsedRun:
        """Return the model with its inputs."""

    def predict(
        self,
        data: str | os.PathLike[str] | PreparedDataset | Mapping[str, Any] | None = None,
        *,
        source: str | os.PathLike[str] | None = None,
        split: str | None = None,
        without: str | Sequence[str] = (),
        batch_size: int | None = None,
        device: str = "auto",
        workers: int = 1,
    ) -> pd.DataFrame:
        """Predict samples, and say what each modality contributed to each prediction (`docs/predict.md`).

        The samples are normalised by the statistics of the run's training split, which are in its folder: the
        data that it was trained on are not needed.

        Args:
            data: name of a dataset, folder of a prepared one, or arrays `[N, ...]` by modality.
            source: raw files instead, in the layout of those that the training data were prepared from; they
                are read in the same way. Labels are not needed in a table.
            split: `train`, `val` or `test` of data that have splits, or of the run's own data. By default all
                samples. Whenever the run's own test split is read, its record notes that.
            without: modalities that are left out: the mean feature of the training split stands in for them.
            batch_size: by default that of the training.
            device: `auto`, `cpu`, `cuda` or `mps`.
            workers: processes that decode raw files.

        Returns:
            One row per sample, in order: `id`; `split` and `target` where they are known; `predicted`, the
            name of the class, the number in the target's units, or the labels joined by "; ". Classes have
            their probabilities `p:NAME` and `confidence`, that of the predicted one; labels have `p:NAME`.
            `contribution:MODALITY` is the Shapley value of a modality in `confidence` (in `predicted` for a
            number). The contributions add up to `confidence - confidence:none` (`predicted -
            predicted:none`), which is the value where all features are mean ones. There are none for labels.
            `.attrs["lost"]` says which raw samples could not be read.

        Raises:
            UsageError: neither or both of `data` and `source`, or an unknown name.
            DataError: the samples are not like those of the run; the message names the difference.
            ModelError: the model cannot do without a modality.
            RunFolderError: the run was made by a version that kept no statistics, and its data are gone.
        """
        from equipoise.training.prediction.predict import predict_of_run

        return predict_of_run(
            self.used(),
            data,
            source=source,
            split=split,
            without=without,
            batch_size=batch_size,
            device=device,
            workers=workers,
        )

    def export(self, path: str | os.PathLike[str], format: str | None = None) -> Exported:
        """Write the model in a format of others, after a comparison with it on validation (`docs/export.md`).

        Args:
            path: the file; one that exists is replaced.
            format: `safetensors`, `onnx` or `pt2`; by default the ending of the file says which.

        Returns:
            The file, the largest difference between its logits and those of the model, and on how many
            samples it was measured.

        Raises:
            UsageError: the format is unknown, or a package that it needs is missing.
            ModelError: the model cannot be exported, or differs by more than 1e-4; no file is written.
        """
        from equipoise.training.export.export import export_run, format_of

        return export_run(self.used(), path, format_of(Path(path), format))

    def save_pretrained(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a folder with the model and a model card, to pass on (`docs/export.md`).

        `equipoise.from_pretrained` reads it. It has weights and statistics (safetensors), a configuration
        (JSON) and the card (`README.md`), and names no path of this machine.

        Args:
            folder: a new or empty folder.
            overwrite: replace these files in a folder that is not empty.

        Returns:
            The folder.

        Raises:
            PathError: the folder is not empty.
            MissingExtraError: huggingface_hub is not installed.
        """
        from equipoise.training.export.folder import write_folder

        write_folder(self.used(), Path(folder), self.diagnoses, overwrite=overwrite)
        return Path(folder)
