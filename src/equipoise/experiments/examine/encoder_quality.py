"""The quality of each encoder of a finished run by itself (Wei et al., ECCV 2024, Figure 1b and c)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from equipoise.data import RunData
from equipoise.decimals import fixed
from equipoise.experiments.examine.new_classifiers import Classifier, FineTuned, Probe, trained
from equipoise.experiments.examine.run_data import open_run
from equipoise.files.untrusted import read_json
from equipoise.files.whole import write_atomically
from equipoise.tasks import CLASSIFICATION
from equipoise.training.finished import FitResult, load_run
from equipoise.training.fit import run
from equipoise.training.option_text import to_options
from equipoise.training.record import fingerprints
from equipoise.training.record.locks import locked
from equipoise.training.record.names import run_name
from equipoise.training.record.record import RunRecord
from equipoise.training.settings import Settings
from equipoise.types import ByName, NoSpaceError, RunFolderError, UsageError

if TYPE_CHECKING:
    import pandas as pd

FOLDER: Final = "encoder-quality"
FILE: Final = "encoder_quality.json"
FORMAT: Final = 1


@dataclass(frozen=True)
class EncoderState:
    """Accuracies of one modality by itself, on validation.

    Attributes:
        probe: of a new linear classifier on the run's encoder, which stays as it is.
        fine_tuned: of a new linear classifier that is trained together with the run's encoder; None unless
            it was requested.
        alone: of the modality trained alone, with the settings and the seed of the run.
        chance: of always predicting the most frequent class of the training split.
        test: `probe`, `fine_tuned` and `alone` on the test split, if requested.
    """

    probe: float
    fine_tuned: float | None
    alone: float
    chance: float
    test: Mapping[str, float] | None = None


@dataclass(frozen=True)
class EncoderQuality(ByName[EncoderState]):
    """The quality of all encoders of a run, by modality.

    Attributes:
        states: modality name to state.
        epochs: for which the new classifiers were trained.
        seed: of the run.
        score: validation accuracy of the run itself, with all its modalities.
    """

    states: Mapping[str, EncoderState]
    epochs: int
    seed: int
    score: float

    def _entries(self) -> Mapping[str, EncoderState]:
        return self.states

    def to_frame(self) -> pd.DataFrame:
        """Return one row a modality; the accuracies on test, if any, as `test_probe` and so on."""
        import pandas as pd

        rows = []
        for name, state in self.items():
            row = {"modality": name, **{key: value for key, value in asdict(state).items() if key != "test"}}
            rows.append(row | {f"test_{key}": value for key, value in (state.test or {}).items()})
        return pd.DataFrame(rows).set_index("modality")

    def to_dict(self) -> dict[str, Any]:
        """Return the quality as plain values, for JSON."""
        return asdict(self) | {"states": {name: asdict(state) for name, state in self.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncoderQuality:
        """Read what `to_dict` gave."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(**known | {"states": {name: EncoderState(**own) for name, own in known["states"].items()}})

    def __str__(self) -> str:
        frame = self.to_frame().dropna(axis="columns", how="all")
        table = frame.to_string(float_format=fixed)
        return f"accuracy of each encoder by itself, on validation\n{table}"


def encoder_quality(
    run_dir: str | os.PathLike[str],
    *,
    fine_tune: bool = True,
    test: bool = False,
    epochs: int | None = None,
) -> EncoderQuality:
    """Measure how good each encoder of a finished run is by itself.

    Each encoder gets a new linear classifier, which is trained on the frozen encoder and together with it.
    The modality is also trained alone, by the method `unimodal`, unless a finished run of it exists beside
    this one. All use the settings and the seed of the run, and keep the weights of the epoch that is best on
    validation.

    The trained models are kept in `RUN_DIR/encoder-quality` and reused. The figures are kept in
    `RUN_DIR/encoder_quality.json`; a second call reads them.

    Args:
        run_dir: folder of a finished run.
        fine_tune: whether to train encoder and classifier together, too.
        test: whether to measure on the test split as well; the record of each classifier then has an event
            `test`.
        epochs: for the new classifiers; by default as many as the run had. The modality alone always has as
            many as the run.

    Raises:
        RunFolderError: there is no finished run, or the data have changed since.
        UsageError: less than one epoch, or a run whose target is no class.
    """
    if epochs is not None and epochs < 1:
        raise UsageError(f"epochs is {epochs}; expected at least 1.")
    result, settings, data = open_run(run_dir)
    if data.task != CLASSIFICATION.name:
        raise UsageError(
            f"the quality of encoders is measured in accuracy, and the run in {run_dir} is {data.task}; its "
            "record has a probe of each encoder (probes), and equipoise.diagnose_run measures their features."
        )
    budget = replace(settings.budget, epochs=epochs or settings.budget.epochs)
    if budget.warmup_epochs >= budget.epochs:
        budget = replace(budget, warmup_epochs=0)
    work = _Work(result, settings, replace(settings, budget=budget, diagnose_every=0, trace=False), data)
    with locked(work.folder, wait=True):
        held = _read(work)
        if held is None or not _suffices(held, fine_tune, test):
            held = work.measure(fine_tune, test)
            content = {"format": FORMAT, "identity": work.identity, **held.to_dict()}
            write_atomically(result.run_dir / FILE, json.dumps(content, indent=2) + "\n")
    return held


@dataclass(frozen=True)
class _Work:
    """What is to be trained for one run."""

    result: FitResult
    settings: Settings
    of_classifiers: Settings
    data: RunData

    @property
    def folder(self) -> Path:
        return self.result.run_dir / FOLDER

    @property
    def identity(self) -> dict[str, Any]:
        """Fingerprints of everything that the figures depend on."""
        model = self.result.model
        summary = self.result.summary
        return {
            "encoders": fingerprints.of_encoders({m: model.encoder_module(m) for m in model.modalities}),
            "budget": fingerprints.of_budget(self.of_classifiers.budget),
            **{key: summary[key] for key in ("data_fingerprint", "split_fingerprint", "seed")},
        }

    @cached_property
    def test(self) -> Any:
        """The test split, opened when it is first needed."""
        return self.data.open_test()

    def measure(self, fine_tune: bool, test: bool) -> EncoderQuality:
        kinds: list[type[Classifier]] = [Probe, FineTuned] if fine_tune else [Probe]
        states = {}
        for m in self.result.model.modalities:
            found = {
                kind.figure: trained(
                    kind(m),
                    self.result,
                    self.of_classifiers,
                    self.data,
                    self.folder / run_name(f"{kind.name}:{m}", self.settings.seed),
                    (lambda: self.test) if test else None,
                )
                for kind in kinds
            }
            found["alone"] = self._alone(m).summary
            val = {key: result["validation"]["accuracy"] for key, result in found.items()}
            tested = {key: result["test"]["accuracy"] for key, result in found.items()} if test else None
            states[m] = EncoderState(**{"fine_tuned": None} | val, chance=self._chance(), test=tested)
        epochs, seed = self.of_classifiers.budget.epochs, self.settings.seed
        return EncoderQuality(states, epochs, seed, self.result.validation["accuracy"])

    def _alone(self, modality: str) -> FitResult:
        """Return the run of the modality alone: an existing one, or a new one."""
        method = f"unimodal:{modality}"
        settings = self.settings.with_method(method, {}, self.settings.seed)
        name, run_dir = run_name(method, self.settings.seed), self.result.run_dir
        for folder in (run_dir, run_dir / "parts" / name, run_dir.parent / name):
            record = RunRecord(folder)
            if record.complete and self._is_same(record, settings):
                return load_run(folder)
        own = self.folder / name
        try:
            return run(settings, own, resume=True, is_part=True)
        except NoSpaceError:  # there is room another time, and the run then goes on
            raise
        except RunFolderError:  # the folder holds the part of an earlier run
            return run(settings, own, overwrite=True, is_part=True)

    def _is_same(self, record: RunRecord, settings: Settings) -> bool:
        keys = ("data_fingerprint", "split_fingerprint")
        try:
            record.check_same(to_options(settings))
            record.check_data({key: self.result.summary[key] for key in keys})
        except RunFolderError:
            return False
        return True

    def _chance(self) -> float:
        val = np.concatenate([batch.target.numpy() for batch in self.data.val])
        return float(np.mean(val == int(np.bincount(self.data.train_samples.target.numpy()).argmax())))


def _read(work: _Work) -> EncoderQuality | None:
    """Return the figures of an earlier call, unless they are of other encoders or settings."""
    path = work.result.run_dir / FILE
    try:
        held = read_json(path, RunFolderError)
        fits = held["format"] == FORMAT and held["identity"] == work.identity
        return EncoderQuality.from_dict(held) if fits else None
    except FileNotFoundError:
        return None
    except (RunFolderError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged: the trained models are still there and are measured again


def _suffices(held: EncoderQuality, fine_tune: bool, test: bool) -> bool:
    wanted = {"probe", "alone"} | ({"fine_tuned"} if fine_tune else set())
    return all(
        (state.fine_tuned is not None or not fine_tune) and (not test or wanted <= set(state.test or {}))
        for state in held.values()
    )
