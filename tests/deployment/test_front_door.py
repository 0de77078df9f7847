from __future__ import annotations

import subprocess
import sys

import benchmark.deployment as room


def test_public_names_exist() -> None:
    for name in room.__all__:
        assert getattr(room, name) is not None
    assert sorted(room.__all__) == sorted(room._HOME_OF)


def test_importing_is_cheap() -> None:
    heavy = ["tensorflow", "keras", "openvino", "onnxruntime", "sklearn", "matplotlib", "pandas"]
    names = "Target, ExportOptions, TileOptions, export_model, predict, predict_tiles, evaluate"
    program = (
        f"import sys\nfrom benchmark.deployment import {names}\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
