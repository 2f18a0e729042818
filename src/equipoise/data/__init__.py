"""Data: the prepared format, splits without leaks, and batches."""

from equipoise.data.augment import AUGMENTATIONS, Augmenter, AugmentOptions
from equipoise.data.batches import MEMORY_LIMIT, RunData, SplitData, make_loader
from equipoise.data.datasets import DATASETS, Dataset
from equipoise.data.format import ModalitySpec, cache_folder
from equipoise.data.leaks import Leak, find_leaks, guard
from equipoise.data.load import load_dataset
from equipoise.data.normalize import Normalizer, fit_normalizer, fit_normalizers
from equipoise.data.order import EpochOrder, Positions
from equipoise.data.prepared import PreparedDataset, open_dataset
from equipoise.data.splits import Splits, draw_splits, splits_of
from equipoise.data.writing import write_dataset

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
    "cache_folder",
    "draw_splits",
    "find_leaks",
    "fit_normalizer",
    "fit_normalizers",
    "guard",
    "load_dataset",
    "make_loader",
    "open_dataset",
    "splits_of",
    "write_dataset",
]
