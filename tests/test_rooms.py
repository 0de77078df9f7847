"""Imports go downward through the rooms only, and only through a room's front door."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import benchmark

PACKAGE = Path(benchmark.__file__).parent
ROOMS = [
    "errors",
    "plugins",
    "machine",
    "memory",
    "records",
    "options",
    "drawing",
    "storage",
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
    "api",
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
}
# What is for users, and for packages that register targets; nobody inside needs to use it.
PUBLIC = {
    "benchmark": {"__version__", "rank"},
    "benchmark.cli": {"main"},
    "benchmark.deployment": {"Deployment", "Target", "Tolerance", "frozen_function"},
}
DOORS = sorted(".".join(("benchmark", path.parent.name)) for path in PACKAGE.glob("*/__init__.py"))


def room_of(parts: tuple[str, ...]) -> str:
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
def test_imports_go_downward_and_through_the_front_door(path: Path) -> None:
    own = room_of(path.relative_to(PACKAGE).parts)
    for name in imported_modules(ast.parse(path.read_text())):
        parts = tuple(name.split(".")[1:])
        other = room_of(parts)
        if other not in ROOMS:  # a public name of the package itself, for example __version__
            continue
        assert ROOMS.index(other) <= ROOMS.index(own), f"{path}: {own} imports {other}, which lies below it"
        if other != own:
            assert len(parts) == 1 or not (PACKAGE / other).is_dir(), (
                f"{path}: reaches inside {other}: {name}"
            )


def test_every_folder_is_a_room() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(ROOMS)


def _of_its_own_room(path: Path) -> set[str]:
    """Modules of the same room that a module imports when it is imported itself, by stem."""
    room = ".".join(("benchmark", *path.parent.relative_to(PACKAGE).parts))
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module == room:
            found |= {alias.name for alias in node.names if (path.parent / f"{alias.name}.py").exists()}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{room}."):
            found.add(str(node.module).rsplit(".", 1)[1])
    return found


@pytest.mark.parametrize("room", sorted(path.parent for path in PACKAGE.glob("*/__init__.py")))
def test_no_circles_inside_a_room(room: Path) -> None:
    graph = {path.stem: _of_its_own_room(path) for path in room.glob("*.py") if path.stem != "__init__"}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_doors_open_on_what_other_rooms_use_and_nothing_else() -> None:
    used = {
        (str(node.module), alias.name)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if str(node.module).split(".")[1:] != [room_of(path.relative_to(PACKAGE).parts)]
    }
    for door in DOORS:
        room = importlib.import_module(door)
        offered = room.__all__
        assert all(hasattr(room, name) for name in offered), door
        if door != "benchmark.statistics":  # for predictions of users' own
            unused = {name for name in offered if (door, name) not in used} - PUBLIC.get(door, set())
            assert not unused, f"{door} names what no other package uses: {', '.join(sorted(unused))}"


def test_opening_a_door_loads_nothing_heavy() -> None:
    code = f"import importlib, sys\nfor door in {DOORS}: importlib.import_module(door); "
    code += f"assert not {HEAVY} & set(sys.modules), (door, {HEAVY} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
