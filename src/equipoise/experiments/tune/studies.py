"""The trials of a method as a study of Optuna, in a database that several machines may share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from equipoise.experiments.compare.tuned import TunedMethod
from equipoise.experiments.tune.spaces import separated
from equipoise.experiments.tune.tuning import Tuning
from equipoise.files.extras import needing
from equipoise.files.limits import check_machine
from equipoise.files.untrusted import first_line
from equipoise.files.whole import no_space
from equipoise.methods.core.search import Choice, LogUniform, Range, Whole
from equipoise.randomness import derive_seed
from equipoise.types import TrainingError, UsageError

with needing("optuna", "tune", "tuning"):
    import optuna

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

RANDOM: Final = 5
"""First trials of a method, which are drawn at random; so many must be finished before one is pruned."""
CHECKS: Final = 8
"""A trial may be pruned after four, five, six and seven of so many parts of its epochs. At every epoch nearly
any trial would once be below the median; and methods with cycles have theirs at different epochs."""
CAUSE: Final = "cause"
OWNER: Final = "owner"
GIVEN_BACK: Final = "given back"
SECONDS: Final = 60
"""How long a process waits for another one that is writing into a file of SQLite."""
State = optuna.trial.TrialState
Pruned = optuna.TrialPruned


class TrialSampler(optuna.samplers.BaseSampler):
    """The tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), seeded for each trial.

    The first trial has the defaults. What is drawn for a trial depends on its place and on the trials before
    it alone, so that a resumed study goes on as it would have done without an interruption.
    """

    def __init__(self, tuning: Tuning, method: str) -> None:
        self._defaults = tuning.defaults(method)
        self._seed = (tuning.seeds[0], "tune", method)
        self._shared = tuning.shared
        self._place = 0
        self._inner = self._sampler()

    def _sampler(self) -> optuna.samplers.TPESampler:
        seed = derive_seed(*self._seed, self._place) % 2**32
        return optuna.samplers.TPESampler(n_startup_trials=RANDOM, constant_liar=self._shared, seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Seed the estimator."""
        self._place = place_of(trial.number, study.get_trials(deepcopy=False))
        self._inner = self._sampler()
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is drawn together."""
        return self._inner.infer_relative_search_space(study, trial) if self._place else {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw what is drawn together."""
        return self._inner.sample_relative(study, trial, search_space) if self._place else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw one value; for the first trial it is the default."""
        if not self._place:
            return self._defaults[param_name]
        return self._inner.sample_independent(study, trial, param_name, param_distribution)


@cache
def storage_at(url: str) -> optuna.storages.RDBStorage:
    """Return a database, to which a process connects once."""
    waits = {"connect_args": {"timeout": SECONDS}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=waits)


def open_study(tuning: Tuning, method: str) -> optuna.Study:
    """Return the study of a method, a new one where there is none.

    Raises:
        NoSpaceError: there is no room for it.
        UsageError: the database cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # only the command line prints
    epochs = tuning.settings.budget.epochs * len(tuning.seeds)
    try:
        return optuna.create_study(
            storage=storage_at(tuning.storage),
            study_name=tuning.study_name(method),
            direction="minimize" if tuning.less_is_better else "maximize",
            sampler=TrialSampler(tuning, method),
            pruner=optuna.pruners.MedianPruner(
                RANDOM, n_warmup_steps=epochs // 2, interval_steps=max(1, epochs // CHECKS)
            ),
            load_if_exists=True,
        )
    except Exception as error:  # those of every database driver
        check_machine(error)
        if (full := no_space(error, tuning.database)) is not None:
            raise full from None
        raise UsageError(
            f"cannot open the database of the trials ({first_line(error)}); expected a URL of a database "
            "that can be reached and whose driver is installed: --storage URL."
        ) from None


def suggest(trial: optuna.Trial, space: Mapping[str, Range]) -> dict[str, Any]:
    """Let Optuna choose a value from every range."""
    return {name: _suggested(trial, name, allowed) for name, allowed in space.items()}


def _suggested(trial: optuna.Trial, name: str, allowed: Range) -> Any:
    if isinstance(allowed, Choice):
        return trial.suggest_categorical(name, list(allowed.values))
    if isinstance(allowed, Whole):
        return trial.suggest_int(name, allowed.low, allowed.high)
    return trial.suggest_float(name, allowed.low, allowed.high, log=isinstance(allowed, LogUniform))


def is_lost(trial: FrozenTrial) -> bool:
    """Whether the process of a trial ended before the trial did; it is repeated, and does not count."""
    return trial.state == State.FAIL and CAUSE not in trial.user_attrs


def place_of(number: int, trials: list[FrozenTrial]) -> int:
    """Return the place of a trial among those that count."""
    return sum(trial.number < number and not is_lost(trial) for trial in trials)


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count, also those in progress."""
    return [trial for trial in study.get_trials(deepcopy=False) if not is_lost(trial)]


def give_up_lost(study: optuna.Study, tuning: Tuning) -> None:
    """Mark the trials that processes of this folder left when they were killed.

    The caller holds the folder's lock, so none of these processes is still alive.
    """
    for trial in _left(study, tuning):
        study.tell(trial.number, state=State.FAIL)


def give_back(study: optuna.Study, tuning: Tuning) -> None:
    """Mark the trials of this folder that were ended because there is no room, or by the user.

    They are repeated as lost ones are, and their process is not taken to be the cause.
    """
    for trial in _left(study, tuning):
        study.set_user_attr(f"{GIVEN_BACK} {trial.number}", value=True)
        study.tell(trial.number, state=State.FAIL)


def _left(study: optuna.Study, tuning: Tuning) -> list[FrozenTrial]:
    """Return the trials of this folder that are in progress."""
    return [
        trial
        for trial in counted(study)
        if trial.state == State.RUNNING and (trial.user_attrs.get(OWNER) == tuning.owner or not tuning.shared)
    ]


def losses_before(study: optuna.Study, number: int) -> int:
    """Return how many trials in a row were lost right before one, because their process has ended."""
    back = study.user_attrs
    lost = {
        trial.number
        for trial in study.get_trials(deepcopy=False)
        if is_lost(trial) and f"{GIVEN_BACK} {trial.number}" not in back
    }
    return next(back for back in range(number + 1) if number - 1 - back not in lost)


def result_of(study: optuna.Study, tuning: Tuning, method: str) -> TunedMethod:
    """Return what the trials of a method found.

    Raises:
        TrainingError: some are still in progress, on other machines.
    """
    trials = counted(study)[: tuning.trials]
    if open_trials := [trial for trial in trials if not trial.state.is_finished()]:
        raise TrainingError(
            f"{len(open_trials)} of the trials of {method} are in progress elsewhere; read them with "
            "--resume when they have ended."
        )
    causes = {
        place: str(trial.user_attrs[CAUSE]) for place, trial in enumerate(trials) if CAUSE in trial.user_attrs
    }
    finished = {
        place: trial for place, trial in enumerate(trials) if trial.state == State.COMPLETE and trial.values
    }
    figures = {place: float(trial.values[0]) for place, trial in finished.items()}
    best = (min if tuning.less_is_better else max)(figures, key=figures.__getitem__, default=None)
    chosen, options = separated(finished[best].params if best is not None else {})
    return TunedMethod(
        finished=len(finished),
        pruned=len(trials) - len(finished) - len(causes),
        failed=len(causes),
        default=figures.get(0),
        best=None if best is None else figures[best],
        trial=best,
        chosen=chosen,
        options={**tuning.fixed(method), **options},
        searched={name: str(allowed) for name, allowed in tuning.space(method).items()},
        causes=causes,
    )
