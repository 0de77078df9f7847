"""Learning curves beside a board: nested halves, kept, drawn, and rebuilt without training."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmark.heads import train_heads, train_on_fewer
from benchmark.pipeline import RankRequest, rank_backbones, rebuild_report
from benchmark.records import Embeddings, HeadProtocol, ProtocolName, Split, Targets, Task
from benchmark.reporting import read_board

PROTOCOL = HeadProtocol(epochs=2, updates=0, repeats=2, weight_decays=(4.0,))


def drawn(images: int, grouped: int = 0) -> tuple[Embeddings, Targets]:
    """Embeddings of two classes, the second twice as frequent; with ``grouped`` so many images a group."""
    generator = np.random.default_rng(0)
    labels = (np.arange(images) // max(grouped, 1) % 3 > 0).astype(np.float32)[:, None]
    features = (generator.normal(size=(images, 8)) + labels).astype(np.float32)
    return Embeddings(image_ids=tuple(f"{row:064x}" for row in range(images)), features=features), Targets(
        targets=labels,
        classes=("no", "yes"),
        task=Task.BINARY,
        positive=1,
        groups=np.arange(images) // grouped if grouped else None,
    )


def split_of(images: int, test: int = 0) -> Split:
    rows = np.arange(images)
    return Split(train=rows[test:], val=rows[:0], test=rows[:test], given=False)


def test_halves_are_validated_on_the_images_of_the_board() -> None:
    embeddings, targets = drawn(120)
    split = split_of(120, test=20)
    result = train_heads(embeddings, targets, split, PROTOCOL)
    fewer = train_on_fewer(embeddings, targets, split, PROTOCOL, result.chosen)
    assert fewer.images == 80
    assert list(fewer.predictions) == [40, 20, 10]
    for found in fewer.predictions.values():
        assert found.val_rows.tolist() == list(range(20, 120))
        assert found.val.shape == (2, 100, 1)
        assert (found.val > 0).all()
        assert not found.test.any(), "no test image is looked at"


def test_heads_depend_on_their_part_of_the_images_alone() -> None:
    """Each smaller part lies within the larger one, and half of every class is in it."""
    embeddings, targets = drawn(120)
    split = replace(split_of(120), train=np.arange(90), val=np.arange(90, 120))
    protocol = replace(PROTOCOL, name=ProtocolName.HOLDOUT)
    chosen = train_heads(embeddings, targets, split, protocol).chosen
    base = train_on_fewer(embeddings, targets, split, protocol, chosen)
    assert list(base.predictions) == [45, 23, 12]
    used: dict[int, set[int]] = {size: set() for size in base.predictions}
    for row in range(90):
        flipped = targets.targets.copy()
        flipped[row] = 1 - flipped[row]
        # Only heads that train on this row notice its label; folds are stratified by it, so weights change.
        changed = embeddings.features.copy()
        changed[row] += 3
        other = train_on_fewer(replace(embeddings, features=changed), targets, split, protocol, chosen)
        for size, found in other.predictions.items():
            if not np.allclose(found.val[0], base.predictions[size].val[0], atol=1e-4):
                used[size].add(row)
    large, middle, small = (used[size] for size in base.predictions)
    assert small < middle < large
    for size, rows in used.items():
        assert len(rows) == size
        positive = int(targets.targets[sorted(rows), 0].sum())
        assert abs(positive - size * 2 / 3) < 1.5


@pytest.mark.parametrize(("images", "sizes"), [(120, 3), (12, 1)])
def test_parts_end_where_a_class_would_be_missing(images: int, sizes: int) -> None:
    embeddings, targets = drawn(images)
    split = split_of(images)
    protocol = replace(PROTOCOL, folds=3)
    chosen = train_heads(embeddings, targets, split, protocol).chosen
    assert len(train_on_fewer(embeddings, targets, split, protocol, chosen).predictions) == sizes


def test_groups_move_whole() -> None:
    embeddings, targets = drawn(240, grouped=4)
    split = split_of(240)
    chosen = train_heads(embeddings, targets, split, PROTOCOL).chosen
    fewer = train_on_fewer(embeddings, targets, split, PROTOCOL, chosen)
    assert [size % 4 for size in fewer.predictions] == [0, 0, 0]


def test_the_reference_protocol_has_no_curve() -> None:
    embeddings, targets = drawn(60)
    split = replace(split_of(60), train=np.arange(40), val=np.arange(40, 60))
    protocol = replace(PROTOCOL, name=ProtocolName.REFERENCE)
    chosen = train_heads(embeddings, targets, split, protocol).chosen
    assert not train_on_fewer(embeddings, targets, split, protocol, chosen).predictions


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "learning_curve.csv").read_text().splitlines()))


def test_curves_of_the_picks_stand_beside_the_board_and_are_rebuilt(
    tmp_path: Path, tiny: ModuleType, request_for: Callable[..., RankRequest]
) -> None:
    photos = tiny.draw_photos(tmp_path / "walls", 40)
    backbones = (tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16))
    request = request_for(photos, *backbones)
    ranked = rank_backbones(request)
    picks = [row for row in ranked.board.rows if row["pick"]]
    rows = table(ranked.folder)
    assert list(dict.fromkeys(row["backbone"] for row in rows)) == [row["backbone"] for row in picks]
    assert list(rows[0]) == ["backbone", "images", "f1", "low", "high", "kind"]
    for pick in picks:
        last = [row for row in rows if row["backbone"] == pick["backbone"] and row["kind"] == "measured"][-1]
        shown = [float(last[name]) for name in ("f1", "low", "high")]
        assert shown == [pick["val_f1"], pick["val_f1_low"], pick["val_f1_high"]], "as on the board"
    plot = ranked.folder / "plots" / "learning_curve.png"
    assert "What more images would bring" in (ranked.folder / "leaderboard.html").read_text()

    before = {path: path.read_bytes() for path in (plot, ranked.folder / "learning_curve.csv")}
    for path in before:
        path.unlink()
    rebuilt = rebuild_report(photos, results=request.options.results, cache=tmp_path / "no cache")
    assert rebuilt.board.statements == ranked.board.statements
    assert {path: path.read_bytes() for path in before} == before

    # A damaged curve is computed again.
    for stored in (ranked.folder / "outcomes").glob("*.curve.json"):
        stored.write_text("{}")
    again = rank_backbones(request)
    assert again.board.statements == ranked.board.statements
    assert table(again.folder) == rows


def test_a_curve_that_cannot_be_computed_is_a_note(
    tmp_path: Path, tiny: ModuleType, request_for: Callable[..., RankRequest]
) -> None:
    photos = tiny.draw_photos(tmp_path / "walls", 40)
    request = request_for(photos, tiny.tiny_backbone("Tiny8", 8))
    ranked = rank_backbones(request)
    (stored,) = (ranked.folder / "outcomes").glob("*.curve.json")
    stored.unlink()
    stored.mkdir()  # nothing can be written there
    again = rank_backbones(request)
    assert any("The learning curve of Tiny8 could not be computed" in note for note in again.board.notes)
    assert read_board(again.folder / "leaderboard.json").winner == ranked.board.winner
    assert not (again.folder / "learning_curve.csv").exists()
