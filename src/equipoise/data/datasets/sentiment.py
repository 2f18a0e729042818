"""What CMU-MOSI and CMU-MOSEI share: utterances with a sentiment, from pickles or from `.csd` files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from equipoise.data.datasets.from_source import SourceDataset
from equipoise.data.prepare.clips import ArrayPreparation
from equipoise.data.prepare.sentiment.from_csd import Align
from equipoise.data.prepare.sentiment.samples import Text
from equipoise.data.prepare.sentiment.targets import Empty, NonFiniteChoice, SentimentPlan, Target


@dataclass(frozen=True, kw_only=True)
class SentimentDataset(SourceDataset):
    """Base of the datasets of utterances with a sentiment of -3 to 3.

    Attributes:
        known: names of the pickles in circulation.
        published: utterances and videos of the published dataset.
        target: "binary" (negative, non-negative), "binary-nonzero" (negative, positive; 0 is left out),
            "seven" (the sentiment rounded to -3 to 3) or "regression" (the sentiment itself).
        text: "features" (word vectors as they are in the file), "bert-tokens" (token numbers, where the
            file has text_bert) or "hashed" (words hashed into buckets).
        steps: length of all sequences; by default that of the file, and 50 for .csd files and hashed words.
        vocabulary: number of buckets for hashed words.
        empty: what becomes of samples with nothing but zeros in a modality: "keep", "drop-text" (left out
            where that is the text) or "drop".
        nonfinite: what becomes of values that are not finite: "zero" or "fail".
        split_file: CSV file with the columns video_id and fold (train, valid, test), used instead of the
            splits of the source.
        align: for .csd files: a step is a word ("words"), or an equal part of the utterance ("even").
        labels_csd: name of the .csd file with the labels, where it is not found by itself.
        text_csd: name of the .csd file with word vectors, or with words for hashed ones.
        audio_csd: name of the .csd file with the audio features.
        vision_csd: name of the .csd file with the visual features.
    """

    modalities: ClassVar[tuple[str, ...]] = ("text", "audio", "vision")
    licence: ClassVar[str] = "research use, as its authors ask for; see the source"
    source: ClassVar[str] = "https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK"
    known: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[tuple[int, int]] = (0, 0)

    target: Target = "binary"
    text: Text = "features"
    steps: int | None = None
    vocabulary: int = 8192
    empty: Empty = "keep"
    nonfinite: NonFiniteChoice = "zero"
    split_file: str | None = None
    align: Align = "words"
    labels_csd: str | None = None
    text_csd: str | None = None
    audio_csd: str | None = None
    vision_csd: str | None = None

    def plan(self, source: Path) -> ArrayPreparation:
        """Read a pickle or `.csd` files into arrays.

        Raises:
            DataError: the source is not what it should be.
            UsageError: options that do not fit the source.
            MissingExtraError: `.csd` files without h5py.
        """
        plan = SentimentPlan(
            target=self.target,
            text=self.text,
            steps=self.steps,
            vocabulary=self.vocabulary,
            empty=self.empty,
            nonfinite=self.nonfinite,
            split_file=self.split_file,
            align=self.align,
            csd={
                "labels": self.labels_csd,
                "text": self.text_csd,
                "audio": self.audio_csd,
                "vision": self.vision_csd,
            },
        )
        return plan.prepare(
            source, self.known, self.name, self.published, self.licence, f"{self.source}; {self.citation}"
        )
