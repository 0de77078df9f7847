"""demo"""

from pathlib import Path


def write_demo(folder: Path, *, count: int = 300, seed: int = 0) -> Path:
    raise NotImplementedError
