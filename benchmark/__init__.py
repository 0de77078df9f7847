"""Which pretrained Keras model should I fine-tune on my images?

``benchmark.rank("photos").frame`` is the answer as a pandas DataFrame; ``backbones`` is the command line.
"""

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.api import (
        Board,
        Model,
        embed,
        finetune,
        list_backbones,
        load_board,
        load_model,
        rank,
        study,
    )
    from benchmark.estimators import BackboneClassifier, BackboneEmbedding

__all__ = [
    "BackboneClassifier",
    "BackboneEmbedding",
    "Board",
    "Model",
    "__version__",
    "embed",
    "finetune",
    "list_backbones",
    "load_board",
    "load_model",
    "plan",
    "rank",
    "study",
]

# OpenVINO and ONNX Runtime report their use to their makers: once imported, they look up addresses and write
# ids into the home folder. Whatever process of ours imports one of them has imported this package before.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO then has a stub

try:
    __version__ = version("backbone-benchmark")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a public name
    """Load the interface on first use, so that ``import benchmark`` stays cheap."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    # Not all of it imports scikit-learn.
    home = "benchmark.estimators" if name.startswith("Backbone") else "benchmark.api"
    return getattr(import_module(home), name)
