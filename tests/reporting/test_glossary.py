"""The glossary lists every file that there can be, in the words of the program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmark.audit.output import AUDIT_FILES
from benchmark.finetuning.manifest import FOR_PEOPLE, FOREIGN_FILES, LABELS_FILE, LISTED, MODEL_FILE
from benchmark.finetuning.model_directory import RUN_FILE
from benchmark.finetuning.tables import SPLIT_FILE
from benchmark.finetuning.trained_on import SEEN_FILES
from benchmark.pipeline.labels import LABEL_FILES
from benchmark.reporting.write import BOARD_FILES, OTHER_FILES

PAGE = Path(__file__).parents[2] / "docs" / "glossary.md"


def table(files: Mapping[str, str]) -> str:
    lines = ["| file | what it holds |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {holds} |" for name, holds in files.items())])


@pytest.mark.parametrize("files", [BOARD_FILES | OTHER_FILES, FOR_PEOPLE | LISTED], ids=["board", "model"])
def test_the_page_lists_every_file(files: Mapping[str, str]) -> None:
    assert table(files) in PAGE.read_text(), f"a table of {PAGE} should be:\n{table(files)}"


def test_what_other_packages_write_is_listed() -> None:
    assert {*AUDIT_FILES, *LABEL_FILES} <= OTHER_FILES.keys()
    foreign = {name for files in FOREIGN_FILES for name in files}
    assert {MODEL_FILE, *foreign, LABELS_FILE, SPLIT_FILE, RUN_FILE, *SEEN_FILES} <= LISTED.keys()
