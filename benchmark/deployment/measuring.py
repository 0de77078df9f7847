"""Running a model over images and timing it, in the worker process; TensorFlow only for its own formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.deployment.examples import check_example
from benchmark.deployment.opening import open_model


def measure(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Probabilities of images, the latency of one, and whether the export's example does the same.

    Args:
        arguments: ``folder`` (of a model or an export), ``images`` (.npy of uint8 (N, S, S, 3)),
            ``probabilities`` (.npy to write, float32 (N, C)), ``repeats``, ``threads``, ``photos`` (files to
            run the example on; none where there is no example).

    Returns:
        ``latency_p50_ms``, ``latency_p95_ms`` of one image in one call; ``example_max_difference`` of a
        probability.

    Raises:
        ExportError: the runtime refuses the model, it answers with something impossible, or the example does
            not do what this package does.
        ManifestError: files that are not what they were when written.
    """
    folder, photos = Path(arguments["folder"]), [Path(photo) for photo in arguments["photos"]]
    predictor = open_model(folder, threads=int(arguments["threads"]))
    images = np.load(arguments["images"], mmap_mode="r")
    np.save(arguments["probabilities"], predictor.predict(images))
    median, high = predictor.latency_ms(np.asarray(images[0]), int(arguments["repeats"]))
    example = check_example(folder, predictor, photos) if photos else 0.0
    return {"latency_p50_ms": median, "latency_p95_ms": high, "example_max_difference": example}
