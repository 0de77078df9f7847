"""What the room offers, and that entering it is cheap."""

from __future__ import annotations

import subprocess
import sys

import benchmark.embeddings


def test_public_names_are_pinned() -> None:
    assert benchmark.embeddings.__all__ == [
        "CacheEntry",
        "Damage",
        "EmbeddingStore",
        "ExtractReport",
        "PartSize",
        "PartWriter",
        "Removed",
        "RowSource",
        "VerifyReport",
        "equal_matrices",
        "extract",
    ]
    assert all(hasattr(benchmark.embeddings, name) for name in benchmark.embeddings.__all__)


def test_importing_the_room_imports_nothing_heavy() -> None:
    heavy = {"tensorflow", "keras", "openvino", "sklearn", "pandas", "matplotlib", "scipy"}
    code = f"import sys, benchmark.embeddings; sys.exit(bool({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
