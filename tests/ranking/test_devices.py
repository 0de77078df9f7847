"""What was measured on a device, beside boards that it belongs to and others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmark.ranking import MeasuredDevice, with_device
from benchmark.ranking.devices import DeviceExport, DeviceMachine, DeviceRecord
from benchmark.records import Leaderboard, Status

MINE, OTHERS, SHA = "1" * 64, "2" * 64, "0" * 64
MACHINE = DeviceMachine(
    model="Pi",
    system="Linux",
    architecture="aarch64",
    processor="",
    cores=4,
    memory_bytes=None,
    governor="",
    python="3.13",
    runtimes={},
)
EXPORT = DeviceExport(
    backbone="Small",
    weights_sha256=SHA,
    input_size=32,
    target="onnx",
    size_bytes=1,
    f1=0.8,
    f1_low=0.7,
    f1_high=0.9,
    f1_images=100,
    outcome=MINE,
    status="passed",
    reason="",
    load_ms=1.0,
    latency_p50_ms=2.0,
    latency_p95_ms=3.0,
    runs=20,
)
RECORD = DeviceRecord(
    schema=1,
    data="walls",
    fingerprint=SHA,
    kit=SHA,
    machine=MACHINE,
    threads=1,
    interrupted=False,
    exports=(EXPORT,),
)
ROW = {
    "backbone": "Small",
    "weights_sha256": SHA,
    "input_size": 32,
    "status": Status.SCORED,
    "val_f1": 0.8,
}
BOARD = Leaderboard(columns=tuple(ROW), rows=(ROW,), winner="Small", loss_bound=0.0)


def shown(outcome: str | None, outcomes: dict[str, str]) -> Leaderboard:
    """The board with a device whose kit was made for such scores."""
    record = replace(RECORD, exports=(replace(EXPORT, outcome=outcome),))
    board = with_device(BOARD, MeasuredDevice(name="pi5", record=record), outcomes)
    assert board.rows[0]["device_latency_ms"] == 2.0, "it holds, whatever was scored"
    assert with_device(board, None, outcomes) == BOARD
    return board


def test_f1_stands_beside_the_scores_that_it_belongs_to() -> None:
    board = shown(MINE, {"Small": MINE})
    assert [board.rows[0][f"device_f1{end}"] for end in ("", "_low", "_high")] == [0.8, 0.7, 0.9]
    (said,) = board.statements
    assert said.endswith("F1 0.800 [0.700, 0.900].")


@pytest.mark.parametrize(
    ("outcome", "outcomes", "reason"),
    [
        (
            OTHERS,
            {"Small": MINE},
            "made for other scores (of other images, other embeddings or",
        ),
        (OTHERS, {"Other": OTHERS}, "made for other scores"),
        (None, {"Small": MINE}, "does not say for which scores it was made"),
    ],
)
def test_f1_of_other_scores_is_not_shown_and_said(
    outcome: str | None, outcomes: dict[str, str], reason: str
) -> None:
    board = shown(outcome, outcomes)
    assert "0.8" not in str([board.rows[0][f"device_f1{end}"] for end in ("", "_low", "_high")])
    first, second = board.statements
    assert "takes 2 ms" in first
    assert "F1" not in first
    assert "F1 of Small is not shown" in second
    assert reason in second
