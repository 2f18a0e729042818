"""Data: the prepared format, splits without leaks, and batches."""

from equipoise.data.datasets import DATASETS as DATASETS
from equipoise.data.datasets import Dataset as Dataset
from equipoise.data.format.augment import AUGMENTATIONS as AUGMENTATIONS
from equipoise.data.format.augment import Augmenter as Augmenter
from equipoise.data.format.augment import AugmentOptions as AugmentOptions
from equipoise.data.format.batches import MEMORY_LIMIT as MEMORY_LIMIT
from equipoise.data.format.batches import SplitData as SplitData
from equipoise.data.format.batches import make_loader as make_loader
from equipoise.data.format.leaks import Leak as Leak
from equipoise.data.format.leaks import find_leaks as find_leaks
from equipoise.data.format.leaks import guard as guard
from equipoise.data.format.leaks import leaks_in_words as leaks_in_words
from equipoise.data.format.modality import ModalitySpec as ModalitySpec
from equipoise.data.format.normalize import Normalizer as Normalizer
from equipoise.data.format.normalize import fit_normalizer as fit_normalizer
from equipoise.data.format.normalize import fit_normalizers as fit_normalizers
from equipoise.data.format.order import EpochOrder as EpochOrder
from equipoise.data.format.order import Positions as Positions
from equipoise.data.format.prepared import PreparedDataset as PreparedDataset
from equipoise.data.format.prepared import open_dataset as open_dataset
from equipoise.data.format.run_data import RunData as RunData
from equipoise.data.format.splits import Splits as Splits
from equipoise.data.format.splits import draw_splits as draw_splits
from equipoise.data.format.splits import splits_of as splits_of
from equipoise.data.format.writing import write_dataset as write_dataset
from equipoise.data.load import load_dataset as load_dataset
