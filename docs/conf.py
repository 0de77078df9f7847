"""The documentation site: ``make docs`` builds it, and any warning fails the build."""

import os
import subprocess
import sys
from pathlib import Path

import benchmark
from benchmark.cli.parser import COMMANDS

HERE = Path(__file__).parent

project = "backbone-benchmark"
release = version = benchmark.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "jupyter_execute"]
# The tutorial runs with every building, in a folder of its own; a cell that fails fails the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
html_theme = "furo"
html_title = "backbone-benchmark"
templates_path: list[str] = []
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
add_module_names = False
python_use_unqualified_type_names = True
suppress_warnings = ["misc.highlighting_failure"]


def write_commands() -> None:
    """Every command's help, as the installed program prints it."""
    pages = ["# Commands\n\nAs `backbones COMMAND --help` prints them.\n"]
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "100", "PATH": ""},
        )
        pages.append(f"## backbones {command}\n\n```text\n{done.stdout.rstrip()}\n```\n")
    text = "\n".join(pages)
    target = HERE / "commands.md"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


write_commands()
