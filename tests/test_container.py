"""The container file: what it copies, installs and starts is there. No engine builds it here."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(kind: str) -> list[str]:
    return [line.removeprefix(f"{kind} ") for line in LINES if line.startswith(f"{kind} ")]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    names = [name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    assert {"benchmark", "pyproject.toml", "container.lock"} <= set(names)
    for name in names:
        assert (ROOT / name).exists(), name
        assert any(fnmatch.fnmatch(name, pattern) for pattern in kept), name
    assert PROJECT["readme"] in names
    assert set(PROJECT["license-files"]) <= set(names)


def test_what_is_installed_and_started_is_declared() -> None:
    (install,) = [line for line in instructions("RUN") if "pip install" in line]
    assert set(re.findall(r"--requirement (\S+)", install)) <= {path.name for path in ROOT.iterdir()}
    assert "setuptools==" in (ROOT / "container.lock").read_text(), "nothing is fetched for the build"
    assert instructions("ENTRYPOINT") == ['["backbones"]']
    assert "backbones" in PROJECT["scripts"]
    images = [line.split()[0] for line in instructions("FROM")]
    assert len(set(images)) == 1, "what is built for one Python runs on no other"
    version = tuple(map(int, images[0].removeprefix("python:").removesuffix("-slim").split(".")))
    low, high = (
        tuple(map(int, part.split("."))) for part in re.findall(r"[\d.]+", PROJECT["requires-python"])
    )
    assert low <= version < high


def test_it_does_not_run_as_root() -> None:
    (user,) = instructions("USER")
    assert LINES.index(f"USER {user}") < LINES.index('ENTRYPOINT ["backbones"]')
    assert user != "root"
