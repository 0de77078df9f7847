"""``run.json`` beside a fine-tuned model is believed field by field, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.finetuning.model_directory import read_run

GOOD: dict[str, Any] = {
    "digest": "0" * 64,
    "comparable_digest": "1" * 64,
    "grouped": False,
    "kept": "phase1",
    "phases": {"before": {"val": {"f1": 0.5}, "test": None}, "phase1": {"val": {"f1": 0.6}}, "phase2": None},
    "notes": ["so it was"],
    "recipe": {"name": "frozen"},
    "cached_views": 0,
    "train_seconds": 1.5,
}


def test_a_good_record_is_read(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(GOOD))
    assert read_run(tmp_path).phases["phase1"] == {"val": {"f1": 0.6}}


@pytest.mark.faults("foreign and damaged records")
@pytest.mark.parametrize(
    "change",
    [
        {"grouped": "no"},
        {"kept": "phase9"},
        {"phases": []},
        {"phases": {"phase1": {"val": {"f1": "0.6"}}}},
        {"notes": "text"},
        {"notes": [1]},
        {"cached_views": 1.5},
        {"train_seconds": "long"},
        {"recipe": None},
        {"surprise": 1},
        {"digest": 3},
        {"digest": "abc"},
        {"comparable_digest": ""},
        {"phases": {**GOOD["phases"], "phase7": None}},
        {"kept": "phase2"},
        {"cached_views": -1},
        {"train_seconds": -0.5},
        {"train_seconds": float("nan")},
        {"train_seconds": True},
        {"recipe": {"deep": json.loads("[" * 120 + "]" * 120)}},
    ],
)
def test_a_record_with_another_field_is_none(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(ValueError, match=r".+"):
        read_run(tmp_path)
