"""The figures of the code as it is: ``make figures``. ``test_rooms.py`` enforces those that are zero.

``python -m tests.figures REVISION`` prints lines by package, then and today, and the names exported today.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

import benchmark

PACKAGE = Path(benchmark.__file__).parent
ROOT = PACKAGE.parent
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
# What is for users, and for packages that register sources and targets; nobody inside needs to use it.
PUBLIC = {
    "benchmark": {"__version__", "rank"},
    "benchmark.backbones": {"Pretrained", "Source", "matching"},
    "benchmark.cli": {"main"},
    "benchmark.deployment": {"Target", "Tolerance", "frozen_function"},
}
FOR_USERS = {"benchmark.statistics"}
# What grew out of one package stands together, so that it can be compared.
_TOGETHER = (
    ("data", "audit", "storage"),
    ("backbones", "engines"),
    ("embeddings",),
    ("ranking", "heads", "statistics"),
    ("finetuning",),
    ("deployment", "serving"),
    ("reporting",),
    ("pipeline", "execution", "tracking"),
    ("cli", "options.py", "api.py", "estimators.py"),
)
_SILENT_TOKENS = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
_TINY = ("--backbones", "MobileNet_0.25", "--weights", "random", "--size", "32", "--groups", "none")


def name_of(path: Path) -> str:
    """The name that a file's module is imported by."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name of everything that is imported anywhere, in functions and for type hints, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


def circles() -> list[str]:
    """Circles of modules that import each other; the package itself has nothing but lazy names."""
    modules = {name_of(path) for path in TREES} - {"benchmark"}
    graph = {
        name_of(path): {
            found
            for module, name in imports(tree)
            for found in [f"{module}.{name}" if f"{module}.{name}" in modules else module]
            if found in modules
        }
        for path, tree in TREES.items()
        if name_of(path) in modules
    }
    found = []
    while True:
        try:
            tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = error.args[1]
            found.append(" <- ".join(circle))
            graph[circle[1]] -= {circle[0]}
        else:
            return found


def doubled_classes() -> list[str]:
    """Names of classes that are defined more than once."""
    names = Counter(
        node.name for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, count in names.items() if count > 1)


def exports() -> dict[str, set[str]]:
    """What each package names for others: what its ``__init__`` imports, or says in ``__all__``."""
    found = {}
    for path in (path for path in TREES if path.parent.parent == PACKAGE and path.name == "__init__.py"):
        own = {name for module, name in imports(TREES[path]) if module.startswith(name_of(path))}
        found[name_of(path)] = set(getattr(importlib.import_module(name_of(path)), "__all__", own))
    return found


def unused_exports() -> list[str]:
    """Names that no other package uses and that are not for users."""
    used = {
        (module, name)
        for path, tree in TREES.items()
        for module, name in imports(tree)
        if path.parent == PACKAGE or module != ".".join(name_of(path).split(".")[:2])
    }
    return sorted(
        f"{package}.{name}"
        for package, names in exports().items()
        if package not in FOR_USERS
        for name in names - PUBLIC.get(package, set())
        if (package, name) not in used
    )


def code_lines(path: Path) -> int:
    """Lines that do something: without empty ones, comments and docstrings."""
    quoted = {
        line
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    loud = [token for token in tokens if token.type not in _SILENT_TOKENS and token.string]
    return len({line for token in loud for line in range(token.start[0], token.end[0] + 1)} - quoted)


def lines_by_package(revision: str = "") -> Counter[str]:
    """Lines of every package, today or in a revision of the repository."""
    lines: Counter[str] = Counter()
    if not revision:
        for path in TREES:
            lines[path.relative_to(PACKAGE).parts[0]] += len(path.read_text().splitlines())
        return lines
    packed = subprocess.run(
        ["git", "archive", revision, PACKAGE.name], cwd=ROOT, capture_output=True, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member) if member.name.endswith(".py") else None
            if file is not None:
                lines[Path(member.name).parts[1]] += len(file.read().splitlines())
    return lines


def packages_since(revision: str) -> Iterator[tuple[str, int, int, int]]:
    """Packages that were one in a revision, with their lines then and today, and the names exported today."""
    then, today = lines_by_package(revision), lines_by_package()
    named = {package.rpartition(".")[2]: len(names) for package, names in exports().items()}
    for packages in _TOGETHER:
        yield (
            ", ".join(packages),
            *(sum(each.get(one, 0) for one in packages) for each in (then, today, named)),
        )
    rest = {*then, *today} - {one for packages in _TOGETHER for one in packages}
    yield "single modules", *(sum(each.get(one, 0) for one in rest) for each in (then, today, named))
    yield "all", then.total(), today.total(), sum(named.values())


def files_to_add() -> dict[str, int]:
    """Python files that a section of docs/extending.md touches; the tests follow these sections."""
    page = (ROOT / "docs" / "extending.md").read_text()
    found = {}
    for section in page.split("\n## ")[1:]:
        title, text = section.split("\n", 1)
        own = re.findall(r"^# \w+\.py$", text, re.M)  # of a package of the reader's
        found[title.removeprefix("A").removeprefix("n").strip()] = len(
            own or set(re.findall(r"`(benchmark/[\w/]+\.py)`", text))
        )
    return found


def frames_to_a_row() -> dict[str, int]:
    """The deepest stack of our functions, from the command to the cached row that it verifies."""
    from benchmark.cli import main

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == "open_part":
            depth, above = 0, frame
            while above.f_code is not main.__code__ and above.f_back is not None:
                depth += above.f_code.co_filename.startswith(str(PACKAGE))
                above = above.f_back
            depths.append(depth + 1)

    found = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        photos, cache = f"{folder}/photos", f"{folder}/cache"
        main(["demo", photos, "--count", "48"])
        for command, more in (("embed", ()), ("embed", ()), ("rank", ("--results", f"{folder}/results"))):
            depths: list[int] = []
            sys.setprofile(watch)
            status = main([command, photos, *_TINY, "--cache", cache, "--jobs", "1", *more])
            sys.setprofile(None)
            assert not status, command
            found[command] = max(depths, default=0)
    return found


def table() -> Iterator[tuple[str, object, object]]:
    """What, how much, and how much of it is wanted."""
    yield "lines in benchmark/", sum(len(path.read_text().splitlines()) for path in TREES), "<= 24,000"
    yield "of them code", sum(map(code_lines, TREES)), ""
    yield "exported names", sum(map(len, exports().values())), "<= 130"
    yield "of them unused by other packages", len(unused_exports()), 0
    yield "import circles, those of type hints too", len(circles()), 0
    yield "class names defined twice", len(doubled_classes()), 0
    for command, frames in frames_to_a_row().items():
        yield f"frames from `{command}` to a cached row", frames, "<= 15"
    for thing, files in files_to_add().items():
        yield f"files touched to add: {thing}", files, "1 or 2"
    yield "words in README.md", len((ROOT / "README.md").read_text().split()), "<= 900"


if __name__ == "__main__" and len(sys.argv) > 1:
    print(f"| packages | {sys.argv[1]} | today | exported names |\n| --- | --- | --- | --- |")
    for package, before, now, names in packages_since(sys.argv[1]):
        print(f"| {package} | {before:,} | {now:,} | {names} |")
elif __name__ == "__main__":
    print("| what | today | wanted |\n| --- | --- | --- |")
    for what, today, wanted in table():
        print(f"| {what} | {today:,} | {wanted} |")
