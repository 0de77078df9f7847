"""What executes the tasks of a command, on machines of one arithmetic: no matrix is computed in two."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np

from benchmark import __version__
from benchmark.backbones import keras_version
from benchmark.data import decoder_name
from benchmark.engines import engine_version, gpu_name
from benchmark.execution import Machine, Runner, open_runner
from benchmark.machine import instruction_set
from benchmark.options import DeviceOptions, EmbedOptions, FinetuneOptions
from benchmark.records import Engine

_NATIVE = "bicubic-squash-1"  # a source's own way, so that the name tells of Pillow's resizing, too


def describe_machine() -> Machine:
    """The arithmetic of the machine that this is called on."""
    with ThreadPoolExecutor(len(Engine)) as pool:  # each may take seconds to be imported
        gpus = dict(zip(Engine, pool.map(gpu_name, Engine), strict=True))
    facts = {
        "backbone-benchmark": __version__,
        "decoder": decoder_name(resize=_NATIVE),
        "keras": keras_version(),
        "numpy": np.__version__,
        **{engine.value: engine_version(engine) for engine in Engine},
        **{f"{engine.value} GPU": name or "none" for engine, name in gpus.items()},
        "instructions": instruction_set(),
    }
    return tuple(sorted(facts.items()))


def runner_of(
    options: EmbedOptions | FinetuneOptions | DeviceOptions, tell: Callable[[str], None]
) -> AbstractContextManager[Runner]:
    """What executes the tasks of a command; see ``execution.open_runner``.

    Args:
        options: of the command.
        tell: takes what a reader must know.
    """
    return open_runner(
        options.cluster, options.jobs, shared=options.cache, describe=describe_machine, tell=tell
    )
