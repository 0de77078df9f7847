"""The device kit: models, pixels, expected outputs and ``measure.py``, in one folder and one zip file.

``measure.py`` runs where this package is not: it is the file beside this one, copied as it is.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.deployment.description import DESCRIPTION, EXPORT, check_files, read_description
from benchmark.deployment.measure import MODULES, SCHEMA
from benchmark.deployment.samples import SplitFiles, read_split, stratified, write_images
from benchmark.deployment.targets import find_target, parse_targets
from benchmark.deployment.worker import USUAL_SECONDS, ModelRun, carry_out
from benchmark.errors import ArgumentError, DataError, ExportError
from benchmark.finetuning import load_manifest
from benchmark.records import Float32, Int64, UInt8
from benchmark.storage import (
    check_inside,
    path_part,
    read_json,
    replace_folder,
    sha256_file,
    storage_error,
    temporary_beside,
    write_whole,
)

KIT_FILE, MEASURE = "kit.json", "measure.py"
_EXPECTED = "expected.npy"
_MOST_IMAGES, _SAMPLES = 2000, 32
_MODEL = "reference"  # beside the names of targets
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # equal kits are equal files


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model and its exports say of the images that the board validated.

    Attributes:
        image_ids: N; of more than 2,000 a stratified sample.
        before: float32 (N, C), probabilities of the Keras model.
        after: target -> float32 (N, C), probabilities of the export, on this machine; why not, of one that
            cannot be run.
        sampled: int64 (n,), positions of the images that travel with the kit.
        pixels: uint8 (n, S, S, 3), of those.
    """

    image_ids: tuple[str, ...]
    before: Float32
    after: Mapping[str, Float32 | ExportError]
    sampled: Int64
    pixels: UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class KitEntry:
    """One export of a kit.

    Attributes:
        backbone: its name on the board.
        weights_sha256: of the weights on the board.
        target: the format.
        export: folder of the export.
        sha256: of its ``deployment.json`` when it was scored.
        size_bytes: of the model.
        f1: what ``val_f1`` of the board becomes with this export: value, low, high.
        f1_images: images that it was found on.
        outcome: digest of what decided that ``val_f1``.
        pixels: uint8 (n, S, S, 3) to run it on.
        expected: float32 (n, C), what it answers here.
        bounds: what stands exactly on its tolerance; for the reader of the command, not in the kit.
    """

    backbone: str
    weights_sha256: str
    target: str
    export: Path
    sha256: str
    size_bytes: int
    f1: tuple[float, float, float]
    f1_images: int
    outcome: str
    pixels: UInt8
    expected: Float32
    bounds: tuple[str, ...] = ()


def kit_targets(text: str) -> tuple[str, ...]:
    """The targets of a comma-separated list that a kit can have.

    Raises:
        ArgumentError: an unknown one, or one that ``measure.py`` cannot run.
    """
    names = parse_targets(text)
    for name in names:
        if find_target(name).runtime not in MODULES:
            raise ArgumentError(
                "measure.py cannot run this format",
                where=f"`to={name}`",
                expected=f"targets that run with {' or '.join(MODULES)}",
                got=find_target(name).runtime,
            )
    return names


def answers_of(
    model_dir: Path,
    targets: Sequence[str],
    data: Path,
    *,
    parts: Collection[str],
    timeout_seconds: float = USUAL_SECONDS,
) -> Answers:
    """Run a model and its exports on the images that the board validated, in a process of its own.

    Args:
        model_dir: the model, exported to these targets.
        targets: names of formats.
        data: the folder or CSV of images.
        parts: of the split, whose images were validated.
        timeout_seconds: for the model, and for each export.

    Raises:
        ExportError: an image is not what it was, or the model cannot be run.
        StorageError: no room for the pixels.
    """
    manifest = load_manifest(model_dir, verify=False)
    judged = tuple(row for row in read_split(model_dir) if row.part in parts)
    rows = stratified(judged, _MOST_IMAGES, manifest.seed)
    # Among few validation images, the sample may have none.
    shown = tuple(row for row in rows if row.part == "val") or rows
    chosen = set(stratified(shown, _SAMPLES, manifest.seed))
    sampled = np.array([position for position, row in enumerate(rows) if row in chosen], np.int64)
    folders = {_MODEL: model_dir, **{target: model_dir / EXPORT / target for target in targets}}
    try:
        with tempfile.TemporaryDirectory(prefix="backbones-kit-") as name:
            images = Path(name, "images.npy")
            write_images(rows, SplitFiles(data, data), manifest, images)
            tasks = [
                ModelRun(name=target, folder=folder.resolve(), images=images)
                for target, folder in folders.items()
            ]
            found: dict[str, Float32 | ExportError] = {
                task.name: answer if isinstance(answer, ExportError) else answer["probabilities"]
                for task, answer in carry_out(tasks, timeout_seconds=timeout_seconds)
            }
            pixels = np.load(images, mmap_mode="r")[sampled]
    except OSError as error:
        raise storage_error(error, Path(tempfile.gettempdir())) from error
    before = found.pop(_MODEL)
    if isinstance(before, ExportError):
        raise before
    return Answers(
        image_ids=tuple(row.image_id for row in rows),
        before=before,
        after=found,
        sampled=sampled,
        pixels=pixels,
    )


def kit_origin(folder: Path) -> tuple[str, str]:
    """The name of the data set that a kit was made from, and the fingerprint of its images.

    Raises:
        DataError: the folder is no kit.
    """
    try:
        stored = read_json(folder / KIT_FILE)
        if (folder / MEASURE).is_file():
            return str(stored["data"]), str(stored["fingerprint"])
        reason: object = f"no {MEASURE}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error
    raise DataError(
        "is not the folder of a kit",
        where=folder,
        got=reason,
        next_step="Make one: backbones device kit DATA.",
    )


def check_place(folder: Path) -> None:
    """See that nothing but an earlier kit would be replaced.

    Raises:
        ArgumentError: the folder, or the zip file beside it, is something else.
    """
    packed = _packed(folder)
    is_kit = (folder / KIT_FILE).is_file()
    if packed.exists() and not is_kit:
        raise ArgumentError(
            "is there already, and is not the file of a kit",
            where=packed,
            next_step="Name another folder (`output`), or move this file.",
        )
    if folder.exists() and not is_kit and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(
            "holds something else than a kit",
            where=folder,
            next_step="Name another folder (`output`), or empty this one.",
        )


def _packed(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.zip")


def write_kit(
    folder: Path,
    entries: Sequence[KitEntry],
    *,
    data: str,
    fingerprint: str,
    left_out: Sequence[Mapping[str, str]] = (),
) -> Path:
    """Write a kit, and the same as a zip file beside it; an earlier kit in this folder is replaced.

    Args:
        folder: of the kit.
        entries: the exports, in the order in which they are measured.
        data: name of the data set.
        fingerprint: of its images, labels and parts.
        left_out: ``backbone``, ``target`` and ``reason`` of what is not in it.

    Returns:
        The zip file.

    Raises:
        ArgumentError: the folder holds something else.
        ExportError: an export was replaced since it was scored.
        StorageError: it cannot be written.
    """
    check_place(folder)
    packed = _packed(folder)
    staged = temporary_beside(folder)
    check_inside(staged, folder.parent)
    try:
        staged.mkdir(parents=True)
        exports = [_put(staged, number, entry) for number, entry in enumerate(entries)]
        shutil.copyfile(Path(__file__).with_name(MEASURE), staged / MEASURE)
        content = {
            "schema": SCHEMA,
            "data": data,
            "fingerprint": fingerprint,
            "exports": exports,
            "left_out": list(left_out),
            "files": {path.relative_to(staged).as_posix(): sha256_file(path) for path in _files(staged)},
        }
        write_whole(staged / KIT_FILE, (json.dumps(content, indent=1) + "\n").encode(), root=staged)
        pack(staged, f"{folder.name}/", packed)
        replace_folder(staged, folder)
    except OSError as error:
        raise storage_error(error, folder) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return packed


def _put(staged: Path, number: int, entry: KitEntry) -> dict[str, Any]:
    """Copy an export with its pixels and expected outputs; its part of ``kit.json``."""
    where = staged / "exports" / path_part(entry.backbone) / entry.target
    shutil.copytree(entry.export, where)
    check_scored(where, entry.sha256, of=entry.export)
    check_files(where, read_description(where).files)
    write_whole(where / _EXPECTED, _npy(entry.expected), root=staged)
    samples = f"samples-{entry.pixels.shape[1]}.npy"
    if not (staged / samples).exists():
        write_whole(staged / samples, _npy(entry.pixels), root=staged)
    target = find_target(entry.target)
    tolerance = asdict(target.tolerance)
    value, low, high = entry.f1
    return {
        "number": number,
        "backbone": entry.backbone,
        "weights_sha256": entry.weights_sha256,
        "input_size": entry.pixels.shape[1],
        "target": entry.target,
        "runtime": target.runtime,
        "folder": where.relative_to(staged).as_posix(),
        "samples": samples,
        "expected": _EXPECTED,
        "size_bytes": entry.size_bytes,
        "f1": value,
        "f1_low": low,
        "f1_high": high,
        "f1_images": entry.f1_images,
        "outcome": entry.outcome,
        "tolerance": {
            name: tolerance[name] for name in ("max_difference", "mean_difference", "label_agreement")
        },
    }


def check_scored(folder: Path, sha256: str, *, of: Path) -> None:
    """See that an export is the one that was scored.

    Args:
        folder: of it, or of a copy.
        sha256: of its ``deployment.json`` when it was scored.
        of: the export, for the reader.

    Raises:
        ExportError: it is another one.
    """
    if sha256_file(folder / DESCRIPTION) != sha256:
        raise ExportError(
            "the export was replaced since it was scored, by another command",
            where=of,
            next_step="Run it again when the other one is done.",
        )


def _npy(array: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def pack(folder: Path, prefix: str, packed: Path) -> None:
    """Write a folder as a zip file, the names of whose entries begin with ``prefix``.

    Raises:
        OSError: it cannot be written.
    """
    beside = temporary_beside(packed)
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in _files(folder):
                entry = zipfile.ZipInfo(f"{prefix}{path.relative_to(folder).as_posix()}", _ZIP_DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        beside.replace(packed)
    finally:
        beside.unlink(missing_ok=True)
