"""CMU-MOSEI: sentiment of what people say in videos, as text, audio and vision; the large one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from equipoise.data.datasets.sentiment import SentimentDataset


@dataclass(frozen=True, kw_only=True)
class CMUMOSEI(SentimentDataset):
    """CMU-MOSEI: 23,453 utterances of 3228 videos of one speaker each, with a sentiment of -3 to 3.

    For the options see `SentimentDataset`.
    """

    name: ClassVar[str] = "cmu-mosei"
    description: ClassVar[str] = "sentiment of monologues: text, audio, vision; about 23,000 utterances"
    citation: ClassVar[str] = (
        "Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic "
        "Fusion Graph, ACL 2018"
    )
    expected: ClassVar[str] = (
        "mosei_senti_data.pkl, aligned_50.pkl or unaligned_50.pkl; or the .csd files of the SDK"
    )
    size: ClassVar[str] = "several GB, by the file"
    known: ClassVar[tuple[str, ...]] = (
        "mosei_senti_data.pkl",
        "mosei_senti_data_noalign.pkl",
        "mosei_raw.pkl",
        "aligned_50.pkl",
        "unaligned_50.pkl",
    )
    published: ClassVar[tuple[int, int]] = (23453, 3228)
