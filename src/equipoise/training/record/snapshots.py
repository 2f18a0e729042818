"""Weights of a run at the moments of its trace, kept on disk until the test split has been opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from safetensors.torch import load_file, save_file
from torch import nn

from equipoise.training.record import fingerprints
from equipoise.training.record.record import SNAPSHOT_INDEX, SNAPSHOTS, RunRecord
from equipoise.types import RunFolderError

EPOCH, BEFORE, AFTER = "epoch", "before-relearning", "after-relearning"
MOMENTS: Final = (EPOCH, BEFORE, AFTER)


@dataclass(frozen=True)
class Snapshot:
    """One moment of a run.

    Attributes:
        epoch: the epoch (0-based) that had ended.
        event: `epoch` for a look, else `before-relearning` or `after-relearning`.
        weights: digest of the weights and buffers; equal ones are stored once.
    """

    epoch: int
    event: str
    weights: str


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one run: files of weights, and an index in the order of the moments.

    The index is one of the record's event files: going on from a checkpoint cuts it back with the others.
    Files that it does not name any more are written anew, byte for byte, or lie unused until all are removed.

    Attributes:
        record: of the run.
    """

    record: RunRecord

    def keep(self, model: nn.Module, epoch: int, event: str) -> None:
        """Write the model's weights and buffers as they are now.

        Raises:
            RunFolderError: they cannot be written.
        """
        # Clones, because tensors that share memory (tied weights) cannot be written otherwise.
        state = {name: v.detach().cpu().contiguous().clone() for name, v in model.state_dict().items()}
        snapshot = Snapshot(epoch, event, fingerprints.of_tensors(state))
        path = self.record.path(self._file(snapshot))
        partial = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            if not path.is_file():
                save_file(state, partial)
                partial.replace(path)
            self.record.append(SNAPSHOT_INDEX, vars(snapshot))
        except Exception as error:  # safetensors has kinds of its own
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunFolderError(
                f"cannot write the snapshot {path} ({line}); give it room, or train without a trace."
            ) from None

    def all(self) -> list[Snapshot]:
        """Return the snapshots in order.

        Raises:
            RunFolderError: the index is damaged, or a file that it names is gone.
        """
        found = [Snapshot(**event) for event in self.record.events(SNAPSHOT_INDEX)]
        for snapshot in found:
            path = self.record.path(self._file(snapshot))
            if not path.is_file():
                raise RunFolderError(
                    f"the snapshot {path} of epoch {snapshot.epoch} is gone; overwrite the run to start "
                    "again."
                )
        return found

    def states(self, model: nn.Module) -> Iterator[tuple[Snapshot, bool]]:
        """Put the weights of one snapshot after the other into the model, and name it.

        Yields:
            The snapshot, and whether its weights differ from those of the one before; those of the first do.

        Raises:
            RunFolderError: a file is gone or damaged.
        """
        before = ""
        for snapshot in self.all():
            if changed := snapshot.weights != before:
                path = self.record.path(self._file(snapshot))
                try:
                    model.load_state_dict(load_file(path))
                except Exception as error:  # safetensors and torch raise kinds of their own
                    line = (str(error).splitlines() or [type(error).__name__])[0]
                    raise RunFolderError(
                        f"cannot read {path}: {line}. Overwrite the run to start again."
                    ) from None
            before = snapshot.weights
            yield snapshot, changed

    @staticmethod
    def _file(snapshot: Snapshot) -> str:
        return f"{SNAPSHOTS}/{snapshot.weights}.safetensors"
