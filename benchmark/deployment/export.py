"""Exporting a fine-tuned model: convert, compare on validation images, keep the figures beside the file."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.deployment.description import (
    DESCRIPTION,
    EXPORT,
    LABELS,
    check_files,
    describe,
    describe_source,
)
from benchmark.deployment.examples import EXAMPLE, example_script
from benchmark.deployment.parity import Parity, compare, on_the_bound, verdict
from benchmark.deployment.samples import (
    SplitFiles,
    SplitRow,
    read_split,
    some_photos,
    stratified,
    targets_of,
    write_images,
)
from benchmark.deployment.targets import find_target, parse_targets, require_packages
from benchmark.deployment.worker import Conversion, ModelRun, Work, carry_out
from benchmark.errors import ExportError
from benchmark.finetuning import SEEN_FILES, load_manifest
from benchmark.options import ExportOptions
from benchmark.records import Float32, Manifest, Observer, Silent, UInt8
from benchmark.storage import (
    MOST_LIST_BYTES,
    check_inside,
    parse_json,
    read_small,
    remove_leftovers,
    replace_folder,
    sha256_file,
    storage_error,
    temporary_beside,
    write_whole,
)

_TASK = "export"
_KERAS_NAME = "reference"
_EXAMPLE_PHOTOS = 8
_CALIBRATION_IMAGES = 200  # of the training part, which the ranges of int8 exports are measured on
_LATENCY_REPEATS = 30
_SAMPLE_SEED = 0
_PARITY = "parity.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What became of one export; figures are nan, and ``parity`` is None, where it could not be run."""

    target: str
    folder: Path | None  # None where nothing could be converted
    passed: bool  # whether it exists and is inside its tolerance
    reason: str = ""  # why not
    sha256: str = ""  # of its deployment.json, which names the SHA-256 of every file of the model
    size_bytes: int = 0  # of the model file or files
    parity: Parity | None = None  # against the model that it was made from
    latency_p50_ms: float = math.nan  # of one image in one call, on this machine; nan where it was not timed
    latency_p95_ms: float = math.nan
    example_max_difference: float = math.nan  # of a probability that ``example.py`` finds
    notes: tuple[str, ...] = ()  # how the conversion departs from the plain one
    bounds: tuple[str, ...] = ()  # what stands exactly on the tolerance

    def row(self) -> dict[str, Any]:
        """One flat row for a table."""
        figures = asdict(self.parity) if self.parity else dict.fromkeys(Parity.__dataclass_fields__, math.nan)
        return {
            "target": self.target,
            "status": "passed" if self.passed else "failed",
            "size_bytes": self.size_bytes,
            **figures,
            "latency_p50_ms": self.latency_p50_ms,
            "latency_p95_ms": self.latency_p95_ms,
            "example_max_difference": self.example_max_difference,
            "reason": self.reason,
            "notes": "; ".join((*self.notes, *self.bounds)),
            "folder": str(self.folder or ""),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What all exports of one model share."""

    model_dir: Path
    manifest: Manifest
    options: ExportOptions
    scratch: Path  # temporary folder for images and answers
    timed: bool  # whether single images are timed
    targets: Float32  # (N, C), of the validation images
    photos: tuple[Path, ...]  # files of some of them, which the examples are run on
    observer: Observer
    done: Counter[str] = field(default_factory=Counter)

    def advance(self, target: str, note: str, steps: int = 1) -> None:
        """So many more steps of a target are done: each is converted, then compared."""
        self.done[target] += steps
        self.observer.advanced(_TASK, self.done.total(), f"{target}: {note}")


def export_model(
    model_dir: Path,
    options: ExportOptions,
    *,
    timed: bool = True,
    observer: Observer | None = None,
) -> tuple[ExportResult, ...]:
    """Export a fine-tuned model to ``model_dir/export/<target>/`` and compare each export with it.

    Each folder holds the model, ``labels.txt``, ``deployment.json``, ``example.py`` and ``parity.json``. An
    export outside its tolerance is kept, marked as failed there and in its result. One that cannot be
    converted leaves what stood there before.

    Args:
        model_dir: a folder that fine-tuning wrote.
        options: of the command; its model is not looked at.
        timed: whether to time single images; ``time_exports`` does it later, where something else runs now.
        observer: hears of each target.

    Returns:
        One result per target, in the order given.

    Raises:
        ExportError: a package is missing, or the images cannot be had.
        ManifestError: the folder is no model.
        ArgumentError: no target, or an unknown one.
        StorageError: no room for the export.
    """
    wanted = parse_targets(options.to)
    require_packages(wanted)
    manifest = load_manifest(model_dir, verify=False)
    check_files(model_dir, manifest.files)
    observer = observer or Silent()
    observer.started(_TASK, 2 * len(wanted))
    try:
        with tempfile.TemporaryDirectory(prefix="backbones-export-") as scratch:
            files = SplitFiles(options.data, Path(manifest.data))
            compared = _prepare(model_dir, manifest, options.parity_images, Path(scratch), files)
            bench = _Bench(
                model_dir=model_dir,
                manifest=manifest,
                options=options,
                scratch=Path(scratch),
                timed=timed,
                targets=targets_of(compared, manifest),
                photos=some_photos(compared, files, _EXAMPLE_PHOTOS),
                observer=observer,
            )
            remove_leftovers(model_dir / EXPORT)
            results = _export_all(bench, wanted)
    except OSError as error:
        raise storage_error(error, model_dir / EXPORT) from error
    observer.finished(_TASK, f"{sum(result.passed for result in results)} of {len(results)} passed")
    return results


def _prepare(
    model_dir: Path, manifest: Manifest, parity_images: int, scratch: Path, files: SplitFiles
) -> tuple[SplitRow, ...]:
    """Write the calibration and validation images to scratch; the rows of the latter."""
    rows = read_split(model_dir)
    train = tuple(row for row in rows if row.part == "train")
    val = tuple(row for row in rows if row.part == "val")
    if not train or not val:
        raise ExportError(
            "the model's split has no training or no validation images",
            where=model_dir,
            got=f"{len(rows)} rows",
        )
    calibration = stratified(train, _CALIBRATION_IMAGES, _SAMPLE_SEED)
    compared = stratified(val, parity_images, _SAMPLE_SEED)
    try:
        write_images(calibration, files, manifest, scratch / "calibration.npy")
        write_images(compared, files, manifest, scratch / "validation.npy")
    except OSError as error:
        raise storage_error(error, Path(tempfile.gettempdir())) from error
    return compared


def _export_all(bench: _Bench, wanted: tuple[str, ...]) -> tuple[ExportResult, ...]:
    """Convert everything in one process, then run everything in another: neither disturbs the other."""
    before, staged, failures = _convert_all(bench, wanted)
    try:
        results = dict(_judge_all(bench, staged, before))
    finally:
        for folder in staged.values():
            shutil.rmtree(folder, ignore_errors=True)
    results |= {
        target: ExportResult(target=target, folder=None, passed=False, reason=str(error))
        for target, error in failures.items()
    }
    return tuple(results[target] for target in wanted)


def _convert_all(
    bench: _Bench, wanted: tuple[str, ...]
) -> tuple[Float32, dict[str, Path], dict[str, ExportError]]:
    """The Keras model's probabilities, staged folders by target, and why others could not be converted."""
    staged = {target: _staging(bench.model_dir, target) for target in wanted}
    failures: dict[str, ExportError] = {}
    # The Keras model is run where TensorFlow is loaded anyway.
    reference = _measurement(bench, _KERAS_NAME, bench.model_dir)
    tasks: list[Work] = [
        reference,
        *(_conversion(bench, target, folder) for target, folder in staged.items()),
    ]
    try:
        for task, answer in _work(bench, tasks):
            if task is reference:
                if isinstance(answer, ExportError):
                    raise answer
                before: Float32 = answer["probabilities"]
                continue
            target = task.name
            if isinstance(answer, ExportError):
                failures[target] = answer
                shutil.rmtree(staged.pop(target))
                bench.advance(target, answer.got, steps=2)
            else:
                _write_metadata(bench, target, staged[target], tuple(answer["notes"]))
                bench.advance(target, "converted")
    except BaseException:
        for folder in staged.values():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return before, staged, failures


def _staging(model_dir: Path, target: str) -> Path:
    folder = temporary_beside(model_dir / EXPORT / target)
    check_inside(folder, model_dir)
    folder.mkdir(parents=True)
    return folder


def _conversion(bench: _Bench, target: str, folder: Path) -> Conversion:
    return Conversion(
        name=target,
        model=(bench.model_dir / describe_source(bench.manifest).model).resolve(),
        output=(folder / find_target(target).file).resolve(),
        calibration=bench.scratch / "calibration.npy",
    )


def _work(bench: _Bench, tasks: Sequence[Work]) -> Iterable[tuple[Work, dict[str, Any] | ExportError]]:
    return carry_out(tasks, timeout_seconds=bench.options.timeout)


def _write_metadata(bench: _Bench, target: str, folder: Path, notes: tuple[str, ...]) -> None:
    """Write what a developer needs beside the converted model."""
    made = find_target(target)
    description = describe(bench.manifest, target, model=made.file, batch=made.batch, notes=notes)
    write_whole(folder / LABELS, "".join(f"{label}\n" for label in description.labels).encode(), root=folder)
    write_whole(folder / EXAMPLE, example_script(description).encode(), root=folder)
    seen = [name for name in SEEN_FILES if name in bench.manifest.files]
    for name in seen:
        write_whole(
            folder / name, read_small(bench.model_dir / name, most_bytes=MOST_LIST_BYTES), root=folder
        )
    kept = [*_model_files(folder, description.model), folder / LABELS, *(folder / name for name in seen)]
    files = {path.relative_to(folder).as_posix(): sha256_file(path) for path in kept}
    write_whole(folder / DESCRIPTION, replace(description, files=files).to_json(), root=folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _judge_all(
    bench: _Bench, staged: Mapping[str, Path], before: Float32
) -> Iterable[tuple[str, ExportResult]]:
    tasks = [_measurement(bench, target, folder) for target, folder in staged.items()]
    for task, answer in _work(bench, tasks):
        target = task.name
        result = _judged(bench, target, staged[target], answer, before)
        placed = _put_in_place(bench, result)
        bench.advance(target, result.reason or "passed")
        yield target, placed


def _measurement(bench: _Bench, name: str, folder: Path) -> ModelRun:
    is_export = name != _KERAS_NAME
    return ModelRun(
        name=name,
        folder=folder.resolve(),
        images=bench.scratch / "validation.npy",
        repeats=_LATENCY_REPEATS if is_export and bench.timed else 0,
        photos=bench.photos if is_export else (),
    )


def _judged(
    bench: _Bench, target: str, folder: Path, answer: dict[str, Any] | ExportError, before: Float32
) -> ExportResult:
    description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in _model_files(folder, description["model"]))
    result = ExportResult(
        target=target,
        folder=folder,
        passed=False,
        sha256=sha256_file(folder / DESCRIPTION),
        size_bytes=size,
        notes=tuple(description["notes"]),
    )
    if isinstance(answer, ExportError):
        return replace(result, reason=str(answer))
    manifest, after = bench.manifest, answer["probabilities"]
    parity = compare(before, after, bench.targets, manifest.task, manifest.threshold, manifest.average)
    tolerance = find_target(target).tolerance
    reason = verdict(parity, tolerance)
    return replace(
        result,
        passed=not reason,
        reason=reason,
        bounds=on_the_bound(parity, tolerance),
        parity=parity,
        latency_p50_ms=answer["latency_p50_ms"],
        latency_p95_ms=answer["latency_p95_ms"],
        example_max_difference=answer["example_max_difference"],
    )


def _model_files(folder: Path, model: str) -> list[Path]:
    path = folder / model
    if path.is_dir():
        return _files(path)
    return [other for other in _files(folder) if other.parent == folder and other.stem == path.stem]


def _put_in_place(bench: _Bench, result: ExportResult) -> ExportResult:
    """Write the verdict and rename the staged folder to its place, instead of an earlier export."""
    assert result.folder is not None
    final = bench.model_dir / EXPORT / result.target
    tolerance = asdict(find_target(result.target).tolerance)
    placed = replace(result, folder=final)
    verdict_fields = {name: value for name, value in placed.row().items() if name != "folder"}
    _write_parity(result.folder, verdict_fields | {"tolerance": tolerance})
    replace_folder(result.folder, final)
    return placed


def _write_parity(folder: Path, fields: Mapping[str, Any]) -> None:
    content = json.dumps(_finite(fields), indent=1, ensure_ascii=False)
    write_whole(folder / _PARITY, (content + "\n").encode(), root=folder)


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }


def time_exports(images: Mapping[Path, UInt8]) -> tuple[tuple[Path, ExportError], ...]:
    """Time single images with exports, one after the other, and write it into their ``parity.json``.

    One that cannot be run any more keeps what it has.

    Args:
        images: folder of an export -> uint8 (S, S, 3).

    Returns:
        Those that could not be timed, and why.

    Raises:
        StorageError: no room.
    """
    failed = []
    with tempfile.TemporaryDirectory(prefix="backbones-export-") as name:
        tasks = []
        for number, (folder, image) in enumerate(images.items()):
            one = Path(name, f"{number}.npy")
            np.save(one, image[None])
            tasks.append(
                ModelRun(name=str(number), folder=folder.resolve(), images=one, repeats=_LATENCY_REPEATS)
            )
        for folder, (_, answer) in zip(images, carry_out(tasks), strict=True):
            if isinstance(answer, ExportError):
                failed.append((folder, answer))
                continue
            told = parse_json(read_small(folder / _PARITY))
            found = {key: answer[key] for key in ("latency_p50_ms", "latency_p95_ms")}
            _write_parity(folder, told | found)
    return tuple(failed)


def put_exports(made: Path, model_dir: Path, targets: Iterable[str]) -> None:
    """Put exports that were made of a copy of a model beside it, each whole or not at all.

    Args:
        made: folder of them.
        model_dir: the model.
        targets: which.

    Raises:
        StorageError: no room.
    """
    for target in targets:
        staged = _staging(model_dir, target)
        try:
            shutil.copytree(made / target, staged, dirs_exist_ok=True)
            replace_folder(staged, model_dir / EXPORT / target)
        except OSError as error:
            raise storage_error(error, model_dir / EXPORT / target) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
