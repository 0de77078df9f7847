"""Fine-tuning: recipes, augmentation, the two training phases, evaluation artefacts.

Public names load their modules on first use: fine-tuning needs TensorFlow, listing recipes does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.finetuning.comparing import BoardScore, Comparison
    from benchmark.finetuning.manifest import (
        LABELS_FILE,
        MANIFEST_FILE,
        MODEL_FILE,
        load_manifest,
        write_manifest,
    )
    from benchmark.finetuning.recipe import (
        DEFAULT_RECIPE,
        Recipe,
        RecipeOverrides,
        load_recipe,
        override_recipe,
        recipe_names,
        recipe_text,
    )
    from benchmark.finetuning.request import FineTuned, FinetuneRequest, model_folder
    from benchmark.finetuning.running import finetune
    from benchmark.finetuning.tables import read_probabilities
    from benchmark.finetuning.trained_on import SEEN_FILES, TrainedOn, read_trained_on

_HOMES = {
    "comparing": ("BoardScore", "Comparison"),
    "manifest": ("LABELS_FILE", "MANIFEST_FILE", "MODEL_FILE", "load_manifest", "write_manifest"),
    "recipe": (
        "DEFAULT_RECIPE",
        "Recipe",
        "RecipeOverrides",
        "load_recipe",
        "override_recipe",
        "recipe_names",
        "recipe_text",
    ),
    "request": ("FineTuned", "FinetuneRequest", "model_folder"),
    "running": ("finetune",),
    "tables": ("read_probabilities",),
    "trained_on": ("SEEN_FILES", "TrainedOn", "read_trained_on"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DEFAULT_RECIPE",
    "LABELS_FILE",
    "MANIFEST_FILE",
    "MODEL_FILE",
    "SEEN_FILES",
    "BoardScore",
    "Comparison",
    "FineTuned",
    "FinetuneRequest",
    "Recipe",
    "RecipeOverrides",
    "TrainedOn",
    "finetune",
    "load_manifest",
    "load_recipe",
    "model_folder",
    "override_recipe",
    "read_probabilities",
    "read_trained_on",
    "recipe_names",
    "recipe_text",
    "write_manifest",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
