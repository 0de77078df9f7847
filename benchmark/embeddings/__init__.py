"""Embeddings: extraction, and the content-addressed cache that keeps them."""

from benchmark.embeddings.equality import equal_matrices
from benchmark.embeddings.extract import ExtractReport, extract
from benchmark.embeddings.store import EmbeddingStore
from benchmark.embeddings.upkeep import CacheEntry
from benchmark.embeddings.writer import PartWriter

__all__ = ["CacheEntry", "EmbeddingStore", "ExtractReport", "PartWriter", "equal_matrices", "extract"]
