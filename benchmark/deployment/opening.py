"""Opening a model folder or any of its exports for prediction."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from benchmark.deployment.description import (
    DESCRIPTION,
    EXPORT,
    LABELS,
    Deployment,
    check_files,
    describe_source,
    read_description,
)
from benchmark.deployment.familiarity import load_familiar
from benchmark.deployment.predictor import Predictor, load
from benchmark.errors import ManifestError
from benchmark.finetuning import MANIFEST_FILE, MODEL_NAMES, TrainedOn, load_manifest
from benchmark.storage import sha256_file

_LEGACY = (".h5", ".hdf5", ".pb", ".pkl", ".joblib", ".pt", ".pth")


def open_model(path: Path, *, threads: int = 0) -> Predictor:
    """Open a fine-tuned model or one of its exports.

    Every file is compared with its recorded SHA-256 first, and nothing that is not listed may lie beside it
    (``check_files``). A SavedModel without its ``deployment.json`` is refused: calling a foreign one can
    write files. ``.keras`` files load in safe mode, legacy ``.h5`` never. An export that stands beside
    another model than it was made from is refused, too.

    Args:
        path: a model folder (``manifest.json`` and its model), an export folder (``deployment.json``), or
            a file of the model inside either.
        threads: of the runtime; 0 uses all cores.

    Raises:
        ManifestError: nothing there, no such folder, or files that are not what they were when written.
        ExportError: the runtime is not installed or refuses the model.
    """
    folder, description = find_model(Path(path))
    check_files(folder, description.files)
    predictor = load_familiar(folder, description) or load(folder, description, threads=threads)
    predictor.trained_on = TrainedOn.read(folder, description.files)
    return predictor


def find_model(path: Path) -> tuple[Path, Deployment]:
    """The folder and the description of what a path names; only the description is read.

    Raises:
        ManifestError: nothing there, no model, or an export of another model than the one beside it.
    """
    folder = _folder_of(path)
    description = description_of(folder)
    if path.is_file() and path.name not in {DESCRIPTION, MANIFEST_FILE, LABELS, *description.files}:
        raise ManifestError(
            "is no file of the model in its folder",
            where=path,
            expected=f"{folder} or {folder / description.model}",
        )
    _check_source(folder, description)
    return folder, description


def model_dir_of(export: Path) -> Path | None:
    """The model folder that an export folder lies in, or None where it was moved away."""
    folder = export.resolve()
    if folder.parent.name == EXPORT and _model_in(folder.parents[1]):
        return folder.parents[1]
    return None


def _model_in(folder: Path) -> Path | None:
    """The model file of a model folder."""
    return next((folder / name for name in MODEL_NAMES if (folder / name).is_file()), None)


def _check_source(folder: Path, description: Deployment) -> None:
    """See that an export was made from the model that it lies beside."""
    model_dir = model_dir_of(folder)
    model = model_dir and _model_in(model_dir)
    if not model or not description.source_sha256:
        return
    got = sha256_file(model)
    if got != description.source_sha256:
        raise ManifestError(
            "this export was made from another model than the one beside it",
            where=folder,
            expected=f"{model} with SHA-256 {description.source_sha256[:16]}",
            got=got[:16],
            next_step=f"Export again: backbones export {model_dir} --to {description.target}.",
        )


def description_of(folder: Path) -> Deployment:
    """The description of an export folder, or of a model folder's own model.

    Raises:
        ManifestError: the folder is neither.
    """
    if (folder / DESCRIPTION).is_file():
        return read_description(folder)
    # The manifest vouches for every file it names, but these are the ones that are opened.
    return describe_source(load_manifest(folder, verify=False))


def _folder_of(path: Path) -> Path:
    if not path.exists():
        raise ManifestError(
            "no such file or folder",
            where=path,
            expected=f"a folder with {MANIFEST_FILE} or {DESCRIPTION}, or its model file",
            next_step=_alternatives(path),
        )
    folder = path if path.is_dir() else path.parent
    if path.suffix.lower() in _LEGACY and not path.is_dir() and not (folder / DESCRIPTION).is_file():
        raise ManifestError(
            "is a model file of a kind that can run code when it is loaded",
            where=path,
            expected="a model folder with manifest.json, or an export folder with deployment.json",
            next_step="Save it as .keras where it came from.",
        )
    if not any((folder / name).is_file() for name in (DESCRIPTION, MANIFEST_FILE)):
        raise ManifestError(
            "is no model folder",
            where=path,
            expected=f"a folder with {MANIFEST_FILE} or {DESCRIPTION}",
            got=_what_is_there(folder),
            next_step=_alternatives(path)
            or "Give the folder that 'backbones finetune' or 'backbones export' wrote.",
        )
    return folder


def _alternatives(path: Path) -> str:
    """What may have been meant: the models in the nearest folder above that exists."""
    nearest = next((folder for folder in (path, *path.parents) if folder.is_dir()), Path())
    if (nearest / DESCRIPTION).is_file():  # inside an export: its neighbours
        nearest = nearest.parent
    models = {model.name: model for model in _models_in(nearest)}
    near = get_close_matches(path.name, list(models), n=1)
    meant = f"Did you mean {models[near[0]]}? " if near else ""
    listed = ", ".join(str(model.relative_to(nearest)) for model in models.values())
    return f"{meant}There are in {nearest}: {listed}." if models else ""


def _models_in(folder: Path) -> Iterator[Path]:
    """The model of a model folder, and the exports in it or in its folder of exports."""
    if (folder / MANIFEST_FILE).is_file():
        yield _model_in(folder) or folder
    yield from _exports_in(folder)
    yield from export_folders(folder)


def export_folders(model_dir: Path) -> tuple[Path, ...]:
    """The folders of a model's exports, by name."""
    return _exports_in(model_dir / EXPORT)


def _exports_in(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path.parent for path in folder.glob(f"[!.]*/{DESCRIPTION}")))


def _what_is_there(folder: Path) -> str:
    if (folder / "saved_model.pb").is_file():
        return "a SavedModel without its deployment.json, which could write files when called"
    return "a folder without either"
