"""Running a model over images and timing it, in the worker process; TensorFlow only for its own formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.deployment.opening import open_model


def measure(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Probabilities of images, and the latency of one.

    Args:
        arguments: ``folder`` (of a model or an export), ``images`` (.npy of uint8 (N, S, S, 3)),
            ``probabilities`` (.npy to write, float32 (N, C)), ``repeats``, ``threads``.

    Returns:
        ``latency_p50_ms``, ``latency_p95_ms`` of one image in one call.

    Raises:
        ExportError: the runtime refuses the model, or it answers with something impossible.
        ManifestError: files that are not what they were when written.
    """
    predictor = open_model(Path(arguments["folder"]), threads=int(arguments["threads"]))
    images = np.load(arguments["images"], mmap_mode="r")
    np.save(arguments["probabilities"], predictor.predict(images))
    median, high = predictor.latency_ms(np.asarray(images[0]), int(arguments["repeats"]))
    return {"latency_p50_ms": median, "latency_p95_ms": high}
