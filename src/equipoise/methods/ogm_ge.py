"""On-the-fly gradient modulation with generalisation enhancement."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.methods.ogm import OGM


@dataclass
class OGMGE(OGM):
    """OGM with generalisation enhancement: Gaussian noise of each gradient's own spread.

    `grad <- k^m * grad + eps`, `eps ~ N(0, std(grad) + 1e-8)` elementwise, `std` taken per tensor over the
    unscaled gradient, for all modalities.
    """

    name = "ogm-ge"
    summary = "OGM, with Gaussian noise on the encoders' gradients"
    cost = "one head slice a modality and one normal draw a parameter a step"
    noise = True
