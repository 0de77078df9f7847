"""Facts about the machine that a figure was measured on."""

from __future__ import annotations

import time
from typing import Any

import psutil

from benchmark.pipeline.outputs import hardware, versions

_LOOK_SECONDS = 2.0


def machine_facts() -> dict[str, Any]:
    """Processor, memory and versions."""
    facts = hardware()
    facts["memory"] = f"{facts.pop('memory_bytes') / 2**30:.0f} GiB"
    return {**facts, **versions(), "date": time.strftime("%Y-%m-%d %H:%M %z")}


def others_busy() -> float:
    """Share of the processors that other programs use just now, 0 to 1."""
    return float(psutil.cpu_percent(_LOOK_SECONDS)) / 100
