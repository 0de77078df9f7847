"""Minimum versions exclude known vulnerabilities; what is installed is audited where that can be done."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]

# package -> the first version without the vulnerabilities that docs/security.md lists
FIXED = {"keras": "3.15.1", "pillow": "12.2", "jinja2": "3.1.6", "filelock": "3.20.3", "onnx": "1.21"}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_LISTS = dict(re.findall(r"^(SETUP|CONTAINER) *:= (.*)$", (ROOT / "Makefile").read_text(), re.M))
# What each file of hashes is for: the extras that it installs.
LOCKS = {
    "requirements.lock": set(_LISTS["SETUP"].split()),
    "container.lock": set(_LISTS["CONTAINER"].split()),
}


def requirements(extras: Iterable[str] = PROJECT["optional-dependencies"]) -> dict[str, Requirement]:
    lines = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    found = [Requirement(line) for line in (*PROJECT["dependencies"], *lines)]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def constraints() -> dict[str, str]:
    pairs = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {canonicalize_name(name): version for name, version in pairs}


def locked(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """What a file of hashes installs: requirement and hashes by name."""
    text = re.sub(r"^#.*$", "", (ROOT / name).read_text(), flags=re.M).replace("\\\n", " ")
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        requirement, *hashes = re.split(r"\s+--hash=", line)
        parsed = Requirement(requirement)
        found[canonicalize_name(parsed.name)] = (parsed, hashes)
    return found


@pytest.mark.parametrize(("name", "fixed"), FIXED.items())
def test_minimum_versions_exclude_known_vulnerabilities(name: str, fixed: str) -> None:
    lowest = next(item for item in requirements()[name].specifier if item.operator == ">=")
    assert Version(lowest.version) >= Version(fixed)
    assert Version(metadata.version(name)) >= Version(fixed)


def test_the_documented_versions_are_the_checked_ones() -> None:
    table = (ROOT / "docs" / "security.md").read_text().partition("## Minimum versions")[2]
    assert dict(re.findall(r"^\| ([a-z0-9]+) \| ([0-9.]+) \|", table, re.MULTILINE)) == FIXED


def test_constraints_satisfy_the_requirements() -> None:
    pinned = constraints()
    for name, requirement in requirements().items():
        assert pinned[name] in requirement.specifier, name


@pytest.mark.parametrize(("file", "extras"), LOCKS.items())
def test_locked_versions_are_those_of_the_constraints_with_hashes(file: str, extras: set[str]) -> None:
    pinned, held = constraints(), locked(file)
    assert not requirements(extras).keys() - held.keys(), "what is asked for is locked"
    for name, (requirement, hashes) in held.items():
        assert str(requirement.specifier) == f"=={pinned[name]}", f"{name}: run 'make lock'"
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name
    assert "://" not in (ROOT / file).read_text(), "no index stands in the file"


@pytest.mark.parametrize(("file", "extras"), LOCKS.items())
def test_what_is_locked_needs_nothing_that_is_not(file: str, extras: set[str]) -> None:
    """Installed is what the file says, without looking for more."""
    held = locked(file)
    here = {name for name, (one, _) in held.items() if one.marker is None or one.marker.evaluate()}
    # The file names no extras: they are asked for by those who need them.
    pending = {(name, "") for name in here}
    pending |= {(name, extra) for name, one in requirements(extras).items() for extra in one.extras}
    seen: set[tuple[str, str]] = set()
    while pending:
        seen.add(next_one := pending.pop())
        name, extra = next_one
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # of an extra that this environment lacks
            continue
        for needed in map(Requirement, needs):
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                assert canonicalize_name(needed.name) in here, f"{name} needs {needed}"
                pending |= {(canonicalize_name(needed.name), one) for one in needed.extras} - seen


def test_what_makes_the_lock_is_pinned_and_setup_takes_no_older_python() -> None:
    make = (ROOT / "Makefile").read_text()
    assert "--constraint constraints.txt uv\n" in make
    assert "uv" in constraints()
    (lowest,) = re.findall(r"--python-version ([\d.]+)", make)
    assert f"({lowest.replace('.', ', ')}) <= sys.version_info[:3]" in make


def test_setup_and_the_container_install_by_hash() -> None:
    make, docker = ((ROOT / name).read_text() for name in ("Makefile", "Dockerfile"))
    assert "--require-hashes --no-deps --requirement requirements.lock" in make
    assert "--require-hashes --no-deps --requirement container.lock" in docker
    assert LOCKS["container.lock"] >= {"cloud", "dask"}, "schedulers and workers of docs/cluster.md run in it"


def test_every_package_that_is_imported_is_declared() -> None:
    """What comes along with another package today may not come along tomorrow."""
    imported: set[str] = set()
    for path in (ROOT / "benchmark").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    owners = {"mlflow": ["mlflow-skinny"], **metadata.packages_distributions()}  # not installed by make
    foreign = imported - set(sys.stdlib_module_names) - {"benchmark"}
    declared = set(requirements())
    undeclared = {
        name
        for name in foreign
        if declared.isdisjoint(canonicalize_name(owner) for owner in owners.get(name, [name]))
    }
    assert not undeclared


@pytest.mark.slow
def test_pip_audit_finds_nothing(tmp_path: Path) -> None:
    """Audits the pinned versions; skips, and says why, where no database of vulnerabilities answers."""
    if importlib.util.find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed")
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--no-deps", "--disable-pip"]
    command += ["--format=json", f"--output={report}", "--timeout=10", "-r", str(ROOT / "constraints.txt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if not report.exists():
        pytest.skip(f"pip-audit reached no database: {done.stderr.strip()[-200:]}")
    dependencies = json.loads(report.read_text())["dependencies"]
    audited = [one for one in dependencies if "skip_reason" not in one]
    if not audited:
        pytest.skip(f"pip-audit knows none of the packages here: {dependencies[0]['skip_reason']}")
    vulnerable = {one["name"]: [item["id"] for item in one["vulns"]] for one in audited if one["vulns"]}
    assert vulnerable == {}
