"""Opening a model folder or any of its exports for prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmark.deployment.description import DESCRIPTION, Deployment, check_files, describe, read_description
from benchmark.deployment.runtimes import Predictor, load
from benchmark.deployment.targets import Target
from benchmark.errors import ManifestError

MANIFEST = "manifest.json"
MODEL = "model.keras"
_LEGACY = (".h5", ".hdf5", ".pb", ".pkl", ".joblib", ".pt", ".pth")


def open_model(path: Path, *, threads: int = 0) -> Predictor:
    """Open a fine-tuned model or one of its exports.

    Every file is compared with its recorded SHA-256 first. A SavedModel without its ``deployment.json`` is
    refused: calling a foreign one can write files. ``.keras`` files load in safe mode, legacy ``.h5`` never.

    Args:
        path: a model folder (``manifest.json``, ``model.keras``), an export folder (``deployment.json``), or
            a file inside either.
        threads: of the runtime; 0 uses all cores.

    Raises:
        ManifestError: no such folder, or files that are not what they were when written.
        ExportError: the runtime is not installed or refuses the model.
    """
    folder = _folder_of(Path(path))
    description = description_of(folder)
    check_files(folder, description.files)
    return load(folder, description, threads=threads)


def description_of(folder: Path) -> Deployment:
    """The description of an export folder, or of a model folder's ``model.keras``.

    Raises:
        ManifestError: the folder is neither.
    """
    if (folder / DESCRIPTION).is_file():
        return read_description(folder)
    from benchmark.finetuning import load_manifest

    # The manifest vouches for every file it names, but a prediction needs the model alone.
    manifest = load_manifest(folder, verify=False)
    if MODEL not in manifest.files:
        raise ManifestError("does not name the model file", where=folder / MANIFEST, expected=MODEL)
    plain = describe(manifest, Target.KERAS, model=MODEL, batch=0)
    return replace(plain, files={MODEL: manifest.files[MODEL]})


def _folder_of(path: Path) -> Path:
    if path.is_dir():
        folder = path
    elif path.suffix.lower() in _LEGACY and not (path.parent / DESCRIPTION).is_file():
        raise ManifestError(
            "is a model file of a kind that can run code when it is loaded",
            where=path,
            expected="a model folder with manifest.json, or an export folder with deployment.json",
            next_step="Save it as .keras where it came from.",
        )
    else:
        folder = path.parent
    if not any((folder / name).is_file() for name in (DESCRIPTION, MANIFEST)):
        raise ManifestError(
            "is no model folder",
            where=path,
            expected=f"a folder with {MANIFEST} or {DESCRIPTION}",
            got=_what_is_there(folder),
            next_step="Give the folder that 'backbones finetune' or 'backbones export' wrote.",
        )
    return folder


def _what_is_there(folder: Path) -> str:
    if not folder.exists():
        return "nothing"
    if (folder / "saved_model.pb").is_file():
        return "a SavedModel without its deployment.json, which could write files when called"
    return "a folder without either"
