"""TFLite with int8 weights and activations, and operators in float where that is needed to stay accurate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.deployment.targets import ROUNDED, Target
from benchmark.deployment.targets._litert import LiteRT
from benchmark.records import UInt8


class Int8(LiteRT):
    """Full int8, with a search for the ranges of the activations."""

    about = "int8 weights and activations; some operators stay in float where int8 costs accuracy"
    tolerance = ROUNDED
    integer_only = False

    def convert(self, model: Any, images: UInt8, path: Path) -> Iterable[str]:
        """Write the file."""
        from benchmark.deployment.frozen import frozen_function
        from benchmark.deployment.quantising import quantise

        def build(dtype: str) -> Any:
            return frozen_function(model, images.shape[1], self.batch, dtype=dtype)

        content, notes = quantise(build, images, integer_only=self.integer_only)
        path.write_bytes(content)
        return notes


TARGET: Target = Int8()
