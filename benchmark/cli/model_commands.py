"""Commands about one model: recipes, finetune, export, predict, evaluate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.backbones import parse_weights
from benchmark.cli import arguments as read
from benchmark.cli.observer import make_observer
from benchmark.cli.printing import print_rows, put, rows_text, say
from benchmark.errors import ArgumentError, DataError, StorageFull
from benchmark.records import Task
from benchmark.storage import write_whole

if TYPE_CHECKING:
    from benchmark.deployment import Evaluation, Explainer, Prediction, Predictor, TileOptions
    from benchmark.finetuning import FineTuned, Recipe
    from benchmark.pipeline import FinetuneJob
    from benchmark.records import Observer

_ROUNDED = 4
_MOST_LINES = 20
_HEATMAPS = "heatmaps"
_USES = {
    "training": "are ones that the model was trained on",
    "validation": "are ones that chose its epoch and threshold",
}


def recipes_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones recipes``."""
    from benchmark.finetuning import load_recipe, recipe_names, recipe_text

    if arguments.name is not None:
        put(recipe_text(arguments.name))
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
            say(f"{model.backbone}: {note}")
    for remark in result.remarks:
        say(remark)
    for model in result.models:
        say(f"Written to {model.model_dir}")
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
        image_size=arguments.image_size,
        options=replace(read.data_options(arguments), jobs=arguments.jobs),
        auto_groups=None if arguments.groups is None else read.wants_auto_groups(arguments),
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
    for kind, f1 in model.comparison.test_f1_by_split.items():
        row[f"test_f1_{kind}_split"] = round(f1, _ROUNDED)
    return row


def export_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones export``."""
    from benchmark.deployment import ExportOptions, export_model, parse_targets

    targets = parse_targets(arguments.to)
    options = ExportOptions(parity_images=arguments.parity_images, timeout_seconds=arguments.timeout)
    with make_observer(quiet=arguments.quiet) as observer:
        results = export_model(arguments.model, targets, options, data=arguments.data, observer=observer)
    print_rows([_rounded(result.row()) for result in results], arguments.format)
    return 0 if all(result.passed for result in results) else 1


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def predict_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones predict``."""
    from benchmark.deployment import open_model

    _check_predict(arguments)
    explainer = None
    if arguments.heatmaps is not None and arguments.tiles is None:
        from benchmark.deployment import open_explainer  # loads TensorFlow

        explainer = open_explainer(arguments.model)
    predictor = open_model(arguments.model)
    _check_threshold(arguments.threshold, predictor)
    with make_observer(quiet=arguments.quiet) as observer:
        found, failures = _predictions(arguments, predictor, observer)
    labels = predictor.description.labels
    _show([_prediction_row(prediction, labels) for prediction in found], arguments)
    if explainer is not None:
        # Only now: nothing that goes wrong with a picture costs a prediction.
        with make_observer(quiet=arguments.quiet) as observer:
            failures = _explain(arguments, explainer, found, observer)
    unread = sum(bool(prediction.error) for prediction in found)
    _say_lines([f"{unread} of {len(found)} files could not be read; see the error column."] * bool(unread))
    _say_lines([f"No heatmap of {failure}" for failure in failures])
    return 1 if failures or unread == len(found) else 0


def _check_predict(arguments: argparse.Namespace) -> None:
    """Refuse before any work what would be ignored or could not be written."""
    for name in ("overlap", "merge"):
        if arguments.tiles is None and getattr(arguments, name) is not None:
            raise ArgumentError("says how windows are laid and merged", where=f"--{name}", expected="--tiles")
    if arguments.output is not None and _style_of(arguments.output) not in ("csv", "json"):
        raise ArgumentError(
            "neither CSV nor JSON",
            where="--output",
            expected="a name that ends in .csv or .json",
            got=arguments.output,
        )


def _check_threshold(threshold: float | None, predictor: Predictor) -> None:
    if threshold is not None and predictor.description.task is Task.MULTICLASS:
        raise ArgumentError(
            "exclusive classes have no threshold: the most probable one is taken",
            where="--threshold",
            next_step="Leave it out.",
        )


def _style_of(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _show(rows: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print rows, or write them to ``--output``; where that fails they are printed after all."""
    if arguments.output is None:
        print_rows(rows, arguments.format)
        sys.stdout.flush()
        return
    text = rows_text(rows, _style_of(arguments.output))
    try:
        write_whole(arguments.output, text.encode(), root=arguments.output.parent)
    except StorageFull:
        put(text)
        raise
    say(f"Written to {arguments.output}")


def _say_lines(lines: Sequence[str]) -> None:
    """Lines on stderr, of which there may be as many as files."""
    for line in lines[:_MOST_LINES]:
        say(line)
    if len(lines) > _MOST_LINES:
        say(f"... and {len(lines) - _MOST_LINES} more")


def _predictions(
    arguments: argparse.Namespace, predictor: Predictor, observer: Observer
) -> tuple[Sequence[Prediction], list[str]]:
    """Predictions, and what became of no heatmap."""
    from benchmark.deployment import PredictOptions, predict, predict_tiles

    if arguments.tiles is not None:
        tiled = predict_tiles(
            predictor,
            arguments.images,
            _tile_options(arguments),
            overlays=arguments.heatmaps,
            observer=observer,
        )
        failures = [f"{one.prediction.path}: {one.overlay_error}" for one in tiled if one.overlay_error]
        return [one.prediction for one in tiled], failures
    plain = PredictOptions(
        batch_size=arguments.batch_size,
        threshold=arguments.threshold,
        follow_links=arguments.follow_links,
    )
    options = replace(plain, max_pixels=arguments.max_pixels or plain.max_pixels)
    return predict(predictor, arguments.images, options, observer=observer), []


def _tile_options(arguments: argparse.Namespace) -> TileOptions:
    from benchmark.deployment import Merge, TileOptions

    plain = TileOptions(
        size=arguments.tiles,
        merge=None if arguments.merge is None else Merge(arguments.merge),
        threshold=arguments.threshold,
        batch_size=arguments.batch_size,
        follow_links=arguments.follow_links,
    )
    return replace(
        plain,
        overlap=plain.overlap if arguments.overlap is None else arguments.overlap,
        max_pixels=arguments.max_pixels or plain.max_pixels,
    )


def _explain(
    arguments: argparse.Namespace, explainer: Explainer, found: Sequence[Prediction], observer: Observer
) -> list[str]:
    """Write a Grad-CAM overlay of each image that could be read; what became of none."""
    from benchmark.deployment import picture_name

    readable = [Path(one.path) for one in found if not one.error]
    failures = []
    observer.started(_HEATMAPS, len(readable))
    for number, path in enumerate(readable):
        try:
            png = _explained(arguments, explainer, path)
            write_whole(arguments.heatmaps / picture_name(number, path), png, root=arguments.heatmaps)
        except (DataError, StorageFull) as error:
            failures.append(f"{path}: {error}")
        observer.advanced(_HEATMAPS, number + 1)
    observer.finished(_HEATMAPS, f"{len(failures)} failed" if failures else "")
    return failures


def _explained(arguments: argparse.Namespace, explainer: Explainer, path: Path) -> bytes:
    from benchmark.data import DataOptions, load_pixels
    from benchmark.deployment import explain_png

    description = explainer.description
    most = arguments.max_pixels or DataOptions().max_pixels
    pixels = load_pixels(
        path,
        description.input_size,
        description.resize,
        max_pixels=most,
        bit_depth=description.bit_depth,
    )
    return explain_png(explainer, pixels, threshold=arguments.threshold)


def _prediction_row(prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    known = prediction.probabilities or (float("nan"),) * len(labels)
    probabilities = {f"p_{label}": round(value, 6) for label, value in zip(labels, known, strict=True)}
    return {"path": prediction.path, "label": prediction.label, **probabilities, "error": prediction.error}


def evaluate_command(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """``backbones evaluate``."""
    from benchmark.data import load_images, tell_reading
    from benchmark.deployment import PredictOptions, evaluate, open_model
    from benchmark.pipeline import results_folder
    from benchmark.reporting import evaluation_folder, write_evaluation

    predictor = open_model(arguments.model)
    _check_threshold(arguments.threshold, predictor)
    with make_observer(quiet=arguments.quiet) as observer:
        images = load_images(
            arguments.data,
            cache=arguments.cache,
            options=replace(read.data_options(arguments), bit_depth=predictor.description.bit_depth),
            known=predictor.description.known_labels,
            observer=observer,
        )
        tell_reading(images, observer)
        options = PredictOptions(threshold=arguments.threshold, max_pixels=arguments.max_pixels)
        evaluation = evaluate(
            predictor, images, options, include_seen=arguments.include_seen, observer=observer
        )
        results = results_folder(arguments.results, images, arguments.data)
        results.claim(observer)
    folder = evaluation_folder(evaluation, results.path)
    write_evaluation(evaluation, folder, model=arguments.model, data=arguments.data)
    print_rows(_evaluation_rows(evaluation), arguments.format)
    _say_lines([*_left_out(evaluation), f"Written to {folder}"])
    return 0


def _left_out(evaluation: Evaluation) -> Iterator[str]:
    """What the scores are not about, and what is in them that should not be."""
    if evaluation.seen is None:
        yield "The model does not say which images it was trained on: some of these may be among them."
    for part, found in (evaluation.seen or {}).items():
        use = _USES[part]
        place = "in the scores" if evaluation.includes_seen else "not in the scores"
        yield f"{found['images']:,} images {use}: F1 {found['f1']:.4f} on them, {place}; see predictions.csv."
    if evaluation.unreadable:
        yield f"Images not readable any more: {evaluation.unreadable}; see predictions.csv."
    if evaluation.absent:
        names = ", ".join(evaluation.absent)
        yield f"No image of {names}: these images say nothing about how well that is found."


def _evaluation_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    whole = {name: round(value, _ROUNDED) for name, value in evaluation.metrics.items()}
    scored: dict[str, Any] = {"class": "all", "images": evaluation.images}
    left_out = {"unreadable": evaluation.unreadable, "rejected": len(evaluation.rejected)}
    rows = [scored | {name: whole[name] for name in ("f1", "accuracy", "precision", "recall")} | left_out]
    for per_class in evaluation.per_class:
        facts = {name: round(float(per_class[name]), _ROUNDED) for name in ("f1", "precision", "recall")}
        unknown = dict.fromkeys(("accuracy", *left_out), float("nan"))
        row = {"class": per_class["class"], "images": per_class["support"], **facts, **unknown}
        rows.append({name: row[name] for name in rows[0]})
    return rows
