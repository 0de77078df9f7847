from __future__ import annotations

import subprocess
import sys


def test_importing_is_cheap() -> None:
    heavy = ["tensorflow", "keras", "openvino", "onnxruntime", "sklearn", "matplotlib", "pandas"]
    program = (
        "import sys\nfrom benchmark.deployment import *\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
