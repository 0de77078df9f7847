"""Pages of models: collects what a page says, from a model folder, an evaluation or predictions."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.data import NO_LIMIT
from benchmark.deployment import (
    Deployment,
    Evaluation,
    Prediction,
    Predictor,
    blended,
    export_folders,
    find_model,
    find_target,
    open_explainer,
    target_names,
)
from benchmark.errors import ArgumentError, DataError
from benchmark.finetuning import ALREADY_DONE, FineTuned, augmented_views
from benchmark.options import PredictOptions
from benchmark.pipeline.cosmetics import Cosmetics
from benchmark.records import (
    MAX_PIXELS,
    Backbone,
    Float32,
    ImageSet,
    Int64,
    Observer,
    Task,
    UInt8,
    WeightsKind,
)
from benchmark.reporting import (
    ExportUse,
    JudgedImages,
    ModelCard,
    ModelReport,
    PredictionPage,
    ShownImage,
    refresh_exports,
    write_card,
    write_model_page,
    write_prediction_page,
)
from benchmark.statistics import Calibration, CalibrationBin, Interval
from benchmark.storage import parse_json, read_small

_MISTAKES, _VIEWED, _VIEWS = 12, 3, 5
_FEW_IMAGES, _MOST_SHOWN = 10, 300
_MANY_UNLIKE = 0.1
_KERAS = "keras"
_MOMENTS = {"before": "before training", "phase1": "after phase 1", "phase2": "after phase 2"}


def report_model(model: FineTuned, images: ImageSet, backbone: Backbone, observer: Observer) -> None:
    """Write the page and the card of a fine-tuned model; what cannot be made is told and costs nothing.

    Raises:
        StorageError: no room.
    """
    cosmetics = Cosmetics()
    report = cosmetics.make("report.html", lambda: _report(model, images, backbone))
    if report is not None:
        cosmetics.make("report.html", lambda: write_model_page(report, model.model_dir))
        card = _card(model, images, backbone)
        cosmetics.make("README.md", lambda: write_card(report, card, model.model_dir))
    for note in cosmetics.notes:
        observer.message(note)


def report_exports(model_dir: Path, observer: Observer) -> None:
    """Tell the exports of a model on its page and its card, where it has them.

    Raises:
        StorageError: no room.
    """
    cosmetics = Cosmetics()
    cosmetics.make("report.html", lambda: refresh_exports(model_dir, _uses(model_dir)))
    for note in cosmetics.notes:
        observer.message(note)


def report_evaluation(
    evaluation: Evaluation, images: ImageSet, folder: Path, *, model: Path, observer: Observer
) -> None:
    """Write the page of an evaluation beside its tables; one that cannot be made is told and costs nothing.

    Raises:
        StorageError: no room.
    """
    cosmetics = Cosmetics()
    cosmetics.make("report.html", lambda: write_model_page(_evaluated(evaluation, images, model), folder))
    for note in cosmetics.notes:
        observer.message(note)


# --- a fine-tuned model ---------------------------------------------------------------------------------


def _report(model: FineTuned, images: ImageSet, backbone: Backbone) -> ModelReport:
    manifest, part = model.manifest, "test" if len(images.split.test) else "val"
    rows: Int64 = getattr(images.split, part)
    told = parse_json(read_small(model.model_dir / "metrics.json"))
    judged = JudgedImages(
        part=f"{'test' if part == 'test' else 'validation'} part",
        labels=images.classes,
        task=images.task,
        positive=images.positive,
        threshold=manifest.threshold,
        average=_average(model),
        sure_from=manifest.sure_from,
        probabilities=model.probabilities(images, part),
        targets=images.head_targets()[rows],
        groups=None if images.groups is None else images.groups[rows],
        paths=[images.paths[row] for row in rows],
        seed=manifest.seed,
        chose_threshold=part == "val",
    )
    mistakes, unexplained = _mistakes(judged, images.root, model.model_dir)
    return ModelReport(
        title=f"{images.name}: {model.backbone}, {manifest.recipe}",
        summary=_summary(model, judged, images),
        judged=judged,
        notes=[note for note in model.notes if not note.startswith(ALREADY_DONE)],
        facts=_facts(model, images, backbone),
        moments=_moments(model),
        before=_calibration(told["calibration"]["before"]),
        after=_calibration(told["calibration"]["after"]),
        promised=bool(told["abstention"]["promised"]),
        mistakes=mistakes,
        unexplained=unexplained,
        history=_history(model.model_dir),
        kept_epoch=int(told["best"].get(model.kept_phase, {}).get("epoch", 0)),
        views=_views(model, images),
        classes=_class_counts(images),
        limits=tuple(_limits(model, judged, images, part)),
        exports=_uses(model.model_dir),
        commands=_commands(model.model_dir),
    )


def _average(model: FineTuned) -> Any:  # noqa: ANN401 - Average
    from benchmark.statistics import default_average

    return default_average(model.manifest.task, model.manifest.average)


def _summary(model: FineTuned, judged: JudgedImages, images: ImageSet) -> str:
    found = judged.scores["F1"]
    return (
        f"{model.backbone} tells {', '.join(images.classes)} apart: F1 {found.value:.3f} "
        f"[{found.low:.3f}, {found.high:.3f}] on the {judged.part}, {len(judged.paths):,} images."
    )


def _moments(model: FineTuned) -> list[tuple[str, Mapping[str, Mapping[str, float] | None]]]:
    found, recipe = [], _recipe(model)
    for name, parts in model.phases.items():
        if parts is not None:
            from_board = name == "before" and recipe["head"].get("start") == "board"
            shown = "the board's head" if from_board else _MOMENTS.get(name, name)
            found.append((f"{shown}{' (kept)' if name == model.kept_phase else ''}", parts))
    return found


def _recipe(model: FineTuned) -> Mapping[str, Any]:
    """The recipe as it was carried out."""
    return dict(parse_json(read_small(model.model_dir / "run.json"))["recipe"])


def _calibration(stored: Mapping[str, Any]) -> Calibration:
    bins = tuple(
        CalibrationBin(stated=one["stated"], found=Interval(**one["found"]), images=one["images"])
        for one in stored["bins"]
    )
    return Calibration(error=stored["error"], by_chance=stored["by_chance"], bins=bins)


def _facts(model: FineTuned, images: ImageSet, backbone: Backbone) -> dict[str, str]:
    manifest, groups = model.manifest, images.groups
    weights = manifest.weights
    licensed = backbone.licence and weights == WeightsKind.IMAGENET
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return {
        "data": f"{images.name}, {len(images):,} images",
        **({} if images.positive is None else {"positive class": images.classes[images.positive]}),
        **({} if groups is None else {"groups of related images": f"{len(np.unique(groups)):,}"}),
        **({"left out": f"{len(images.rejected):,} files"} if images.rejected else {}),
        "backbone": f"{manifest.backbone}, weights {Path(weights).name} ({manifest.weights_sha256[:12]})",
        **({"licence of these weights": backbone.licence} if licensed else {}),
        "recipe": manifest.recipe,
        "input": f"{manifest.input_size} x {manifest.input_size} pixels, {manifest.resize}",
        "threshold": f"{manifest.threshold:.4g}",
        "temperature": f"{manifest.temperature:.3g}",
        "seed": str(manifest.seed),
        "data fingerprint": manifest.data_fingerprint[:16],
        "made with": versions,
    }


def _class_counts(images: ImageSet) -> dict[str, dict[str, int]]:
    parts = {"train": images.split.train, "validation": images.split.val, "test": images.split.test}
    found = {part: images.class_sizes(rows) for part, rows in parts.items() if len(rows)}
    return {name: {part: sizes[name] for part, sizes in found.items()} for name in images.classes}


def _limits(model: FineTuned, judged: JudgedImages, images: ImageSet, part: str) -> Iterator[str]:
    grouping = model.comparison.grouping
    related = "" if judged.groups is None else f" in {len(np.unique(judged.groups)):,} groups"
    yield (
        f"The scores are about images like the {len(judged.paths):,}{related} of the {judged.part}: other "
        "cameras, sites and light are not in them."
    )
    if part == "val":
        yield "There is no test part. Validation images chose the epoch and the threshold, and flatter."
    if grouping is None:
        yield "Images were split one by one: where several show one object, the scores flatter."
    elif grouping.torn:
        yield f"{grouping.torn} of {grouping.groups} groups of related images stand in more than one part."
    sizes = images.class_sizes(getattr(images.split, part))
    few = [f"{name} ({count})" for name, count in sizes.items() if count < _FEW_IMAGES]
    if few:
        yield f"Too few images of the {judged.part} to say much: {', '.join(few)}."
    if images.task is not Task.MULTILABEL:
        marked = "" if model.manifest.unlike_from is None else "; predict marks what is unlike these images"
        yield f"Whatever an image shows, it is called one of {', '.join(images.classes)}{marked}."
    yield "Probabilities hold for these shares of the classes: where a class is rarer, fewer finds are right."


def _history(model_dir: Path) -> list[dict[str, float]]:
    try:
        content = read_small(model_dir / "history.csv").decode()
    except OSError:  # nothing was trained
        return []
    rows = csv.DictReader(io.StringIO(content))
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def _views(model: FineTuned, images: ImageSet) -> list[list[UInt8]]:
    """Training images, each followed by views as training saw them; nothing where nothing was changed."""
    recipe = _recipe(model)
    rows = images.split.train[:_VIEWED]
    trained = any(model.phases.get(phase) for phase in ("phase1", "phase2"))
    if not trained or not len(rows):
        return []
    _, description = find_model(model.model_dir)
    pixels = np.stack([_pixels(images.root / images.paths[row], description) for row in rows])
    ids = [images.image_ids[row] for row in rows]
    views = augmented_views(recipe, pixels, ids, seed=model.manifest.seed, count=_VIEWS)
    return [[pixels[at], *(view[at] for view in views)] for at in range(len(rows))] if len(views) else []


def _commands(model_dir: Path) -> list[str]:
    model = shlex.quote(str(model_dir))
    return [
        f"backbones predict {model} PHOTOS...",
        f"backbones evaluate {model} OTHER_LABELLED_PHOTOS",
        f"backbones export {model} --to onnx,tflite-int8",
    ]


def _pixels(path: Path, description: Deployment) -> UInt8:
    # However large: the data were accepted with a limit of their own.
    return description.pixels_of(path, max_pixels=NO_LIMIT)


def _mistakes(judged: JudgedImages, root: Path, model: Path) -> tuple[list[ShownImage], str]:
    """The surest mistakes with what they rest on, and why that is not there."""
    _, description = find_model(model)
    chosen, pixels = [], []
    for at in judged.mistakes(_MISTAKES):
        try:
            pixels.append(_pixels(root / judged.paths[at], description))
            chosen.append(at)
        except DataError:
            continue
    heats, why = _heat_maps(model, description, pixels, [_explained(judged, at) for at in chosen])
    shown = [
        ShownImage(
            pixels=image,
            truth=judged.truths[at],
            answer=judged.answers[at],
            probability=float(judged.sure[at]),
            path=judged.paths[at],
            doubt="unsure" if judged.sure[at] < judged.sure_from else "",
            heat=heat,
        )
        for at, image, heat in zip(chosen, pixels, heats, strict=True)
    ]
    return shown, why


def _explained(judged: JudgedImages, at: int) -> str | None:
    """The class whose evidence a mistake's map shows; None takes the most probable one."""
    return judged.answers[at] if judged.answers[at] in judged.labels else None


def _heat_maps(
    model: Path, description: Deployment, pixels: Sequence[UInt8], labels: Sequence[str | None]
) -> tuple[list[UInt8 | None], str]:
    """Each image with what speaks for a label laid over it, and why there is none."""
    nothing: list[UInt8 | None] = [None] * len(pixels)
    if not pixels:
        return nothing, ""
    if description.target != _KERAS:
        return nothing, "Heat maps need the Keras model."
    try:
        explainer = open_explainer(model)
        found = nothing
        for label in dict.fromkeys(labels):
            rows = [at for at, other in enumerate(labels) if other == label]
            maps, _ = explainer.explain(np.stack([pixels[at] for at in rows]), label)
            for at, heat in zip(rows, maps, strict=True):
                found[at] = blended(pixels[at], heat)
        return found, ""
    except ArgumentError as error:
        return nothing, f"There are no heat maps: {error.what}."


# --- exports --------------------------------------------------------------------------------------------


def _uses(model_dir: Path) -> list[ExportUse]:
    """The exports that are there, then the formats that could be."""
    made = {folder.name: folder for folder in export_folders(model_dir)}
    return [_use(name, made.get(name)) for name in sorted(target_names(), key=lambda name: name not in made)]


def _use(name: str, folder: Path | None) -> ExportUse:
    target = find_target(name)
    parity = {} if folder is None else _parity(folder)
    return ExportUse(
        target=name,
        about=target.about,
        runtime=target.runtime,
        folder="" if folder is None else f"export/{folder.name}",
        status=str(parity.get("status", "")),
        size_bytes=int(parity.get("size_bytes") or 0),
        agreement=_number(parity, "label_agreement"),
        difference=_number(parity, "mean_difference"),
        latency_ms=_number(parity, "latency_p50_ms"),
        reason=str(parity.get("reason", "")),
    )


def _parity(folder: Path) -> Mapping[str, Any]:
    try:
        found = parse_json(read_small(folder / "parity.json"))
    except (OSError, ValueError):  # a page of facts for people, not the export itself
        return {}
    return found if isinstance(found, dict) else {}


def _number(found: Mapping[str, Any], name: str) -> float:
    value = found.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def _card(model: FineTuned, images: ImageSet, backbone: Backbone) -> ModelCard:
    _, description = find_model(model.model_dir)
    library = description.target
    usage = (
        "import benchmark as bb  # pip install backbone-benchmark\n\n"
        'model = bb.load_model("PATH_TO_THIS_FOLDER")\n'
        'print(model.predict(["photo.jpg"]))\n'
    )
    if library == _KERAS:
        usage += (
            "\n# or without this package: RGB, 0 to 255, the preprocessing is inside\n"
            "import keras\n\n"
            f'network = keras.saving.load_model("{description.model}")\n'
            f"probabilities = network(pixels)  # (n, {description.input_size}, {description.input_size}, 3)\n"
        )
    return ModelCard(
        data_name=images.name,
        framework=library,
        tags=(backbone.family, "backbone-benchmark"),
        usage=usage,
    )


# --- predictions ----------------------------------------------------------------------------------------


def report_predictions(
    predictor: Predictor, found: Sequence[Prediction], options: PredictOptions, path: Path
) -> tuple[str, ...]:
    """Write a page of labelled photographs; why there is none, where it could not be made.

    Raises:
        StorageError: no room.
    """
    cosmetics = Cosmetics()
    cosmetics.make(path.name, lambda: write_prediction_page(_predicted(predictor, found, options), path))
    return tuple(cosmetics.notes)


def _predicted(predictor: Predictor, found: Sequence[Prediction], options: PredictOptions) -> PredictionPage:
    description = predictor.description
    read = [one for one in found if not one.error]
    unread = [(one.path, one.error) for one in found if one.error]
    shown = []
    for one in sorted(read, key=lambda one: (not one.doubt, one.sureness))[:_MOST_SHOWN]:
        try:
            limit = options.max_pixels or MAX_PIXELS
            pixels = description.pixels_of(Path(one.path), max_pixels=limit)
        except DataError as error:  # a large photograph was read window by window
            unread.append((one.path, f"not shown: {error.what}"))
            continue
        shown.append(
            ShownImage(
                pixels=pixels,
                truth="",
                answer=one.label,
                probability=one.sureness,
                path=one.path,
                doubt=one.doubt,
            )
        )
    threshold = description.threshold if options.threshold is None else options.threshold
    least = description.sure_from if options.sure_from is None else options.sure_from
    facts = {
        "model": str(options.model),
        "backbone": description.backbone,
        "labels": ", ".join(description.labels),
        **({} if description.task is Task.MULTICLASS else {"threshold": f"{threshold:.4g}"}),
        **({"unsure below": f"{least:.3f}"} if least and options.tiles is None else {}),
        **({} if options.tiles is None else {"windows": f"{options.tiles} pixels"}),
    }
    return PredictionPage(
        title=f"{len(found):,} images by {description.backbone}",
        answers=[one.label for one in read],
        doubtful=sum(bool(one.doubt) for one in read),
        shown=shown,
        unread=unread,
        facts=facts,
    )


# --- an evaluation --------------------------------------------------------------------------------------


def _evaluated(evaluation: Evaluation, images: ImageSet, model: Path) -> ModelReport:
    judged = judged_evaluation(evaluation, images)
    mistakes, unexplained = _mistakes(judged, images.root, model)
    described, found = evaluation.model, judged.scores["F1"]
    name = " ".join(filter(None, (described.backbone, described.recipe, described.target)))
    return ModelReport(
        title=f"{images.name}: {name} on other images",
        summary=f"F1 {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] on {len(judged.paths):,} images.",
        judged=judged,
        notes=tuple(_about_seen(evaluation)),
        facts={
            "data": f"{images.name}, {len(images):,} images",
            "data fingerprint": evaluation.data_fingerprint[:16],
            "model": str(model),
            "model SHA-256": described.model_sha256[:16],
            "threshold": f"{evaluation.threshold:.4g}",
            **({} if evaluation.unlike is None else {"unlike the training images": str(evaluation.unlike)}),
            "unreadable": str(evaluation.unreadable),
            "left out": str(len(evaluation.rejected)),
        },
        mistakes=mistakes,
        unexplained=unexplained,
        limits=(
            "Only identical bytes count as seen: another photograph of the same object counts as new.",
            *([f"No image of {', '.join(evaluation.absent)}."] if evaluation.absent else []),
        ),
    )


def judged_evaluation(evaluation: Evaluation, images: ImageSet) -> JudgedImages:
    """The images that an evaluation scored."""
    described, labels = evaluation.model, evaluation.labels
    scored = [
        at
        for at, (row, seen) in enumerate(zip(evaluation.rows, evaluation.seen_as, strict=True))
        if not row.error and (evaluation.includes_seen or not seen)
    ]
    probabilities: Float32 = np.array([evaluation.rows[at].probabilities for at in scored], np.float32)
    targets = evaluation.targets[scored]
    positive = None if described.positive is None else labels.index(described.positive)
    columns = slice(None) if positive is None else slice(positive, positive + 1)
    return JudgedImages(
        part="images that the model has not seen" if not evaluation.includes_seen else "images",
        labels=labels,
        task=described.task,
        positive=positive,
        threshold=evaluation.threshold,
        average=evaluation.average,
        sure_from=evaluation.abstention.sure_from,
        probabilities=probabilities[:, columns],
        targets=targets[:, columns],
        groups=None if images.groups is None else images.groups[scored],
        paths=[images.paths[at] for at in scored],
        chose_threshold=_chose_threshold(evaluation),
    )


def _chose_threshold(evaluation: Evaluation) -> bool | None:
    if evaluation.threshold != evaluation.model.threshold:  # it was given
        return False
    if evaluation.seen is None:
        return None
    return evaluation.includes_seen and "validation" in evaluation.seen


def _about_seen(evaluation: Evaluation) -> Iterator[str]:
    strange = (evaluation.unlike or 0) / evaluation.images
    if strange > _MANY_UNLIKE:
        yield (
            f"UNLIKE: {strange:.0%} of these images are unlike the training images, by light or by content: "
            "look at them in predictions.csv."
        )
    if evaluation.seen is None:
        yield "The model does not say which images it was trained on: some of these may be among them."
    if evaluation.includes_seen:
        yield "SEEN: images that the model was trained on, or that chose its epoch, are in these scores."
    for use, found in (evaluation.seen or {}).items():
        if not evaluation.includes_seen:
            yield f"{found['images']:,} images of its {use} are left out; F1 {found['f1']:.3f} on them."
