"""What a run remembered and cannot be read any more is computed again; it never ends a run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from command_places import QUICK, SMALL, Place, Run

pytestmark = pytest.mark.faults("damaged records")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes() or b"x")
    content[len(content) // 2] ^= 0x15
    path.write_bytes(content)


def _other_json(path: Path) -> None:
    path.write_text(
        '{"schema": [1], "rows": {"a": null}, "data": 3, "sha256": [], "name": {}, "meta": 1e999}'
    )


def _a_list(path: Path) -> None:
    path.write_text("[[1, null], {}, 1e400]")


def _deep(path: Path) -> None:
    path.write_text("[" * 100_000 + "]" * 100_000)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(6 * 2**30)


@pytest.mark.parametrize(
    "damage",
    [
        *(_half, _other_json, _pipe),
        *(pytest.param(one, marks=pytest.mark.slow) for one in (_empty, _flipped, _a_list, _deep, _sparse)),
    ],
)
def test_every_record_may_be_damaged(backbones: Run, ranked: Place, damage: Callable[[Path], None]) -> None:
    before = json.loads((ranked.board / "leaderboard.json").read_text())
    records = [
        *(ranked.board / "outcomes").iterdir(),
        *(ranked.board / name for name in ("run.json", "images.csv", "leaderboard.json")),
        *(path for path in ranked.cache.rglob("*") if path.is_file() and path.suffix != ".lock"),
    ]
    assert len({path.suffix for path in records}) > 3
    for path in records:
        damage(path)
    answer = backbones("rank", ranked.data, *SMALL, *QUICK, *ranked.folders, "--quiet")
    assert answer.status == 0, answer.err
    after = json.loads((ranked.board / "leaderboard.json").read_text())
    same = ("backbone", "val_f1", "test_f1", "weights_sha256", "status")
    assert [[row[name] for name in same] for row in after["rows"]] == [
        [row[name] for name in same] for row in before["rows"]
    ]
