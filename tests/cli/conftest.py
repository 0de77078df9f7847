"""The command line as a user has it: in this process, so that TensorFlow is imported once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))
from command_places import QUICK, SMALL, Place, Run, run_here


@pytest.fixture(scope="session")
def backbones() -> Run:
    """``backbones(*words) -> Answer``, in this process."""
    return run_here


@pytest.fixture(scope="session")
def spawn() -> Callable[..., subprocess.Popen[str]]:
    """``spawn(*words, cwd=, **environment)``: the command in a process group of its own."""

    def start(*words: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "benchmark", *map(str, words)],
            cwd=cwd,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.fixture(scope="session")
def walls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 generated photographs; read only."""
    folder = tmp_path_factory.mktemp("photos") / "walls"
    assert run_here("demo", folder, "--count", 40, "--quiet").status == 0
    return folder


@pytest.fixture
def place(tmp_path: Path, walls: Path) -> Place:
    """The walls, with empty folders."""
    return Place(tmp_path, walls)


@pytest.fixture(scope="session")
def ranked_once(tmp_path_factory: pytest.TempPathFactory, walls: Path) -> Place:
    """A finished ranking; read only."""
    place = Place(tmp_path_factory.mktemp("ranked"), walls)
    answer = run_here("rank", walls, *SMALL, *QUICK, *place.folders, "--quiet")
    assert answer.status == 0, answer.err
    return place


@pytest.fixture
def ranked(ranked_once: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of a finished ranking, to do anything with."""
    copy = Place(tmp_path / "ranked", ranked_once.data)
    shutil.copytree(ranked_once.root, copy.root, symlinks=True)
    yield copy
    shutil.rmtree(copy.root, ignore_errors=True)
