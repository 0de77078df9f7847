"""Embeddings: extraction, and the content-addressed cache that keeps them."""

from benchmark.embeddings.damage import Damage
from benchmark.embeddings.equality import equal_matrices
from benchmark.embeddings.extract import ExtractReport, RowSource, extract
from benchmark.embeddings.store import EmbeddingStore
from benchmark.embeddings.writer import PartSize, PartWriter

__all__ = [
    "Damage",
    "EmbeddingStore",
    "ExtractReport",
    "PartSize",
    "PartWriter",
    "RowSource",
    "equal_matrices",
    "extract",
]
