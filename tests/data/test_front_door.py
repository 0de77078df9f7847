"""What the room offers, and what opening its door costs."""

from __future__ import annotations

import subprocess
import sys

from benchmark import data

HEAVY = ["tensorflow", "keras", "openvino", "sklearn", "scipy", "pandas", "matplotlib", "simplejpeg"]


AGREED = {
    "AuditReport",
    "DataOptions",
    "Scratch",
    "audit",
    "auto_groups",
    "decode",
    "decoder_name",
    "load_images",
    "load_pixels",
    "regroup",
    "resize_pixels",
    "split_images",
    "write_demo",
}


def test_the_public_names() -> None:
    assert set(data.__all__) >= AGREED
    assert data.__all__ == sorted(data.__all__)
    assert all(hasattr(data, name) for name in data.__all__)
    assert callable(data.audit), "the module benchmark.audit.report hides the function"


def test_opening_the_door_is_cheap() -> None:
    code = f"import sys, benchmark.data; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
