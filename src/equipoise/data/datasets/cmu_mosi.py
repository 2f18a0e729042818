"""CMU-MOSI: sentiment of what people say in videos, as text, audio and vision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from equipoise.data.datasets.sentiment import SentimentDataset


@dataclass(frozen=True, kw_only=True)
class CMUMOSI(SentimentDataset):
    """CMU-MOSI: 2199 utterances of 93 videos in which one person reviews a film, with a sentiment of -3 to 3.

    For the options see `SentimentDataset`.
    """

    name: ClassVar[str] = "cmu-mosi"
    description: ClassVar[str] = (
        "sentiment of film reviews: text, audio, vision; 2199 utterances of 93 videos"
    )
    citation: ClassVar[str] = (
        "Zadeh et al., MOSI: Multimodal Corpus of Sentiment Intensity and Subjectivity Analysis in Online "
        "Opinion Videos, arXiv:1606.06259, 2016"
    )
    expected: ClassVar[str] = (
        "mosi_raw.pkl, mosi_data.pkl, aligned_50.pkl or unaligned_50.pkl; or the .csd files of the SDK"
    )
    size: ClassVar[str] = "some hundred MB, by the file"
    known: ClassVar[tuple[str, ...]] = (
        "mosi_raw.pkl",
        "mosi_data.pkl",
        "mosi_data_noalign.pkl",
        "aligned_50.pkl",
        "unaligned_50.pkl",
    )
    published: ClassVar[tuple[int, int]] = (2199, 93)
