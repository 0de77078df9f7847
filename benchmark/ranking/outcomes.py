"""Outcomes on disk: probabilities are kept, so that a new metric reruns nothing.

One outcome is one file (``storage.write_arrays``): its predictions as arrays, its other fields as JSON.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import CacheDamaged
from benchmark.records import Engine, Precision, Predictions, Scored
from benchmark.storage import load_arrays, path_part, write_arrays

_ARRAYS = ("val_rows", "val", "val_thresholds", "test_rows", "test")


def outcome_path(folder: Path, backbone: str, digest: str) -> Path:
    """Where the outcome of a backbone lies.

    Args:
        folder: ``results/<dataset>/outcomes``.
        backbone: name on the board, made a file name.
        digest: hexadecimal digest over everything that decides the outcome.
    """
    return folder / f"{path_part(backbone)}-{digest[:16]}.outcome"


def save_outcome(path: Path, outcome: Scored) -> None:
    """Write an outcome, whole or not at all.

    Raises:
        StorageError: no room, or no permission.
    """
    write_arrays(path, _fields(outcome), _arrays(outcome), root=path.parents[1], compress=True)


def load_outcome(path: Path) -> Scored:
    """Read an outcome and check that it is what was written.

    Raises:
        FileNotFoundError: there is none.
        CacheDamaged: the file is not one that ``save_outcome`` wrote, or it changed since.
    """
    try:
        fields, arrays = load_arrays(path)
        return _outcome(fields, arrays)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _damaged(path, error.strerror or type(error).__name__) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # or of an older version
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, got: str) -> CacheDamaged:
    next_step = "Delete it; the next run computes it again."
    return CacheDamaged("not a stored outcome", where=path, got=got, next_step=next_step)


def _arrays(outcome: Scored) -> dict[str, Any]:
    found = outcome.predictions
    arrays = {"val_history": outcome.val_history} | {name: getattr(found, name) for name in _ARRAYS}
    return arrays if found.val_smaller is None else arrays | {"val_smaller": found.val_smaller}


def _fields(outcome: Scored) -> dict[str, Any]:
    names = {item.name for item in dataclasses.fields(outcome)} - {"predictions", "val_history"}
    fields = {name: _plain(getattr(outcome, name)) for name in sorted(names)}
    threshold, sizes = outcome.predictions.test_threshold, outcome.predictions.train_sizes
    return fields | {"test_threshold": threshold, "train_sizes": sizes}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _check_arrays(found: Predictions) -> None:
    """See that the arrays fit together as ``Predictions`` says, and hold numbers.

    Raises:
        ValueError: they do not.
    """
    repeats, rows, classes = found.val.shape
    fits = (
        found.val_rows.shape == (rows,)
        and found.val_thresholds.shape == (repeats, rows)
        and found.test.shape == (len(found.test_rows), classes)
        and found.val_rows.dtype == found.test_rows.dtype == np.int64
        and found.test_rows.ndim == 1
    )
    smaller = found.val[:0] if found.val_smaller is None else found.val_smaller
    fits &= found.val_smaller is None or (smaller.shape == found.val.shape and found.train_sizes is not None)
    numbers = (found.val, found.test, found.val_thresholds, smaller, np.array(found.train_sizes or (), float))
    if not fits or not all(array.dtype.kind == "f" and np.isfinite(array).all() for array in numbers):
        raise ValueError("arrays that do not fit together")


def _outcome(fields: dict[str, Any], arrays: dict[str, Any]) -> Scored:
    sizes = fields.pop("train_sizes", None)
    predictions = Predictions(
        **{name: arrays[name] for name in _ARRAYS},
        test_threshold=float(fields.pop("test_threshold")),
        val_smaller=arrays.get("val_smaller"),
        train_sizes=sizes and tuple(sizes),
    )
    _check_arrays(predictions)
    names = ("images_per_second", "latency_ms", "latency_p95_ms", "embed_seconds", "agreement")
    measured = {name: math.nan for name in names if fields.get(name) is None}
    baselines = {name: math.nan if value is None else value for name, value in fields["baselines"].items()}
    return Scored(
        **fields
        | measured
        | {
            "engine": fields["engine"] and Engine(fields["engine"]),
            "precision": fields["precision"] and Precision(fields["precision"]),
            "notes": tuple(fields["notes"]),
            "baselines": baselines,
            "predictions": predictions,
            "val_history": arrays["val_history"],
        }
    )
