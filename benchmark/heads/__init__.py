"""Dropout + sigmoid (softmax) heads on embeddings: protocols, folds, the batched trainer."""

from benchmark.heads.fewer import (
    FewerImages,
    train_on_fewer,
)
from benchmark.heads.folds import (
    hash_keys,
    salted_order,
)
from benchmark.heads.protocols import (
    FoldPlan,
    check_protocol,
    make_plan,
)
from benchmark.heads.training import (
    FinalHead,
    final_head,
    train_heads,
)

__all__ = [
    "FewerImages",
    "FinalHead",
    "FoldPlan",
    "check_protocol",
    "final_head",
    "hash_keys",
    "make_plan",
    "salted_order",
    "train_heads",
    "train_on_fewer",
]
