"""Data: the prepared format, splits without leaks, and batches."""

from equipoise.data.datasets import DATASETS, Dataset
from equipoise.data.format.augment import AUGMENTATIONS, Augmenter, AugmentOptions
from equipoise.data.format.batches import MEMORY_LIMIT, RunData, SplitData, make_loader
from equipoise.data.format.leaks import Leak, find_leaks, guard, leaks_in_words
from equipoise.data.format.modality import ModalitySpec
from equipoise.data.format.normalize import Normalizer, fit_normalizer, fit_normalizers
from equipoise.data.format.order import EpochOrder, Positions
from equipoise.data.format.prepared import PreparedDataset, open_dataset
from equipoise.data.format.splits import Splits, draw_splits, splits_of
from equipoise.data.format.writing import write_dataset
from equipoise.data.load import load_dataset

__all__ = [
    "AUGMENTATIONS",
    "DATASETS",
    "MEMORY_LIMIT",
    "AugmentOptions",
    "Augmenter",
    "Dataset",
    "EpochOrder",
    "Leak",
    "ModalitySpec",
    "Normalizer",
    "Positions",
    "PreparedDataset",
    "RunData",
    "SplitData",
    "Splits",
    "draw_splits",
    "find_leaks",
    "fit_normalizer",
    "fit_normalizers",
    "guard",
    "leaks_in_words",
    "load_dataset",
    "make_loader",
    "open_dataset",
    "splits_of",
    "write_dataset",
]
