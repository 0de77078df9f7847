"""What completes commands in a shell is taken by that shell and completes."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from command_places import Run

BASH = shutil.which("bash")


@pytest.mark.skipif(BASH is None, reason="no bash here")
@pytest.mark.parametrize(
    ("typed", "wanted"),
    [("ra", ["rank"]), ("rank --max-l", ["--max-latency-ms", "--max-loss"]), ("rank --search ", [])],
)
def test_bash_completes(backbones: Run, typed: str, wanted: list[str]) -> None:
    answer = backbones("completion", "bash")
    assert answer.status == 0, answer.err
    words = ["backbones", *typed.split(" ")]
    asked = (
        f"{answer.out}\nCOMP_WORDS=({' '.join(repr(word) for word in words)})\nCOMP_CWORD={len(words) - 1}\n"
        "$(complete -p backbones | sed 's/.*-F \\([^ ]*\\).*/\\1/')\nprintf '%s\\n' \"${COMPREPLY[@]}\""
    )
    assert BASH
    done = subprocess.run([BASH, "-c", asked], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == wanted


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_theirs(backbones: Run, shell: str) -> None:
    answer = backbones("completion", shell)
    assert answer.status == 0
    assert "max-latency-ms" in answer.out
