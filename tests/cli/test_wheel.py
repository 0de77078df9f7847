"""A built wheel works outside the checkout, with everything that it needs inside."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_places import QUICK, SMALL

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel: what an installation puts beside its dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    copy.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "benchmark", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--quiet",
        "--wheel-dir",
        str(folder),
        str(copy),
    ]
    done = subprocess.run(build, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode:
        pytest.skip(f"no build tools here: {done.stderr.strip()[-200:]}")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def outside(installed: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the installed package in another folder, the checkout out of sight."""
    code = (
        "import sys, pathlib, benchmark;"
        "assert pathlib.Path(benchmark.__file__).is_relative_to(sys.argv.pop(1));"
        "from benchmark.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(installed), *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_wheel_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    listed = outside(installed, tmp_path, "list", "--format", "csv")
    assert len(listed.stdout.splitlines()) == 53, listed.stderr
    assert "two-phase-f1" in outside(installed, tmp_path, "recipes").stdout
    assert outside(installed, tmp_path, "demo", "walls", "--count", 40).returncode == 0
    ranked = outside(installed, tmp_path, "rank", "walls", *SMALL, *QUICK)
    assert ranked.returncode == 0, ranked.stderr
    assert (tmp_path / "results" / "walls" / "leaderboard.html").exists()
    assert (tmp_path / "embeddings_cache").is_dir()
