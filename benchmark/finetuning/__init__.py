"""Fine-tuning: recipes, augmentation, the two training phases, evaluation artefacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmark.finetuning.comparing import BoardScore
from benchmark.finetuning.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    MODEL_NAMES,
    is_unlisted,
    load_manifest,
    model_files,
)
from benchmark.finetuning.recipe import BOARD_RECIPE, DEFAULT_RECIPE, Recipe
from benchmark.finetuning.request import BoardHead, FineTuned, FinetuneRequest
from benchmark.finetuning.tables import SPLIT_FILE
from benchmark.finetuning.trained_on import SEEN_FILES, TrainedOn
from benchmark.records import ImageSet, Observer

__all__ = [
    "BOARD_RECIPE",
    "DEFAULT_RECIPE",
    "MANIFEST_FILE",
    "MODEL_FILE",
    "MODEL_NAMES",
    "SEEN_FILES",
    "SPLIT_FILE",
    "BoardHead",
    "BoardScore",
    "FineTuned",
    "FinetuneRequest",
    "Recipe",
    "TrainedOn",
    "finetune",
    "is_unlisted",
    "load_manifest",
    "model_files",
]


def finetune(
    request: FinetuneRequest,
    images: ImageSet,
    observer: Observer | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> FineTuned:
    """Fine-tune one backbone as ``running.finetune`` says; TensorFlow is loaded by this call alone."""
    from benchmark.finetuning import running

    return running.finetune(request, images, observer, on_epoch)
