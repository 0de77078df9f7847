"""Deployment: exports with a parity gate, prediction with any of them, tiling, explanation, evaluation.

Public names load their modules on first use: conversions and Keras models need TensorFlow, the other exports
do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.deployment.attribution import Explainer, explain_png, open_explainer
    from benchmark.deployment.description import Deployment, read_description
    from benchmark.deployment.evaluation import Evaluation, evaluate
    from benchmark.deployment.export import ExportOptions, ExportResult, export_model
    from benchmark.deployment.frozen import frozen_function
    from benchmark.deployment.heatmap import overlay_png, picture_name
    from benchmark.deployment.opening import open_model
    from benchmark.deployment.parity import Parity
    from benchmark.deployment.prediction import (
        Prediction,
        PredictOptions,
        list_images,
        predict,
        predictions_csv,
        predictions_json,
        write_predictions_csv,
        write_predictions_json,
    )
    from benchmark.deployment.predictor import Predictor
    from benchmark.deployment.targets import Target, Tolerance, parse_targets, target_names
    from benchmark.deployment.tiling import (
        Merge,
        TiledPrediction,
        TileOptions,
        predict_photo,
        predict_tiles,
    )

_HOMES = {
    "attribution": ("Explainer", "explain_png", "open_explainer"),
    "description": ("Deployment", "read_description"),
    "evaluation": ("Evaluation", "evaluate"),
    "export": ("ExportOptions", "ExportResult", "export_model"),
    "frozen": ("frozen_function",),
    "heatmap": ("overlay_png", "picture_name"),
    "opening": ("open_model",),
    "parity": ("Parity",),
    "prediction": (
        "PredictOptions",
        "Prediction",
        "list_images",
        "predict",
        "predictions_csv",
        "predictions_json",
        "write_predictions_csv",
        "write_predictions_json",
    ),
    "predictor": ("Predictor",),
    "targets": ("Target", "Tolerance", "parse_targets", "target_names"),
    "tiling": ("Merge", "TileOptions", "TiledPrediction", "predict_photo", "predict_tiles"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Deployment",
    "Evaluation",
    "Explainer",
    "ExportOptions",
    "ExportResult",
    "Merge",
    "Parity",
    "PredictOptions",
    "Prediction",
    "Predictor",
    "Target",
    "TileOptions",
    "TiledPrediction",
    "Tolerance",
    "evaluate",
    "explain_png",
    "export_model",
    "frozen_function",
    "list_images",
    "open_explainer",
    "open_model",
    "overlay_png",
    "parse_targets",
    "picture_name",
    "predict",
    "predict_photo",
    "predict_tiles",
    "predictions_csv",
    "predictions_json",
    "read_description",
    "target_names",
    "write_predictions_csv",
    "write_predictions_json",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
