"""Fine-tuning: recipes, augmentation, the two training phases, evaluation artefacts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.backbones import import_keras
from benchmark.finetuning.comparing import BoardScore
from benchmark.finetuning.familiar import HEAD_LAYERS, VECTORS_FILE, Familiar
from benchmark.finetuning.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    MODEL_NAMES,
    is_unlisted,
    load_manifest,
    model_files,
)
from benchmark.finetuning.model_directory import trained_backbone
from benchmark.finetuning.recipe import BOARD_RECIPE, DEFAULT_RECIPE, Augmentation, Recipe
from benchmark.finetuning.request import ALREADY_DONE, BoardHead, FineTuned, FinetuneRequest
from benchmark.finetuning.tables import SPLIT_FILE
from benchmark.finetuning.trained_on import SEEN_FILES, TrainedOn
from benchmark.records import ImageSet, Observer, UInt8

__all__ = [
    "ALREADY_DONE",
    "BOARD_RECIPE",
    "DEFAULT_RECIPE",
    "HEAD_LAYERS",
    "MANIFEST_FILE",
    "MODEL_FILE",
    "MODEL_NAMES",
    "SEEN_FILES",
    "SPLIT_FILE",
    "VECTORS_FILE",
    "BoardHead",
    "BoardScore",
    "Familiar",
    "FineTuned",
    "FinetuneRequest",
    "Recipe",
    "TrainedOn",
    "augmented_views",
    "find_finished",
    "finetune",
    "is_unlisted",
    "load_manifest",
    "model_files",
    "take_model",
    "trained_backbone",
]


def augmented_views(
    recipe: Mapping[str, Any], pixels: UInt8, image_ids: Sequence[str], *, seed: int, count: int
) -> list[UInt8]:
    """Views of images as a recipe's training saw them; TensorFlow is loaded by this call alone.

    Args:
        recipe: as ``run.json`` has it.
        pixels: uint8 (n, S, S, 3).
        image_ids: n ids of the images.
        seed: of the run.
        count: views of each image.

    Returns:
        uint8 (n, S, S, 3) for each view; none where the recipe changes nothing.
    """
    augmentation = Augmentation.model_validate_json(json.dumps(recipe["augmentation"]))
    if augmentation.changes_nothing:
        return []
    from benchmark.finetuning.augment import augment_images, view_keys

    return [augment_images(augmentation, pixels, view_keys(seed, view, image_ids)) for view in range(count)]


def finetune(
    request: FinetuneRequest,
    images: ImageSet,
    observer: Observer | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> FineTuned:
    """Fine-tune one backbone as ``running.finetune`` says; TensorFlow is loaded by this call alone."""
    import_keras()  # without its chatter
    from benchmark.finetuning import running

    return running.finetune(request, images, observer, on_epoch)


def find_finished(request: FinetuneRequest, images: ImageSet) -> FineTuned | None:
    """An earlier result of the same request, as ``running.find_finished`` says; TensorFlow is loaded."""
    import_keras()
    from benchmark.finetuning import running

    return running.find_finished(request, images)


def take_model(request: FinetuneRequest, images: ImageSet, made: Path) -> FineTuned:
    """Take a model from elsewhere, as ``running.take_model`` says; TensorFlow is loaded."""
    import_keras()
    from benchmark.finetuning import running

    return running.take_model(request, images, made)
