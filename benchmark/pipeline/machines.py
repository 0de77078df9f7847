"""What decides the arithmetic of a machine, so that a run on several computes every matrix in one."""

from __future__ import annotations

import numpy as np

from benchmark import __version__
from benchmark.backbones import keras_version
from benchmark.data import decoder_name
from benchmark.engines import engine_version, gpu_name, has_gpu
from benchmark.execution import Machine
from benchmark.machine import instruction_set
from benchmark.records import Engine


def describe_machine() -> Machine:
    """The arithmetic of the machine that this is called on."""
    facts = {
        "backbone-benchmark": __version__,
        "decoder": decoder_name(),
        "keras": keras_version(),
        "numpy": np.__version__,
        **{engine.value: engine_version(engine) for engine in Engine},
        "gpu": gpu_name() if has_gpu() else "none",
        "instructions": instruction_set(),
    }
    return tuple(sorted(facts.items()))
