"""Pictures of features for trackers: small, and drawn in some milliseconds while a training waits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from equipoise.diagnosis.features.capture import Captured
from equipoise.diagnosis.features.projections import Plane, Projection, project
from equipoise.tracking.outlets import Pictures

MOST: Final = 300
"""Samples of a split in a picture."""
SIDE, HEAD, ROW, MARGIN = 320, 28, 20, 12
"""Pixels: of a panel, of its title, of a row of the legend, and around everything."""
MARK: Final = 3.5
"""Radius of a mark."""
FINE: Final = 2
"""Times that a picture is drawn larger, for smooth edges."""
COLOURS: Final = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#d98f00", "#3ea2dc")
"""Those of classes in reports."""
CORNERS: Final = (0, 4, 3)
"""Corners of the marks of the first six classes (a disc), of the next six, and so on."""
NAMED: Final = 12
"""Classes that a legend names at most."""
PAPER, INK, FRAME = "#ffffff", "#1d2329", "#c8ccd0"


def feature_pictures(train: Captured, val: Captured, classes: Sequence[str] | None = None) -> Pictures:
    """Return what draws the features of each modality in the plane, as `features/MODALITY`.

    Features of at most `MOST` samples of a split are kept until then, at equal distances. Where processes
    share the samples, all of them must call this.
    """
    shown, shown_val = (part.whole(_some(len(part.target))) for part in (train, val))
    return partial(_draw, shown, shown_val, classes or None)


def _some(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(np.int64))


def _draw(train: Captured, val: Captured, classes: Sequence[str] | None) -> Mapping[str, Any]:
    labels = train.target.numpy(), val.target.numpy()
    return {
        f"features/{name}": picture(
            project(
                z.numpy(), labels[0], val.features[name].numpy(), labels[1], "pca", modality=name,
                classes=classes,
            )
        )
        for name, z in train.features.items()
    }  # fmt: skip


def picture(shown: Projection) -> Any:
    """Return the features of both splits side by side, on common axes, coloured by class, with a legend.

    Returns:
        An image of pillow.
    """
    from PIL import Image, ImageDraw, ImageFont

    held = sorted({int(label) for label in (*shown.train_labels, *shown.val_labels)})[:NAMED]
    rows = math.ceil(len(held) / 4)
    width, height = 2 * SIDE + 3 * MARGIN, HEAD + SIDE + rows * ROW + 2 * MARGIN
    image = Image.new("RGB", (FINE * width, FINE * height), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(FINE * 12)
    both = np.concatenate([shown.train, shown.val])
    middle = (both.max(0) + both.min(0)) / 2
    reach = max(float(np.abs(both - middle).max()) * 1.06, 1e-12)
    for place, (split, points, labels) in enumerate(
        (("training", shown.train, shown.train_labels), ("validation", shown.val, shown.val_labels))
    ):
        left, top = MARGIN + place * (SIDE + MARGIN), HEAD
        draw.text((FINE * left, FINE * 8), f"{shown.modality}, {split}", fill=INK, font=font)
        box = [FINE * value for value in (left, top, left + SIDE, top + SIDE)]
        draw.rectangle(box, outline=FRAME, width=FINE)
        for (x, y), label in zip(_pixels(points, middle, reach, left, top), labels, strict=True):
            _mark(draw, x, y, int(label))
    for place, label in enumerate(held):
        column, row = place % 4, place // 4
        x, y = MARGIN + column * width // 4 + 6, HEAD + SIDE + MARGIN + row * ROW + 6
        _mark(draw, x, y, label)
        draw.text((FINE * (x + 10), FINE * (y - 8)), shown.classes[label][:18], fill=INK, font=font)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _pixels(points: Plane, middle: Plane, reach: float, left: int, top: int) -> Plane:
    """Return positions `[n, 2]` in a panel, whose vertical axis points down."""
    scaled = (points - middle) / reach * (SIDE / 2 - 2 * MARK) * np.array([1, -1])
    placed: Plane = scaled + np.array([left, top]) + SIDE / 2
    return placed


def _mark(draw: Any, x: float, y: float, label: int) -> None:
    colour = COLOURS[label % len(COLOURS)]
    corners = CORNERS[label // len(COLOURS) % len(CORNERS)]
    where = (FINE * x, FINE * y, FINE * MARK)
    if corners:
        draw.regular_polygon(where, corners, fill=colour)
    else:
        draw.circle(where[:2], where[2], fill=colour)
