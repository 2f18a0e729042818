"""Weights of a run at the points of its trace, kept on disk until the test split has been opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from torch import nn

from equipoise.training.record import fingerprints
from equipoise.training.record.files import first_line, read_weights, weights_of, write_weights
from equipoise.training.record.record import SNAPSHOT_INDEX, SNAPSHOTS, RunRecord
from equipoise.types import RunFolderError

EPOCH, BEFORE, AFTER = "epoch", "before-relearning", "after-relearning"
MOMENTS: Final = (EPOCH, BEFORE, AFTER)


@dataclass(frozen=True)
class Snapshot:
    """The weights of a run at one point.

    Attributes:
        epoch: the epoch (0-based) that had ended.
        event: `epoch` for an evaluation point, else `before-relearning` or `after-relearning`.
        weights: digest of the weights and buffers; equal ones are stored once.
    """

    epoch: int
    event: str
    weights: str


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one run: files of weights, and an index in order of time.

    The index is one of the record's event files, so that resuming from a checkpoint truncates it with the
    others. Files that it no longer names are written again with the same bytes, or stay unused until all are
    removed.

    Attributes:
        record: of the run.
    """

    record: RunRecord

    def keep(self, model: nn.Module, epoch: int, event: str) -> None:
        """Write the model's weights and buffers as they are now.

        Raises:
            RunFolderError: they cannot be written.
        """
        weights = weights_of(model)  # of all processes, which may have parts of them
        if not self.record.writes:
            return
        snapshot = Snapshot(epoch, event, fingerprints.of_tensors(weights))
        path = self.record.path(self._file(snapshot))
        try:
            path.parent.mkdir(exist_ok=True)
            if not path.is_file():
                write_weights(path, weights)
            self.record.append(SNAPSHOT_INDEX, vars(snapshot))
        except Exception as error:  # safetensors raises kinds of its own
            raise RunFolderError(
                f"cannot write the snapshot {path} ({first_line(error)}); free disk space, or train without "
                "a trace."
            ) from None

    def all(self) -> list[Snapshot]:
        """Return the snapshots in order.

        Raises:
            RunFolderError: the index is damaged, or a file that it names is missing.
        """
        found = [Snapshot(**event) for event in self.record.events(SNAPSHOT_INDEX)]
        for snapshot in found:
            path = self.record.path(self._file(snapshot))
            if not path.is_file():
                raise RunFolderError(
                    f"the snapshot {path} of epoch {snapshot.epoch} is missing; overwrite the run to start "
                    "again."
                )
        return found

    def states(self, model: nn.Module) -> Iterator[tuple[Snapshot, bool]]:
        """Load the weights of one snapshot after the other into the model.

        Yields:
            The snapshot, and whether its weights differ from those of the one before; those of the first do.

        Raises:
            RunFolderError: a file is missing or damaged.
        """
        before = ""
        for snapshot in self.all():
            if changed := snapshot.weights != before:
                read_weights(self.record.path(self._file(snapshot)), model)
            before = snapshot.weights
            yield snapshot, changed

    @staticmethod
    def _file(snapshot: Snapshot) -> str:
        return f"{SNAPSHOTS}/{snapshot.weights}.safetensors"
