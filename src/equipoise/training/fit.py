"""Train one model by one method, and open the test split once, at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Unpack

from equipoise.diagnosis.features.capture import encoders_of
from equipoise.distributed import agreed, by_first, process_rank
from equipoise.files.limits import machine_limits
from equipoise.files.whole import room_for
from equipoise.keywords import FitKeywords
from equipoise.methods import Method, create_method
from equipoise.methods.core.creation import option_names
from equipoise.randomness import isolated_rng
from equipoise.tracking.services import Place, check_services
from equipoise.training.assembly import ModelSpec, build_for, build_reference, check_tokens, prepare_data
from equipoise.training.fabric import check_device
from equipoise.training.finished import FitResult, load_run
from equipoise.training.handle import OnEpoch
from equipoise.training.loop import Training
from equipoise.training.loss_scaling import check_scaling
from equipoise.training.measuring.precision import with_precision
from equipoise.training.option_text import to_options
from equipoise.training.processes.group import arranged, joined
from equipoise.training.processes.launch import launch
from equipoise.training.processes.sharding import check_sharding
from equipoise.training.record import fingerprints
from equipoise.training.record.names import run_name
from equipoise.training.record.record import (
    CONFIG,
    FLOORS,
    RunRecord,
)
from equipoise.training.record.tracked import RunTrackers
from equipoise.training.result import PreparedRun
from equipoise.training.settings import SETTING_NAMES, Settings, data_name
from equipoise.typed_options import check_keywords
from equipoise.types import warn


def fit(
    data: str | os.PathLike[str],
    method: str = "joint",
    *,
    method_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    epochs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    devices: int | None = None,
    nodes: int | None = None,
    shard: bool = False,
    on_epoch: OnEpoch | None = None,
    **options: Unpack[FitKeywords],
) -> FitResult:
    """Train one model by one method on one dataset.

    Args:
        data: name of a dataset, or folder of a prepared one.
        method: name of the method (`equipoise list methods`).
        method_options: options of the method.
        seed: decides initial weights and the order of batches.
        epochs: passes over the training split; by default those of the recipe.
        out: run folder; None writes into a new temporary folder.
        resume: continue the run in `out`; a finished one is read.
        overwrite: replace the run in `out`.
        devices: processes that share the run on this machine, each with its device; None is one, or as many
            as torchrun, SLURM or the like has started.
        nodes: machines of the run.
        shard: divide the weights of each encoder over the processes.
        on_epoch: called with the epoch and its validation figures.
        **options: fields of `Settings` and `Budget`, for instance `lr=0.01` or `encoder={"audio": "mlp"}`.

    Raises:
        EquipoiseError: its kind tells a wrong call from wrong data or a wrong run folder.
    """
    own = {name: f"method_options={{{name!r}: ...}}" for name in option_names(method)}
    own |= {"strategy": "devices=N, whose processes share batches, and shard=True, which divides encoders"}
    check_keywords(fit, options, SETTING_NAMES, own)
    settings = Settings.from_options(
        data_name(data),
        method=method,
        method_options={} if method_options is None else method_options,
        seed=seed,
        **({} if epochs is None else {"epochs": epochs}),
        **options,
    )
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="equipoise-")) / "run"
    return run(
        settings,
        folder,
        resume=resume,
        overwrite=overwrite,
        on_epoch=on_epoch,
        devices=devices,
        nodes=nodes,
        shard=shard,
    )


def run(
    settings: Settings,
    folder: Path,
    *,
    devices: int | None = None,
    nodes: int | None = None,
    on_epoch: OnEpoch | None = None,
    **how: Any,
) -> FitResult:
    """Train as the settings say, with the record in `folder`; see `fit`, and `prepared` for `how`."""
    check_device(settings.device, settings.budget.precision)
    check_services(settings.logger)
    arrangement = arranged(devices, nodes, settings.device)
    if arrangement.count > 1 and not arrangement.started:
        create_method(settings.method, settings.method_options)  # raises before anything is started
        launch(to_options(settings), folder, arrangement, on_epoch, how)
        return load_run(folder)
    with room_for(folder), joined(arrangement, settings.device), machine_limits():
        folder = agreed(folder)  # each process may have chosen a new one
        with prepared(settings, folder, on_epoch=on_epoch, **how) as found:
            if found is not None:
                found.start()
                with isolated_rng():
                    found.training.fit()
                    found.finish()
            agreed(None)  # the result is there for all processes
        return load_run(folder)


@contextmanager
def prepared(
    settings: Settings,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: OnEpoch | None = None,
    shard: bool = False,
    parts_folder: Path | None = None,
    is_part: bool = False,
    floors: Path | None = None,
    part_settings: Mapping[str, Settings] | None = None,
    closed_test: bool = False,
    group: Path | None = None,
) -> Iterator[PreparedRun | None]:
    """Yield a run that is ready to be trained, whose folder is locked meanwhile; None if it is finished.

    `parts_folder` is that of the finished runs that the method builds on, by default the subfolder `parts`,
    where they are trained. With `is_part` another run builds on this one: it waits where a process is already
    computing it. `floors` is the folder in which runs on the same data share their floor. `part_settings` are
    those of parts, by name, that are trained in other ways than this run. With `closed_test` neither the run
    nor a part can open the test split, and their results have no test figures. `group` is the folder of the
    comparison that the run belongs to. For the other arguments see `fit`.
    """
    check_device(settings.device, settings.budget.precision)
    check_services(settings.logger)
    method = create_method(settings.method, settings.method_options)
    first = process_rank() == 0
    trackers = _trackers_of(settings, folder, group) if first and settings.logger else None
    record = RunRecord(folder, first, trackers)
    begun = resume and record.path(CONFIG).is_file()
    settings = with_precision(settings, by_first(lambda: record.options() if begun else {}))
    dataset, data = prepare_data(settings)
    if closed_test:
        data.close_test()
    spec = ModelSpec.of(dataset)
    reference = build_reference(settings, spec)
    by_first(lambda: check_tokens(reference, dataset))
    initial = fingerprints.of_encoders(encoders_of(reference))
    method.check(reference)
    check_scaling(method, settings.budget)
    model = build_for(method, settings, reference)
    if shard:
        check_sharding(settings, method, model)
    for problem in method.problems(settings.budget):
        warn(problem)
    options = to_options(settings)
    with ExitStack() as held:
        opened = record.opened(options, resume=resume, overwrite=overwrite, wait=is_part)
        by_first(lambda: held.enter_context(opened))
        if agreed(record.complete):
            # The data may have changed since the run.
            record.check_data(fingerprints.of_data(data) | fingerprints.of_weights(settings))
            record.tidy()
            yield None
            return
        within = parts_folder or folder / "parts"
        floors = floors or (folder / FLOORS if method.parts(tuple(initial)) else None)
        planned = _parts_of(method, settings, tuple(initial), part_settings or {})
        parts = _finished_parts(planned, within, floors, group or folder, closed_test=closed_test)
        method.load_parts(model, {name: part.model for name, part in parts.items()})
        training = Training(
            settings, data, model, method, record, on_epoch, joint_encoders=len(initial), shard=shard
        )
        if not parts:  # a model built on finished runs starts from their weights
            initial |= fingerprints.of_encoders(encoders_of(model))
        if trackers is not None:
            held.enter_context(trackers)
        results = {name: {**part.summary, "run_dir": str(part.run_dir)} for name, part in parts.items()}
        yield PreparedRun(training, data, spec, results, initial, floors)


def _trackers_of(settings: Settings, folder: Path, group: Path | None) -> RunTrackers:
    place = Place(folder, group or folder, to_options(settings))
    return RunTrackers(settings.logger or (), place)


def _parts_of(
    method: Method, settings: Settings, modalities: tuple[str, ...], others: Mapping[str, Settings]
) -> dict[str, Settings]:
    names = method.parts(modalities)
    return {name: others.get(name) or settings.with_method(name, {}, settings.seed) for name in names}


def _finished_parts(
    planned: Mapping[str, Settings], folder: Path, floors: Path | None, group: Path, *, closed_test: bool
) -> dict[str, FitResult]:
    return {
        name: run(
            own,
            folder / run_name(name, own.seed),
            resume=True,
            is_part=True,
            floors=floors,
            group=group,
            closed_test=closed_test,
        )
        for name, own in planned.items()
    }
