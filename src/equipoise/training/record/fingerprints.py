"""Short digests by which a comparison checks that its runs are comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from equipoise.data import AugmentOptions, RunData
from equipoise.distributed import whole_state
from equipoise.training.settings import Budget

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
