"""Weights of a run at the points of its trace, kept on disk until the test split has been opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from equipoise.distributed import load_whole
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line, parse_json, parsing
from equipoise.models.multimodal import in_present_names
from equipoise.training.record import fingerprints
from equipoise.training.record.files import read_tensors, weights_of, write_weights
from equipoise.training.record.record import SNAPSHOT_INDEX, SNAPSHOTS, RunRecord
from equipoise.types import NoSpaceError, RunFolderError

EPOCH, BEFORE, AFTER = "epoch", "before-relearning", "after-relearning"
MOMENTS: Final = (EPOCH, BEFORE, AFTER)
DIGEST: Final = re.compile("[0-9a-f]{16,128}")


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

    def __post_init__(self) -> None:
        """Check the digest, which names a file.

        Raises:
            ValueError: it is none, as in a damaged index.
        """
        if not (isinstance(self.weights, str) and DIGEST.fullmatch(self.weights)):
            raise ValueError(f"it has {repr(self.weights)[:80]} for 'weights', expected a digest")


@dataclass(frozen=True)
class Snapshots:
    """The snapshots of one run: files of weights, and an index in order of time.

    The index is one of the record's event files, so that resuming from a checkpoint truncates it with the
    others; files that it no longer names are then removed. The digest that names a file is checked when it is
    read.

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
        except NoSpaceError as error:
            raise NoSpaceError(f"{error} A run without a trace needs no snapshots.") from None
        except Exception as error:  # safetensors raises kinds of its own
            check_machine(error)
            raise RunFolderError(
                f"cannot write the snapshot {path} ({first_line(error)}); train without a trace, or choose "
                "another folder."
            ) from None

    def all(self) -> list[Snapshot]:
        """Return the snapshots in order.

        Raises:
            RunFolderError: the index is damaged.
        """
        with parsing(self._refuse):
            return [Snapshot(**event) for event in self.record.events(SNAPSHOT_INDEX)]

    def check(self, size: int) -> None:
        """Check the snapshots that the first bytes of the index name; better now than after the training.

        Raises:
            RunFolderError: a file is missing or damaged.
        """
        path = self.record.path(SNAPSHOT_INDEX)
        lines = path.read_bytes()[:size].splitlines() if size else []
        with parsing(self._refuse):
            named = [Snapshot(**parse_json(line.decode("utf-8"))) for line in lines]
        found = {snapshot.weights: snapshot for snapshot in named}
        for snapshot in found.values():
            self._read(snapshot)

    def drop_unnamed(self) -> None:
        """Remove the files that the index does not name, as damaged ones must not stand for new ones."""
        named = {Path(self._file(snapshot)).name for snapshot in self.all()}
        for path in self.record.path(SNAPSHOTS).glob("*.safetensors"):
            if path.name not in named:
                path.unlink()

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
                try:
                    load_whole(model, in_present_names(model, self._read(snapshot)))
                except RunFolderError as error:
                    raise RunFolderError(f"{error}; overwrite the run to start again.") from None
            before = snapshot.weights
            yield snapshot, changed

    def _read(self, snapshot: Snapshot) -> dict[str, Tensor]:
        path = self.record.path(self._file(snapshot))
        what = f"the snapshot {path} of epoch {snapshot.epoch}"
        if not path.is_file():
            raise RunFolderError(f"{what} is missing")
        try:
            weights = read_tensors(path)
        except RunFolderError:
            raise RunFolderError(f"{what} is damaged") from None
        if fingerprints.of_tensors(weights) != snapshot.weights:
            raise RunFolderError(f"{what} is damaged")
        return weights

    def _refuse(self, found: str) -> RunFolderError:
        return RunFolderError(f"{self.record.path(SNAPSHOT_INDEX)} is damaged ({found})")

    @staticmethod
    def _file(snapshot: Snapshot) -> str:
        return f"{SNAPSHOTS}/{snapshot.weights}.safetensors"
