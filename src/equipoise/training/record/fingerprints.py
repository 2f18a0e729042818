"""Short digests by which a comparison checks that its runs are comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from equipoise.data import AugmentOptions, RunData
from equipoise.distributed import whole_state
from equipoise.training.record.seals import seal_of
from equipoise.training.settings import ENCODER_FILES, Budget, Settings

LENGTH = 16


def of_tensors(state: Mapping[str, Tensor]) -> str:
    """Digest names, types, shapes and bytes of tensors."""
    digest = hashlib.blake2b(digest_size=LENGTH // 2)
    for name, tensor in sorted(state.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()


def of_encoders(encoders: Mapping[str, nn.Module]) -> dict[str, str]:
    """Digest the weights and buffers of each encoder."""
    return {name: of_tensors(whole_state(encoder.state_dict())) for name, encoder in encoders.items()}


def of_data(data: RunData) -> dict[str, str]:
    """Return the digests of the dataset and of its splits, under their names in a record."""
    return {"data_fingerprint": data.dataset_fingerprint, "split_fingerprint": data.split_fingerprint}


def of_weights(settings: Settings) -> dict[str, str]:
    """Return the digest of the files that encoders start from, under its name in a record; none without."""
    options = settings.encoder_options
    named = {
        f"{modality}.{name}": _of_place(Path(values[name]))
        for modality, values in options.items()
        for name in ENCODER_FILES
        if isinstance(values.get(name), str) and Path(values[name]).exists()
    }
    return {"weights_fingerprint": of_text(repr(sorted(named.items())))} if named else {}


def _of_place(place: Path) -> list[tuple[str, str]]:
    """Return the digests of a file, or of those in a folder."""
    files = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
    found = []
    for path in files:
        state = path.stat()
        found.append((path.name, _of_file(path, state.st_size, state.st_mtime_ns)))
    return found


@lru_cache(maxsize=256)
def _of_file(path: Path, *_stamp: int) -> str:
    """Digest a file, again only if its size or time of change (the stamp) is another one."""
    return str(seal_of(path)["sha256"])


def of_budget(budget: Budget) -> str:
    """Digest everything that a comparison holds equal."""
    held = asdict(budget)
    options = held.pop("augment_options")
    if held["augment"] == "none":  # runs of versions without augmentation have no such key
        del held["augment"]
    else:
        held["augment_options"] = AugmentOptions.of(options).to_dict()
    return of_text(json.dumps(held, sort_keys=True))


def of_text(text: str) -> str:
    """Digest a text."""
    return hashlib.blake2b(text.encode(), digest_size=LENGTH // 2).hexdigest()
