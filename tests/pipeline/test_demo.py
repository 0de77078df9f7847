"""The demo shows the product at work without a network: random weights see some of it, colours nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmark.backbones import select
from benchmark.data import write_demo
from benchmark.pipeline import RankRequest, rank_backbones
from benchmark.records import Engine


def test_random_weights_are_above_chance_and_colours_are_not(
    tmp_path: Path, request_for: Callable[..., RankRequest]
) -> None:
    request = request_for(write_demo(tmp_path / "concrete", count=120), *select("MobileNet_0.25"))
    request = request.but(size=224, engine=Engine.TENSORFLOW)
    ranked = rank_backbones(request)
    best = ranked.board.frame.val_f1.max()
    baselines = pd.read_csv(ranked.folder / "baselines.csv", index_col="baseline").val_f1
    assert 0.7 < best < 0.95
    assert best - baselines["majority"] > 0.1
    assert best - baselines["colour_histogram"] > 0.1
    assert not [note for note in ranked.board.notes if "chance" in note.lower()]
    assert not [note for note in ranked.board.notes if "SHORTCUT" in note]
