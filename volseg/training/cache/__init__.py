"""Preprocessed volumes in memory or memory-mapped on disk."""

from __future__ import annotations

from volseg.training.cache.data_digest import Digests, data_change, data_digests, file_digest
from volseg.training.cache.dataset import CachedDataset
from volseg.training.cache.mapped_case import size_bytes

__all__ = [
    "CachedDataset",
    "Digests",
    "data_change",
    "data_digests",
    "file_digest",
    "size_bytes",
]
