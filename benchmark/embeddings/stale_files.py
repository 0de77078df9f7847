"""How large things are, and taking away folders whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from benchmark.storage import temporary_beside


def bytes_under(path: Path) -> int:
    """Bytes of a file, or of all files under a folder; links count as themselves."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(OSError):
            return path.lstat().st_size
        return 0
    return sum(bytes_under(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)


def remove_whole(path: Path) -> None:
    """Remove a file or folder; a folder disappears under its name at once, before its files go one by one.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = temporary_beside(path)
    path.rename(aside)
    shutil.rmtree(aside)
