"""A run's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.pipeline.runs import Run

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="a device of Linux")
def test_a_log_without_room_says_nothing_and_hides_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "walls", tmp_path)
    (handler,) = run._logger.handlers
    handler.setStream(FULL.open("w")).close()  # type: ignore[attr-defined]
    run.log("a line that finds no room")
    run.close()
    assert capsys.readouterr().err == ""
