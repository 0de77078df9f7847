"""A process of its own that converts or measures models, one task after the other.

TFLite's converter and interpreters print a lot, hold memory and can abort the process they run in; here they
take down nothing but themselves. Run as ``python -m benchmark.deployment.worker PLAN.json``: a list of tasks,
each with a file to write its answer to.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.backbones import load_keras_model
from benchmark.deployment.examples import check_example
from benchmark.deployment.opening import open_model
from benchmark.deployment.targets import GraphTarget, find_target, target_names
from benchmark.errors import BenchmarkError, ExportError
from benchmark.machine import end_with_parent
from benchmark.storage import write_whole


def main(plan: Path) -> int:
    """Do the tasks of a plan in order; each answer is ``{"value": ...}`` or ``{"failed": reason}``."""
    # The parent is read first: an orphan must not adopt its new parent as the one to watch.
    end_with_parent(os.getppid())
    for task in json.loads(plan.read_text(encoding="utf-8")):
        answer = Path(task["answer"])
        try:
            value = _ACTIONS[task["action"]](task["arguments"])
        except BenchmarkError as error:
            write_whole(answer, json.dumps({"failed": str(error)}).encode(), root=answer.parent)
        else:
            write_whole(answer, json.dumps({"value": value}).encode(), root=answer.parent)
    return 0


def _convert(arguments: dict[str, Any]) -> dict[str, Any]:
    """Convert one model; ``notes`` say how the conversion departs from the plain one.

    Args:
        arguments: ``model`` (.keras, or of another library .onnx or .xml), ``target``, ``output`` (file or
            folder to write), ``calibration`` (.npy of uint8 (N, S, S, 3)).
    """
    path, target, output = Path(arguments["model"]), arguments["target"], Path(arguments["output"])
    if path.suffix != ".keras":
        return {"notes": list(_convert_graph(path, target, output))}
    import tensorflow as tf

    model = load_keras_model(path)
    images = np.load(arguments["calibration"], mmap_mode="r")
    try:
        notes = find_target(target).convert(model, images, output)
    except (RuntimeError, ValueError, TypeError, tf.errors.OpError, ImportError) as error:
        # ConverterError derives from Exception alone; it reaches us as RuntimeError or ValueError from MLIR.
        reason = " ".join(str(error).split())[:400]
        raise ExportError("the converter refuses this model", where=target, got=reason) from error
    return {"notes": list(notes)}


def _convert_graph(path: Path, target: str, output: Path) -> Iterable[str]:
    """The same of a network that is not Keras's."""
    made = find_target(target)
    if not isinstance(made, GraphTarget):
        names = [name for name in target_names() if isinstance(find_target(name), GraphTarget)]
        raise ExportError(
            "is made of networks of Keras alone",
            where=target,
            expected=f"{' or '.join(names)} for this one",
            got=path.name,
        )
    try:
        return made.convert_graph(path, output)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:400]
        raise ExportError("the converter refuses this model", where=target, got=reason) from error


def _measure(arguments: dict[str, Any]) -> dict[str, Any]:
    """Probabilities of images, the latency of one, and whether the export's example does the same.

    Args:
        arguments: ``folder`` (of a model or an export), ``images`` (.npy of uint8 (N, S, S, 3)),
            ``probabilities`` (.npy to write, float32 (N, C)), ``repeats``, ``photos`` (files to
            run the example on; none where there is no example).

    Returns:
        ``latency_p50_ms``, ``latency_p95_ms`` of one image in one call; ``example_max_difference`` of a
        probability.
    """
    folder, photos = Path(arguments["folder"]), [Path(photo) for photo in arguments["photos"]]
    predictor = open_model(folder)
    images = np.load(arguments["images"], mmap_mode="r")
    np.save(arguments["probabilities"], predictor.predict(images))
    median, high = predictor.latency_ms(np.asarray(images[0]), int(arguments["repeats"]))
    example = check_example(folder, predictor, photos) if photos else 0.0
    return {"latency_p50_ms": median, "latency_p95_ms": high, "example_max_difference": example}


_ACTIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"convert": _convert, "measure": _measure}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
