"""Imports go downward through the packages only, and only through what a package offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.figures import (
    PACKAGE,
    circles,
    doubled_classes,
    exports,
    files_to_add,
    frames_to_a_row,
    unused_exports,
)

PACKAGES = [
    "errors",
    "plugins",
    "machine",
    "memory",
    "records",
    "locations",
    "options",
    "drawing",
    "storage",
    "execution",
    "cells",
    "tracking",
    "data",
    "audit",
    "backbones",
    "engines",
    "embeddings",
    "statistics",
    "heads",
    "ranking",
    "finetuning",
    "deployment",
    "reporting",
    "pipeline",
    "serving",
    "api",
    "estimators",
    "cli",
    "__main__",
]
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.name != "__init__.py"
)

HEAVY = {
    "tensorflow",
    "keras",
    "openvino",
    "onnxruntime",
    "torch",
    "sklearn",
    "scipy",
    "pandas",
    "matplotlib",
    "jinja2",
    "rich",
    "starlette",
    "uvicorn",
}


def package_of(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imported_modules(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.append(node.module or "")
            if node.module == "benchmark":
                names += [f"benchmark.{alias.name}" for alias in node.names]
    return [name for name in names if name.startswith("benchmark.")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward_and_through_what_a_package_offers(path: Path) -> None:
    own = package_of(path.relative_to(PACKAGE).parts)
    for name in imported_modules(ast.parse(path.read_text())):
        parts = tuple(name.split(".")[1:])
        other = package_of(parts)
        if other not in PACKAGES:  # a public name of the package itself, for example __version__
            continue
        assert PACKAGES.index(other) <= PACKAGES.index(own), (
            f"{path}: {own} imports {other}, which lies below it"
        )
        if other != own:
            assert len(parts) == 1 or not (PACKAGE / other).is_dir(), (
                f"{path}: reaches inside {other}: {name}"
            )


def test_every_folder_is_listed() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(PACKAGES)


def test_no_circles_not_even_of_type_hints() -> None:
    assert not circles()


def test_every_class_has_a_name_of_its_own() -> None:
    assert not doubled_classes()


def test_packages_name_what_others_use_and_nothing_else() -> None:
    assert not unused_exports()


def test_what_is_open_takes_one_file_or_two() -> None:
    assert max(files_to_add().values()) <= 2


@pytest.mark.slow
def test_a_command_is_few_calls_away_from_a_cached_row() -> None:
    assert max(frames_to_a_row().values()) <= 15


def test_the_readme_stays_short() -> None:
    assert len((PACKAGE.parent / "README.md").read_text().split()) <= 900


def test_importing_a_package_loads_nothing_heavy() -> None:
    code = f"import importlib, sys\nfor name in {list(exports())}: importlib.import_module(name); "
    code += f"assert not {HEAVY} & set(sys.modules), (name, {HEAVY} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
