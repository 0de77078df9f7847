"""Commands about one model: recipes, finetune, export, predict, evaluate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.backbones import parse_weights
from benchmark.cli import arguments as read
from benchmark.cli.observer import make_observer
from benchmark.cli.printing import print_rows
from benchmark.errors import ArgumentError
from benchmark.storage import write_whole

if TYPE_CHECKING:
    from benchmark.deployment import Evaluation, Prediction, Predictor, TiledPrediction
    from benchmark.finetuning import FineTuned, Recipe
    from benchmark.pipeline import FinetuneJob
    from benchmark.records import Observer

_ROUNDED = 4


def recipes_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones recipes``."""
    from benchmark.finetuning import load_recipe, recipe_names, recipe_text

    if arguments.name is not None:
        print(recipe_text(arguments.name), end="")
        return 0
    print_rows([_recipe_row(load_recipe(name)) for name in recipe_names()], arguments.format)
    return 0


def _recipe_row(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "backbone": recipe.backbone,
        "image_size": recipe.image_size,
        "phase1_epochs": recipe.phase1.epochs,
        "phase2_epochs": recipe.phase2.epochs,
        "description": recipe.description,
    }


def finetune_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones finetune``."""
    from benchmark.pipeline import finetune_backbones

    with make_observer(quiet=arguments.quiet) as observer:
        result = finetune_backbones(_finetune_job(arguments), observer)
    print_rows([_model_row(model) for model in result.models], arguments.format)
    for model in result.models:
        for note in model.notes:
            print(f"{model.backbone}: {note}", file=sys.stderr)
    if result.regret == result.regret:
        print(
            f"The board's first choice gives away {result.regret:.4f} validation F1 after fine-tuning.",
            file=sys.stderr,
        )
    for model in result.models:
        print(f"Written to {model.model_dir}", file=sys.stderr)
    return 1 if result.failed else 0


def _finetune_job(arguments: argparse.Namespace) -> FinetuneJob:
    from benchmark.finetuning import RecipeOverrides, load_recipe, override_recipe
    from benchmark.pipeline import FinetuneJob

    overrides = RecipeOverrides(
        unfreeze_from=arguments.unfreeze_from,
        unfreeze_last=arguments.unfreeze_last,
        head=arguments.head,
        hidden=arguments.hidden,
        dropout=arguments.dropout,
        optimizer=arguments.optimizer,
        epochs=arguments.epochs,
        learning_rates=arguments.learning_rates,
        schedule=arguments.schedule,
        patience=arguments.early_stopping,
        image_size=arguments.image_size,
    )
    weights = arguments.weights
    return FinetuneJob(
        data=arguments.data,
        recipe=override_recipe(load_recipe(arguments.recipe), overrides),
        winner=arguments.winner,
        top=arguments.top,
        weights=None if weights is None else parse_weights(weights, seed=arguments.seed),
        options=read.data_options(arguments),
        auto_groups=read.wants_auto_groups(arguments),
        cache=arguments.cache,
        results=arguments.results,
        threshold=arguments.threshold,
        balanced=arguments.class_weight == "balanced",
        average=arguments.average,
        cached_views=arguments.cached_views or 0,
        force=arguments.force,
        resize=arguments.resize,
    )


def _model_row(model: FineTuned) -> dict[str, Any]:
    row: dict[str, Any] = {
        "backbone": model.backbone,
        "recipe": model.manifest.recipe,
        "kept": model.kept_phase,
    }
    for moment, parts in model.phases.items():
        for part, metrics in (parts or {}).items():
            if metrics is not None:
                row[f"{part}_f1_{moment}"] = round(metrics["f1"], _ROUNDED)
    return row


def export_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones export``."""
    from benchmark.deployment import export_model, parse_targets

    with make_observer(quiet=arguments.quiet) as observer:
        results = export_model(
            arguments.model, parse_targets(arguments.to), data=arguments.data, observer=observer
        )
    print_rows([_rounded(result.row()) for result in results], arguments.format)
    return 0 if all(result.passed for result in results) else 1


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def predict_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones predict``."""
    from benchmark.deployment import open_model

    predictor = open_model(arguments.model)
    with make_observer(quiet=arguments.quiet) as observer:
        found = _predictions(arguments, predictor, observer)
    labels = predictor.description.labels
    print_rows([_prediction_row(prediction, labels) for prediction in found], arguments.format)
    unread = [prediction for prediction in found if prediction.error]
    if unread:
        print(
            f"{len(unread)} of {len(found)} files could not be read; see the error column.", file=sys.stderr
        )
    return 1 if len(unread) == len(found) else 0


def _predictions(arguments: argparse.Namespace, predictor: Predictor, observer: Observer) -> list[Prediction]:
    from benchmark.deployment import PredictOptions, TileOptions, predict, predict_tiles

    if arguments.tiles is not None:
        options = TileOptions(size=arguments.tiles, overlap=arguments.overlap)
        tiled: Sequence[TiledPrediction] = predict_tiles(
            predictor, arguments.images, options, overlays=arguments.heatmaps, observer=observer
        )
        return [one.prediction for one in tiled]
    found = list(
        predict(
            predictor, arguments.images, PredictOptions(batch_size=arguments.batch_size), observer=observer
        )
    )
    if arguments.heatmaps is not None:
        _explain(arguments, [Path(one.path) for one in found if not one.error])
    return found


def _explain(arguments: argparse.Namespace, paths: Sequence[Path]) -> None:
    """Write a Grad-CAM overlay of each image."""
    from benchmark.data import load_pixels
    from benchmark.deployment import explain_png, open_explainer

    explainer = open_explainer(arguments.model)
    description = explainer.description
    for number, path in enumerate(paths):
        pixels = load_pixels(path, description.input_size, description.resize)
        write_whole(arguments.heatmaps / f"{number:05}-{path.stem[:80]}.png", explain_png(explainer, pixels))


def _prediction_row(prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    known = prediction.probabilities or (float("nan"),) * len(labels)
    probabilities = {f"p_{label}": round(value, 6) for label, value in zip(labels, known, strict=True)}
    return {"path": prediction.path, "label": prediction.label, **probabilities, "error": prediction.error}


def evaluate_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones evaluate``."""
    from benchmark.data import load_images
    from benchmark.deployment import evaluate, open_model
    from benchmark.reporting import write_evaluation

    predictor = open_model(arguments.model)
    if arguments.groups == "auto":
        raise ArgumentError("evaluate splits nothing", where="--groups auto", next_step="Leave it out.")
    with make_observer(quiet=arguments.quiet) as observer:
        images = load_images(
            arguments.data, cache=arguments.cache, options=read.data_options(arguments), observer=observer
        )
        evaluation = evaluate(predictor, images, observer=observer)
    folder = arguments.results / images.name / "evaluate" / predictor.description.backbone
    write_evaluation(evaluation, folder)
    print_rows(_evaluation_rows(evaluation), arguments.format)
    print(f"Written to {folder}", file=sys.stderr)
    return 0


def _evaluation_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    whole = {name: round(value, _ROUNDED) for name, value in evaluation.metrics.items()}
    rows: list[dict[str, Any]] = [
        {"class": "all", "images": evaluation.images, "f1": whole["f1"], "accuracy": whole["accuracy"]}
        | {name: whole[name] for name in ("precision", "recall")}
    ]
    for per_class in evaluation.per_class:
        facts = {name: per_class[name] for name in ("f1", "precision", "recall")}
        rows.append(
            {
                "class": per_class["class"],
                "images": per_class["support"],
                "f1": round(float(facts["f1"]), _ROUNDED),
                "accuracy": float("nan"),
                "precision": round(float(facts["precision"]), _ROUNDED),
                "recall": round(float(facts["recall"]), _ROUNDED),
            }
        )
    return rows
