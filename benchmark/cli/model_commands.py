"""Commands about models: recipes, finetune, study, export, predict, evaluate."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cli.observer import make_observer
from benchmark.cli.printing import print_rows, put, rows_text, say
from benchmark.errors import ArgumentError, DataError, StorageError
from benchmark.options import (
    EvaluateOptions,
    ExportOptions,
    FinetuneOptions,
    OutputOptions,
    PredictOptions,
    RecipesOptions,
    ServeOptions,
    StudyOptions,
)
from benchmark.records import MAX_PIXELS
from benchmark.storage import write_whole

if TYPE_CHECKING:
    from benchmark.deployment import Evaluation, Explainer, Prediction
    from benchmark.finetuning import FineTuned, Recipe
    from benchmark.records import Observer

_ROUNDED = 4
_MOST_LINES = 20
_HEATMAPS = "heatmaps"
_USES = {
    "training": "are ones that the model was trained on",
    "validation": "are ones that chose its epoch and threshold",
}


def recipes_command(options: RecipesOptions, output: OutputOptions) -> int:
    """``backbones recipes``."""
    from benchmark.finetuning import Recipe

    if options.name is not None:
        put(Recipe.text(options.name))
        return 0
    print_rows([_recipe_row(Recipe.load(name)) for name in Recipe.names()], output.format)
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


def finetune_command(options: FinetuneOptions, output: OutputOptions) -> int:
    """``backbones finetune``."""
    from benchmark.pipeline import FinetuneJob, finetune_backbones

    with make_observer(quiet=output.quiet) as observer:
        result = finetune_backbones(FinetuneJob.of(options), observer)
    print_rows([_model_row(model) for model in result.models], output.format)
    for model in result.models:
        for note in model.notes:
            say(f"{model.backbone}: {note}")
    for remark in result.remarks:
        say(remark)
    for model in result.models:
        say(f"Written to {model.model_dir}")
    return 1 if result.failed else 0


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


def study_command(options: StudyOptions, output: OutputOptions) -> int:
    """``backbones study``."""
    from benchmark.pipeline import study_backbones
    from benchmark.reporting import data_shown, rules_shown

    with make_observer(quiet=output.quiet) as observer:
        done = study_backbones(options, observer)
    if output.format == "table":
        print_rows(rules_shown(done.tables), output.format)
        put("\n")
        print_rows(data_shown(done.tables), output.format)
    else:
        print_rows(done.tables.rules, output.format)
    for sentence in done.tables.sentences:
        say(sentence)
    say(f"Written to {done.folder}")
    return 1 if done.failed else 0


def export_command(options: ExportOptions, output: OutputOptions) -> int:
    """``backbones export``."""
    from benchmark.deployment import parse_targets
    from benchmark.pipeline import export_to

    if (options.model is None) is (options.from_board is None):
        raise ArgumentError("exports one model", expected="`model`, or `from_board` with DATA")
    if options.backbone is not None and options.from_board is None:
        raise ArgumentError("names one of a board", where="`backbone`", expected="`from_board`")
    parse_targets(options.to)  # a typo is told before a board's model is made
    with make_observer(quiet=output.quiet) as observer:
        model = options.model or _ship_board(options, observer)
        results = export_to(model, options, observer)
    print_rows([_rounded(result.row()) for result in results], output.format)
    return 0 if all(result.passed for result in results) else 1


def _ship_board(options: ExportOptions, observer: Observer) -> Path:
    """The model folder of a board's backbone and head, made where it is not there."""
    from benchmark.pipeline import FinetuneJob, finetune_backbones

    given = {"data": options.from_board, "recipe": "frozen", "winner": options.backbone}
    if options.backbone == "winner":
        given["winner"] = "auto"
    whole = FinetuneOptions.check({**given, "cache": options.cache, "results": options.results})
    (model,) = finetune_backbones(FinetuneJob.of(whole), observer).models
    for line in (*model.notes, f"Written to {model.model_dir}"):
        observer.message(line)
    return model.model_dir


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def predict_command(options: PredictOptions, output: OutputOptions) -> int:
    """``backbones predict``."""
    from benchmark.deployment import open_explainer, open_model
    from benchmark.pipeline import predict_images, report_predictions

    _check_output(options.output)
    # Before any work, and only where it is needed: it loads TensorFlow.
    explainer = open_explainer(options.model) if options.heatmaps and options.tiles is None else None
    predictor = open_model(options.model)
    with make_observer(quiet=output.quiet) as observer:
        predicted = predict_images(predictor, options, observer)
    found, failures = predicted.found, list(predicted.failures)
    _show(predicted.rows(), options.output, output.format)
    if options.page is not None:
        notes = report_predictions(predictor, found, options, options.page)
        _say_lines(notes or [f"Written to {options.page}"])
    if options.heatmaps and explainer:
        # Only now: nothing that goes wrong with a picture costs a prediction.
        with make_observer(quiet=output.quiet) as observer:
            failures = _explain(options, explainer, found, options.heatmaps, observer)
    unread = sum(bool(prediction.error) for prediction in found)
    _say_lines([f"{unread} of {len(found)} files could not be read; see the error column."] * bool(unread))
    _say_lines([f"No heatmap of {failure}" for failure in failures])
    return 1 if failures or unread == len(found) else 0


def _check_output(file: Path | None) -> None:
    """Refuse before any work what could not be written."""
    if file is not None and _style_of(file) not in ("csv", "json"):
        raise ArgumentError(
            "neither CSV nor JSON", where="`output`", expected="a name that ends in .csv or .json", got=file
        )


def _style_of(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _show(rows: Sequence[dict[str, Any]], file: Path | None, style: str) -> None:
    """Print rows, or write them to a file; where that fails they are printed after all."""
    if file is None:
        print_rows(rows, style)
        sys.stdout.flush()
        return
    text = rows_text(rows, _style_of(file))
    try:
        write_whole(file, text.encode(), root=file.parent)
    except StorageError:
        put(text)
        raise
    say(f"Written to {file}")


def _say_lines(lines: Sequence[str]) -> None:
    """Lines on stderr, of which there may be as many as files."""
    for line in lines[:_MOST_LINES]:
        say(line)
    if len(lines) > _MOST_LINES:
        say(f"... and {len(lines) - _MOST_LINES} more")


def _explain(
    options: PredictOptions,
    explainer: Explainer,
    found: Sequence[Prediction],
    folder: Path,
    observer: Observer,
) -> list[str]:
    """Write a Grad-CAM overlay of each image that could be read; what became of none."""
    from benchmark.deployment import picture_name

    readable = [Path(one.path) for one in found if not one.error]
    failures = []
    observer.started(_HEATMAPS, len(readable))
    for number, path in enumerate(readable):
        try:
            limit = options.max_pixels or MAX_PIXELS
            pixels = explainer.description.pixels_of(path, max_pixels=limit)
            png = explainer.picture(pixels, threshold=options.threshold)
            write_whole(folder / picture_name(number, path), png, root=folder)
        except (DataError, StorageError) as error:
            failures.append(f"{path}: {error}")
        observer.advanced(_HEATMAPS, number + 1)
    observer.finished(_HEATMAPS, f"{len(failures)} failed" if failures else "")
    return failures


def serve_command(options: ServeOptions, output: OutputOptions) -> int:
    """``backbones serve``."""
    from benchmark.serving import serve

    try:
        with make_observer(quiet=output.quiet) as observer:
            serve(options, observer)
    except KeyboardInterrupt:
        say("Stopped.")
    return 0


def evaluate_command(options: EvaluateOptions, output: OutputOptions) -> int:
    """``backbones evaluate``."""
    from benchmark.deployment import open_model
    from benchmark.pipeline import evaluate_model

    predictor = open_model(options.model)
    with make_observer(quiet=output.quiet) as observer:
        evaluation, folder = evaluate_model(predictor, options, observer)
    print_rows(_evaluation_rows(evaluation), output.format)
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
    if evaluation.unlike:
        yield f"Unlike the training images: {evaluation.unlike} of {evaluation.images}; see predictions.csv."
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
