"""Dropout + sigmoid (softmax) heads on embeddings: protocols, folds, the batched trainer."""

from benchmark.heads.fewer import FewerImages, train_on_fewer
from benchmark.heads.folds import hashed_order
from benchmark.heads.protocols import FoldPlan, make_plan, validated_parts
from benchmark.heads.training import FinalHead, final_head, train_heads
