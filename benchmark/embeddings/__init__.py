"""Embeddings: extraction, and the content-addressed cache that keeps them."""

from benchmark.embeddings.equality import equal_matrices
from benchmark.embeddings.extract import BatchEmbedder, ExtractReport, extract
from benchmark.embeddings.store import EmbeddingStore
from benchmark.embeddings.turned import VIEWS, TurnedEmbedder
from benchmark.embeddings.upkeep import CacheEntry
