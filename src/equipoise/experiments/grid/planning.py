"""The plan of a comparison: methods checked against data and model, seeds, and the runs to compute."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data import PreparedDataset
from equipoise.experiments.compare.comparison import BASELINE, RUNS
from equipoise.experiments.compare.tuned import Tuned
from equipoise.experiments.grid.jobs import Job
from equipoise.methods import METHODS, Method, base_names, create_method
from equipoise.methods.core.creation import options_for
from equipoise.models import BalancedModel
from equipoise.randomness import isolated_rng
from equipoise.tracking.services import check_services
from equipoise.training.assembly import ModelSpec, build_for, build_reference, check_tokens, prepare_data
from equipoise.training.fabric import check_device
from equipoise.training.loss_scaling import check_scaling
from equipoise.training.option_text import to_options
from equipoise.training.record.names import run_name
from equipoise.training.settings import Settings
from equipoise.types import ModelError, UnknownNameError, UsageError, warn

GROUPS = ALL, REFERENCES = "all", "references"
"""The group of all methods that can train the model, and that of the references for every comparison."""

DEFAULT_METHODS = (REFERENCES, "diagnose-relearn")
"""The default of a comparison: without its references, the result of a method says little."""


@dataclass(frozen=True)
class Plan:
    """The plan of a comparison.

    Attributes:
        parts: each run's name with the names of the runs that it builds on.
        left_out: methods of a group that cannot train the model, with the reason.
        data: the dataset.
    """

    parts: dict[str, list[str]]
    left_out: dict[str, str]
    data: PreparedDataset


def expand(
    settings: Settings,
    methods: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    seed: int,
    tuned: Tuned | None = None,
) -> Plan:
    """Check methods against data and model; warnings about the plan are issued here, once.

    What `tuned` has found for a method takes the place of its options.
    """
    if not methods:
        raise UsageError("no method was given; expected at least one (see 'equipoise list methods').")
    check_device(settings.device, settings.budget.precision)
    check_services(settings.logger)
    wanted, named = _wanted(methods)
    _check_options(wanted, options)
    dataset, _ = prepare_data(settings.with_method(BASELINE, {}, seed))
    reference = build_reference(settings, ModelSpec.of(dataset))
    check_tokens(reference, dataset)
    plan = Plan({}, {}, dataset)
    for method in wanted:
        try:
            built = _checked_variants(settings, method, options, reference, tuned)
        except (UsageError, ModelError) as error:
            # A group means what can be run; a wrong option is no reason to leave a method out.
            if method in named or method in options:
                raise
            plan.left_out[method] = str(error)
            continue
        for name, variant in built.items():
            for problem in variant.problems(settings.budget):
                warn(problem)
            plan.parts[name] = variant.parts(reference.modalities)
    return plan


def _wanted(methods: Sequence[str]) -> tuple[list[str], set[str]]:
    """Return all methods, with groups expanded, and those that were given by name.

    Raises:
        UnknownNameError: there is no such method or group.
    """
    references = sorted(reference_methods(), key=lambda name: name != BASELINE)
    groups = {REFERENCES: references, ALL: [*references, *METHODS]}
    named = {method for method in methods if method not in groups}
    names_in(named)
    wanted = [name for method in methods for name in groups.get(method, [method])]
    return list(dict.fromkeys(wanted)), named


def names_in(methods: Iterable[str]) -> list[str]:
    """Return the registered names in names of methods and groups.

    Raises:
        UnknownNameError: there is no such method or group.
    """
    try:
        return list(
            dict.fromkeys(n for method in methods if method not in GROUPS for n in base_names(method))
        )
    except UnknownNameError as error:
        raise UnknownNameError(error.kind, error.name, [*GROUPS, *error.known]) from None


def reference_methods() -> list[str]:
    """Return the methods that every comparison should include."""
    return [name for name, method in METHODS.items() if method.family == "reference"]


def _check_options(methods: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> None:
    compared = {base for method in methods for base in base_names(method)}
    for name in options:
        METHODS[name]
        if name not in compared:
            raise UsageError(
                f"an option of {name!r} is set, which is not compared; add it to the methods, or leave the "
                "option out."
            )


def _checked_variants(
    settings: Settings,
    method: str,
    options: Mapping[str, Mapping[str, Any]],
    reference: BalancedModel,
    tuned: Tuned | None,
) -> dict[str, Method]:
    kind = METHODS.get(method)
    variants = [method] if kind is None else kind.variants(reference.modalities)
    found = {}
    for variant in variants:
        own = run_of(settings, variant, options, settings.seed, tuned)
        found[variant] = built = create_method(variant, own.method_options)
        built.check(reference)
        check_scaling(built, settings.budget)
        model = build_for(built, settings, reference)
        with isolated_rng():  # the modules are discarded: this checks that they can be built
            for member in built.members():
                member.extra_modules(model, settings.budget)
    return found


def run_of(
    settings: Settings,
    method: str,
    options: Mapping[str, Mapping[str, Any]],
    seed: int,
    tuned: Tuned | None,
) -> Settings:
    """Return a run of a method: with what was found for it in a tuning, or else with its options."""
    if tuned is not None and method in tuned.methods:
        return tuned.run_settings(settings, method, seed)
    return settings.with_method(method, options_for(method, options), seed)


def jobs_of(
    settings: Settings,
    plan: Plan,
    options: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    folder: Path,
    overwrite: bool,
    tuned: Tuned | None = None,
) -> list[Job]:
    """Return the runs, including those that others build on and that were not requested."""
    runs = folder / RUNS
    unlisted = [part for parts in plan.parts.values() for part in parts if part not in plan.parts]

    def parts_of(name: str, seed: int) -> dict[str, Settings]:
        names = plan.parts.get(name, ()) if tuned is not None else ()
        return {part: run_of(settings, part, options, seed, tuned) for part in names}

    return [
        Job(
            run_of(settings, name, options, seed, tuned),
            runs / run_name(name, seed),
            runs,
            overwrite,
            tuple(runs / run_name(part, seed) for part in plan.parts.get(name, ())),
            listed=name in plan.parts,
            part_settings=parts_of(name, seed),
        )
        for seed in seeds
        for name in dict.fromkeys([*plan.parts, *unlisted])
    ]


def configuration(
    settings: Settings,
    methods: Sequence[str],
    seeds: Sequence[int],
    options: Mapping[str, Mapping[str, Any]],
    rank_anyway: bool = False,
    tuned: Tuned | None = None,
) -> dict[str, Any]:
    """Return the comparison as options of `equipoise compare`."""
    shared = to_options(settings)
    for key in ("method", "seed"):
        del shared[key]
    shared["set"] = [
        f"{method}.{name}={json.dumps(value)}"
        for method, values in options.items()
        for name, value in values.items()
    ]
    ranking = {"rank_anyway": True} if rank_anyway else {}
    tuning = {"tuned": str(tuned.folder)} if tuned is not None else {}
    return {"methods": list(methods), **_seed_options(seeds), **tuning, **shared, **ranking}


def seeds_of(numbers: Sequence[int], first_seed: int = 0) -> list[int]:
    """Read seeds: one number N means N seeds from `first_seed` on; several numbers are the seeds.

    Raises:
        UsageError: the one number is below 1.
    """
    if len(numbers) == 1 and numbers[0] < 1:
        raise UsageError(f"seeds is {numbers[0]}; expected at least 1, the number of seeds.")
    return list(range(first_seed, first_seed + numbers[0])) if len(numbers) == 1 else list(numbers)


def _seed_options(seeds: Sequence[int]) -> dict[str, Any]:
    """Return the options that `seeds_of` reads as these seeds."""
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return {"seeds": [len(seeds)], "first_seed": seeds[0]}
    return {"seeds": list(seeds)}


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """Return seeds as integers.

    Raises:
        UsageError: there is none, or one is repeated.
    """
    given = list(seeds)
    if wrong := [seed for seed in given if not hasattr(seed, "__index__")]:
        raise UsageError(f"seeds holds {wrong[0]!r}; expected whole numbers.")
    values = [operator.index(seed) for seed in given]  # NumPy's integers too
    if not values:
        raise UsageError("no seed was given; expected at least one.")
    if len(set(values)) < len(values):
        raise UsageError(f"a seed is repeated in {values}; expected distinct seeds.")
    return values
