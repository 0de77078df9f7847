"""Outcomes on disk: probabilities are kept, so that a new metric reruns nothing.

One outcome is one file: a line with the SHA-256 of what follows, then an ``.npz`` archive of its predictions
(arrays) and its other fields (JSON). The hash is checked before anything is parsed; pickled content is
refused.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import CacheDamaged
from benchmark.records import Engine, Outcome, Precision, Predictions, Status
from benchmark.storage import path_part, sha256_bytes, write_whole

_ARRAYS = ("val_rows", "val", "val_thresholds", "test_rows", "test")


def outcome_path(folder: Path, backbone: str, digest: str) -> Path:
    """Where the outcome of a backbone lies.

    Args:
        folder: ``results/<dataset>/outcomes``.
        backbone: name on the board, made a file name.
        digest: hexadecimal digest over everything that decides the outcome.
    """
    return folder / f"{path_part(backbone)}-{digest[:16]}.outcome"


def save_outcome(path: Path, outcome: Outcome) -> None:
    """Write an outcome, whole or not at all.

    Raises:
        StorageFull: no room, or no permission.
    """
    buffer = io.BytesIO()
    fields = np.array(json.dumps(_fields(outcome)))
    np.savez_compressed(buffer, allow_pickle=False, fields=fields, **_arrays(outcome))
    content = buffer.getvalue()
    write_whole(path, _seal(content) + content, root=path.parents[1])


def _seal(content: bytes) -> bytes:
    return f"outcome {sha256_bytes(content)}\n".encode()


def load_outcome(path: Path) -> Outcome:
    """Read an outcome and check that it is what was written.

    Raises:
        FileNotFoundError: there is none.
        CacheDamaged: the file is not one that ``save_outcome`` wrote, or it changed since.
    """
    head, _, content = path.read_bytes().partition(b"\n")
    if head + b"\n" != _seal(content):
        raise _damaged(path, "its SHA-256 does not match")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            fields = json.loads(str(file["fields"]))
            return _outcome(fields, {name: file[name] for name in file.files if name != "fields"})
    except (ValueError, KeyError, TypeError) as error:  # of an older version, its hash is right
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, got: str) -> CacheDamaged:
    next_step = "Delete it; the next run computes it again."
    return CacheDamaged("not a stored outcome", where=path, got=got, next_step=next_step)


def _arrays(outcome: Outcome) -> dict[str, Any]:
    arrays: dict[str, Any] = {"val_history": outcome.val_history}
    if outcome.predictions is not None:
        arrays |= {name: getattr(outcome.predictions, name) for name in _ARRAYS}
    return arrays


def _fields(outcome: Outcome) -> dict[str, Any]:
    omitted = {"predictions", "val_history"}
    names = [item.name for item in dataclasses.fields(outcome) if item.name not in omitted]
    fields = {name: _plain(getattr(outcome, name)) for name in names}
    if outcome.predictions is not None:
        fields["test_threshold"] = outcome.predictions.test_threshold
    return fields


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _outcome(fields: dict[str, Any], arrays: dict[str, Any]) -> Outcome:
    threshold = fields.pop("test_threshold", None)
    predictions = None
    if threshold is not None:
        predictions = Predictions(test_threshold=threshold, **{name: arrays[name] for name in _ARRAYS})
    measured = {
        name: math.nan
        for name in ("images_per_second", "latency_ms", "latency_p95_ms")
        if fields[name] is None
    }
    return Outcome(
        **fields
        | measured
        | {
            "status": Status(fields["status"]),
            "engine": fields["engine"] and Engine(fields["engine"]),
            "precision": fields["precision"] and Precision(fields["precision"]),
            "notes": tuple(fields["notes"]),
            "baselines": {
                name: math.nan if value is None else value for name, value in fields["baselines"].items()
            },
            "predictions": predictions,
            "val_history": arrays["val_history"],
        }
    )
