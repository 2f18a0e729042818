"""The results of a diagnosis: learning states, contributions, encoder quality, and the verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from equipoise.diagnosis import Diagnosis
from equipoise.diagnosis.contribution.contributions import Contributions
from equipoise.diagnosis.features.projections import Projection
from equipoise.diagnosis.verdict.verdict import Verdict
from equipoise.experiments.compare.comparison import without_nan
from equipoise.experiments.examine.encoder_quality import EncoderQuality
from equipoise.types import InNotebooks

FORMAT: Final = 1


@dataclass(frozen=True)
class Examination(InNotebooks):
    """The results of a diagnosis, by modality.

    Attributes:
        source: what was examined: a run folder, a file, or a name for the model.
        learning: learning states by the chosen options.
        paper: learning states as the paper measures them; None for a continuous target, which the paper
            does not have, and for many samples unless it was requested.
        measures: measure of separability to its diagnosis, by the preset `held-out`.
        contributions: what each modality adds to the joint prediction: that of the model, or for saved
            features that of a linear head.
        verdicts: modality to verdict.
        quality: encoders under new classifiers; None unless it was requested.
        inputs: modality to the score of a linear head on its inputs; None where there are only features.
        projections: the features in the plane; empty if no pictures were requested.
        through: whether `contributions` are those to the trained `model` or to a `linear head`.
        facts: what was examined, in a few words each.
        settings: of the run, if it is one.
        result: `result.json` of the run, if it is one.
    """

    shown_as = "examination"

    source: str
    learning: Diagnosis
    paper: Diagnosis | None
    measures: Mapping[str, Diagnosis]
    contributions: Contributions
    verdicts: Mapping[str, Verdict]
    quality: EncoderQuality | None = None
    inputs: Mapping[str, float] | None = None
    projections: Sequence[Projection] = ()
    through: str = "model"
    facts: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def modalities(self) -> list[str]:
        """Their names, in order."""
        return list(self.learning)

    def to_dict(self) -> dict[str, Any]:
        """Return all but the pictures as plain values, for JSON."""
        return {
            "format": FORMAT,
            "source": self.source,
            "through": self.through,
            "verdicts": {name: verdict.to_dict() for name, verdict in self.verdicts.items()},
            "learning": _plain(self.learning),
            "paper": None if self.paper is None else _plain(self.paper),
            "measures": {name: _plain(diagnosis) for name, diagnosis in self.measures.items()},
            "contributions": self.contributions.to_dict(),
            "inputs": None if self.inputs is None else dict(self.inputs),
            "quality": None if self.quality is None else self.quality.to_dict(),
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON; what is not finite becomes null."""
        return json.dumps(without_nan(self.to_dict()), indent=1, allow_nan=False) + "\n"

    def __str__(self) -> str:
        parts = ["\n".join(str(verdict) for verdict in self.verdicts.values())]
        parts += [str(self.learning), str(self.contributions)]
        parts += [] if self.quality is None else [str(self.quality)]
        return "\n\n".join(parts)


def _plain(diagnosis: Diagnosis) -> dict[str, Any]:
    return {"options": diagnosis.options.to_dict(), "states": diagnosis.to_dict()}
