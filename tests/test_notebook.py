"""A notebook that a real kernel executes: one line of progress in its cell, none of the libraries below."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmark.reporting import in_notebook

_RANK = """
import benchmark as bb
board = bb.rank({data!r}, backbones=["MobileNet_0.25", "MobileNetV2_0.35"], weights="random", size=32,
                limit=60, groups="none", cache={cache!r}, results={results!r})
"""


def test_this_is_no_notebook() -> None:
    assert not in_notebook()


def execute(tmp_path: Path, *cells: str) -> list[Any]:
    """The outputs of each cell; every change of a displayed line is noted in its place."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    said: list[Any] = []

    class Watching(nbclient.NotebookClient):  # type: ignore[misc, name-defined]
        def process_message(self, message: Any, cell: Any, index: int) -> Any:  # noqa: ANN401
            if message["msg_type"] in {"display_data", "update_display_data"}:
                said.append(message["content"]["data"]["text/plain"])
            return super().process_message(message, cell, index)

    Watching(
        book,
        timeout=900,
        iopub_timeout=60,
        startup_timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    return [said, *([dict(output) for output in cell.outputs] for cell in book.cells)]


@pytest.mark.skipif(sys.platform == "win32", reason="the event loop of kernels differs")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own packages
def test_a_cell_shows_one_line_that_ends_with_the_time_it_took(tmp_path: Path) -> None:
    from benchmark.data import write_demo

    write_demo(tmp_path / "photos")
    words = {name: str(tmp_path / name) for name in ("cache", "results")}
    said, ranked, shown, again = execute(
        tmp_path,
        _RANK.format(data=str(tmp_path / "photos"), **words),
        "board",
        "model = bb.list_backbones(backbones='MobileNet_0.25')",
    )
    (line,) = ranked
    assert line["output_type"] == "display_data", "no line of TensorFlow, no warning"
    assert line["data"]["text/plain"].startswith("done in ")
    assert "<progress" not in line["data"]["text/html"]
    # How often it changes is the clock's: here it is that it is one line, however often.
    assert said[-1] == line["data"]["text/plain"]
    assert [output["output_type"] for output in shown] == ["execute_result"]
    assert again == []
