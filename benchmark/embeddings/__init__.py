"""Embeddings: extraction, and the content-addressed cache that keeps them."""

from benchmark.embeddings.damage import Damage
from benchmark.embeddings.equality import equal_matrices
from benchmark.embeddings.extract import ExtractReport, RowSource, extract
from benchmark.embeddings.store import EmbeddingStore
from benchmark.embeddings.upkeep import CacheEntry, Removed, VerifyReport
from benchmark.embeddings.writer import PartSize, PartWriter

__all__ = [
    "CacheEntry",
    "Damage",
    "EmbeddingStore",
    "ExtractReport",
    "PartSize",
    "PartWriter",
    "Removed",
    "RowSource",
    "VerifyReport",
    "equal_matrices",
    "extract",
]
