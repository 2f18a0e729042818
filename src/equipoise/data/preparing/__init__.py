"""From downloaded files to a prepared dataset: what is to be read, and the engine that reads it."""

from equipoise.data.preparing.clips import (
    ArrayPreparation,
    Clip,
    Layout,
    Lost,
    ModalityReader,
    Preparation,
)

__all__ = ["ArrayPreparation", "Clip", "Layout", "Lost", "ModalityReader", "Preparation"]
