"""Every command that README.md and the pages of docs/ print is one that the parser takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benchmark.cli.parser import make_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("backbones ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_commands_are_understood(page: Path) -> None:
    for arguments in commands(page):
        assert make_parser().parse_args(arguments).command is not None


def test_there_are_documented_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) >= 20
