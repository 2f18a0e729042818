"""The datasets of the items: those of the paper, and what stands in for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from equipoise.cache import DESCRIPTION_FILE
from equipoise.data import load_dataset
from equipoise.data.datasets import DATASETS
from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.prepare.engine import prepare
from equipoise.experiments.paper.noise import made_from, noisy
from equipoise.types import PathError

Waiting = Callable[[str], AbstractContextManager[Any]]
"""Shows what is being done while a block runs."""


@dataclass(frozen=True, kw_only=True)
class PaperSet:
    """A dataset as the items use it.

    Attributes:
        title: its name in titles and tables.
        settings: options of `Settings` and `Budget` on it.
        files: of a stand-in, the archives that it is prepared from; one without any needs no folder.
        quick_epochs: epochs of a quick reproduction.
    """

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[str] = ()
    quick_epochs: int = 15


ORIGINAL: Final = {"recipe": "paper"}
"""The paper's training; its re-learnings after epochs 20, 40 and 60 are the default of the method."""
_RESNET: Final = {**ORIGINAL, "encoder": "resnet18"}

PAPER: Final = {
    "cremad": PaperSet(title="CREMA-D", settings=_RESNET),
    "kinetics-sounds": PaperSet(title="Kinetics-Sounds", settings={**_RESNET, "lr": 1e-3}),
    "ucf101": PaperSet(title="UCF-101", settings=_RESNET),
    "cmu-mosi": PaperSet(title="CMU-MOSI", settings=ORIGINAL),
}
_MNIST: Final = ("images-idx3-ubyte", "labels-idx1-ubyte")
STAND_INS: Final = {
    "htad": PaperSet(title="HTAD", quick_epochs=30),
    "avletters": PaperSet(title="AVLetters", files=("avletters.npz",)),
    "egogestar": PaperSet(title="EgoGestAR", files=("egogestar_video_25x60x80.npz",)),
    "cmu-mosi": PaperSet(title="MOSI audio and raw text", files=("mosi_utt.npz",), quick_epochs=10),
    "phone-watch": PaperSet(title="phone and watch", files=("sp_sw_har_1s_windows.npz",), quick_epochs=10),
    "fsdd-mnist": PaperSet(title="FSDD + MNIST", files=("fsdd.npz", *(f"t10k-{kind}.gz" for kind in _MNIST))),
}
"""Those at hand; they train by the recipe of their encoders."""


@dataclass(frozen=True)
class Sources:
    """Where the sets of a reproduction come from.

    Attributes:
        root: folder of prepared sets of the paper, or of the archives of stand-ins; None where only those
            that need none are used.
        stand_in: whether it is the latter.
        folder: where stand-ins and sets with noise are prepared.
        workers: processes that decode.
        waiting: shows what is being prepared.
    """

    root: Path | None
    stand_in: bool
    folder: Path
    workers: int | None
    waiting: Waiting

    def check(self, names: Sequence[str], item: str) -> None:
        """Check before any work that all sets are there; without a root none needs a file.

        Raises:
            PathError: a folder or archive is missing.
        """
        option, root = "--stand-in DIR" if self.stand_in else "--data-root DIR", self.root
        if root is None:
            return
        if not root.is_dir():
            raise PathError(f"{root} is no folder; expected that of the data: {option}.")
        for name in names:
            if not self.stand_in and not (root / name / DESCRIPTION_FILE).is_file():
                raise PathError(
                    f"{root / name} holds no prepared dataset, and {item} needs {PAPER[name].title}; "
                    f"expected what 'equipoise prepare {name} --out {root / name}' writes."
                )
            files = STAND_INS[name].files if self.stand_in else ()
            if missing := [file for file in files if not (root / file).is_file()]:
                raise PathError(
                    f"{root} lacks {' and '.join(missing)}, and {item} needs {STAND_INS[name].title}; "
                    f"expected a folder with {' and '.join(files)}: {option}."
                )

    def data(self, name: str, noise: Mapping[str, float], *, redrawn: bool = False) -> str:
        """Return the name or folder of a set, prepared if it is not yet, with noise on some modalities.

        The noise is a part of the data, or `redrawn` in each epoch of training.
        """
        place = self._prepared(name)
        if not noise:
            return place
        levels = "-".join(f"{modality}-{level:g}" for modality, level in noise.items())
        folder = self.folder / f"{name}-{'redrawn-' if redrawn else ''}noise-{levels}"
        clean = load_dataset(place)
        # A set with noise that was made from an earlier preparation is made anew.
        if not (folder / DESCRIPTION_FILE).is_file() or made_from(folder) != clean.fingerprint:
            noisy(clean, noise, folder, redrawn=redrawn)
        return str(folder.resolve())

    def at_hand(self, name: str) -> bool:
        """Whether there is a folder for the files of a set, or it needs none."""
        return self.root is not None or not STAND_INS[name].files

    def _prepared(self, name: str) -> str:
        root = self.root or Path()
        if not self.stand_in:
            return str((root / name).resolve())
        kind, wanted = DATASETS[name], STAND_INS[name]
        if not issubclass(kind, SourceDataset):
            return name
        folder = self.folder / name
        if not (folder / DESCRIPTION_FILE).is_file():
            with self.waiting(f"preparing {wanted.title}"):
                source = root / wanted.files[0] if len(wanted.files) == 1 else root
                prepare(kind().planned(source), folder, workers=self.workers, isolated=True)
        return str(folder.resolve())
