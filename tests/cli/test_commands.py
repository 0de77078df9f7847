"""Every command from its arguments to its output and exit status."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from command_places import QUICK, SMALL, Place, Run

from benchmark.options import RankOptions
from benchmark.pipeline import RankRequest, rank_backbones
from benchmark.records import HeadProtocol

TIMINGS = [
    "images_per_second",
    "latency_ms",
    "latency_p95_ms",
    "noisy",
    "embed_seconds",
    "head_seconds",
    "images_embedded",
]


def board(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "leaderboard.csv").drop(columns=TIMINGS, errors="ignore")


# list, recipes, demo --------------------------------------------------------------------------------


def test_list_knows_all_backbones_in_every_format(backbones: Run) -> None:
    rows = backbones("list", "--format", "json").rows
    assert len(rows) == 52
    table = list(csv.DictReader(io.StringIO(backbones("list", "--format", "csv").out)))
    assert [row["name"] for row in table] == [row["name"] for row in rows]
    shown = backbones("list").out
    assert all(row["name"] in shown for row in rows)
    assert {
        "name",
        "family",
        "module",
        "input_size",
        "preprocessing",
        "embedding_dim",
        "params",
        "size_bytes",
    } <= set(rows[0])


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("family:resnet_v2", {"ResNet50V2", "ResNet101V2", "ResNet152V2"}),
        ("MobileNet_0.*", {"MobileNet_0.25", "MobileNet_0.5", "MobileNet_0.75"}),
        ("VGG16,VGG16", {"VGG16"}),
    ],
)
def test_list_filters(backbones: Run, pattern: str, names: set[str]) -> None:
    rows = backbones("list", "--backbones", pattern, "--format", "json").rows
    assert {row["name"] for row in rows} == names
    assert len(rows) == len(names)


def test_recipes_are_listed_and_shown(backbones: Run, tmp_path: Path) -> None:
    rows = backbones("recipes", "--format", "json").rows
    assert [row["name"] for row in rows[:2]] == ["probe-then-tune", "two-phase-f1"]
    assert len(rows) >= 5
    text = backbones("recipes", "vgg16-flatten").out
    file = tmp_path / "mine.toml"
    file.write_text(text)
    assert backbones("recipes", file).out == text, "what is shown is a recipe again"


def test_demo_draws_the_same_images_again(backbones: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert backbones("demo", tmp_path / name, "--count", 12, "--seed", 3).status == 0
    first, second = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.jpg")}
        for name in ("a", "b")
    )
    assert len(first) == 12
    assert first == second


# embed, cache ---------------------------------------------------------------------------------------


def test_embed_fills_the_cache_and_the_cache_can_be_looked_after(backbones: Run, place: Place) -> None:
    words = ("embed", place.data, *SMALL, "--cache", place.cache, "--format", "json", "--quiet")
    (row,) = backbones(*words).rows
    assert (row["status"], row["computed"]) == ("embedded", 40)
    (again,) = backbones(*words).rows
    assert (again["computed"], again["weights_sha256"]) == (0, row["weights_sha256"])

    (entry,) = backbones("cache", "list", "--cache", place.cache, "--format", "json").rows
    assert (entry["backbone"], entry["rows"], entry["input_size"]) == ("MobileNet_0.25", 40, 32)
    (verified,) = backbones("cache", "verify", "--cache", place.cache, "--format", "json").rows
    assert (verified["rows"], verified["damaged"]) == (40, 0)

    part = next(place.cache.glob("*/part-*.h5"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(bytes(content))
    answer = backbones("cache", "verify", "--cache", place.cache)
    assert answer.status == 1
    assert part.name in answer.err
    (mended,) = backbones(*words).rows
    assert 0 < mended["computed"] <= 40
    assert backbones("cache", "verify", "--cache", place.cache).status == 0

    assert backbones("cache", "clean", "--cache", place.cache, "--backbones", "VGG16").status == 0
    assert len(backbones("cache", "list", "--cache", place.cache, "--format", "json").rows) == 1
    words = ("cache", "clean", "--cache", place.cache, "--backbones", "MobileNet_0.25", "--format", "json")
    (removed,) = backbones(*words).rows
    assert removed["removed"] > 0
    assert removed["size_bytes"] > 0
    assert backbones("cache", "list", "--cache", place.cache, "--format", "json").rows == []
    assert not list(place.cache.rglob(".tmp-*"))


def test_looking_after_a_cache_that_does_not_exist(backbones: Run, tmp_path: Path) -> None:
    for action in ("list", "verify", "clean"):
        answer = backbones("cache", action, "--cache", tmp_path / "none")
        assert answer.status == 0, answer.err
    assert not (tmp_path / "none").exists()


# audit ----------------------------------------------------------------------------------------------


def test_audit_names_what_is_wrong(backbones: Run, place: Place, tmp_path: Path) -> None:
    data = shutil.copytree(place.data, tmp_path / "dirty")
    first, second = sorted((data / "Positive").iterdir())[:2]
    shutil.copy(first, data / "Positive" / "copy.jpg")
    shutil.copy(second, data / "Negative" / "other.jpg")
    (data / "Negative" / "page.jpg").write_text("<html>")
    answer = backbones("audit", data, *place.folders, "--format", "json")
    assert answer.status == 0
    assert {"severity", "code", "count", "text", "next_step"} == set(answer.rows[0])
    found = {row["code"]: row["count"] for row in answer.rows}
    assert {"rejected": 1, "identical-with-two-labels": 2, "identical": 1}.items() <= found.items()
    folder = place.results / "dirty"
    assert list(folder.rglob("*.csv"))
    assert "page.jpg" in (folder / "audit" / "rejected.csv").read_text()


# rank, report ---------------------------------------------------------------------------------------


def test_rank_leaves_a_board_and_prints_it(backbones: Run, ranked: Place) -> None:
    written = {path.name for path in ranked.board.iterdir()}
    assert {
        "leaderboard.csv",
        "leaderboard.md",
        "leaderboard.html",
        "leaderboard.json",
        "run.json",
    } <= written
    assert {"plots", "outcomes", "runs", "baselines.csv"} <= written
    words = ("rank", ranked.data, *SMALL, *QUICK, *ranked.folders)
    shown = backbones(*words)
    assert shown.status == 0
    assert "MobileNet_0.25" in shown.out
    assert str(ranked.board) in shown.err
    table = pd.read_csv(io.StringIO(backbones(*words, "--format", "csv", "--quiet").out))
    pd.testing.assert_frame_equal(table.drop(columns=TIMINGS), board(ranked.board))
    (row,) = backbones(*words, "--format", "json", "--quiet").rows
    assert (row["rank"], row["status"], row["val_f1"]) == (1, "scored", table.val_f1[0])
    assert json.loads((ranked.board / "leaderboard.json").read_text())


def test_a_quiet_ranking_says_each_note_once(backbones: Run, place: Place) -> None:
    """On the board, or on stderr where the board is rows for a program or there is none."""
    data = Path(shutil.copytree(place.data, place.root / "walls"))
    (next(data.glob("*/")) / "broken.png").write_bytes(b"no picture")
    words = ("rank", data, *SMALL, *QUICK, *place.folders, "--quiet")
    note = "1 of 41 files left out (1 .png: not a JPEG"
    table = backbones(*words)
    assert (table.status, table.err) == (0, "")
    assert table.out.count(note) == 1
    rows = backbones(*words, "--format", "csv")
    assert rows.err.count(note) == 1
    assert note not in rows.out
    failed = backbones(*words, "--max-size-mb", 0.001)
    assert failed.status == 1
    assert failed.err.count(note) == 1


def test_quiet_means_quiet(backbones: Run, ranked: Place) -> None:
    assert backbones("rank", ranked.data, *SMALL, *QUICK, *ranked.folders, "--quiet").err == ""


def test_the_columns_come_in_the_agreed_order(ranked: Place) -> None:
    wanted = [
        "rank",
        "backbone",
        "family",
        "source",
        "status",
        "pick",
        "tie_group",
        "val_f1",
        "val_f1_low",
        "val_f1_high",
        "test_f1",
        "test_accuracy",
        "test_precision",
        "test_recall",
        "threshold",
        "size_bytes",
        "params",
        "embedding_dim",
        "input_size",
        "images_per_second",
        "latency_ms",
        "embed_seconds",
        "head_seconds",
        "weights",
        "weights_sha256",
        "reason",
    ]
    assert pd.read_csv(ranked.board / "leaderboard.csv").columns[: len(wanted)].tolist() == wanted


def test_a_run_can_be_repeated_from_its_record(
    backbones: Run, ranked: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = board(ranked.board)
    monkeypatch.chdir(tmp_path)  # the record holds absolute paths
    record = ranked.board / "run.json"
    answer = backbones("rank", "--from", record, *ranked.folders, "--quiet")
    assert answer.status == 0, answer.err
    pd.testing.assert_frame_equal(board(ranked.board), before)


def test_options_beside_the_record_win(
    backbones: Run, ranked: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ranked.board / "run.json"
    other = tmp_path / "moved" / ranked.data.name
    shutil.copytree(ranked.data, other)
    monkeypatch.chdir(tmp_path / "moved")
    words = ("rank", f"{ranked.data.name}/", f"--from={record}", *ranked.folders, "--seed", 7, "--quiet")
    assert backbones(*words).status == 0
    stored = json.loads(record.read_text())["options"]
    assert (stored["data"], stored["seed"]) == (str(other.resolve()), 7)
    assert (stored["backbones"], stored["size"], stored["repeats"]) == ("MobileNet_0.25", 32, 1)


def test_report_rebuilds_every_file_without_the_cache(backbones: Run, ranked: Place) -> None:
    before = board(ranked.board)
    shutil.rmtree(ranked.cache)
    for name in ("leaderboard.csv", "leaderboard.html", "leaderboard.md"):
        (ranked.board / name).unlink()
    answer = backbones("report", ranked.data, *ranked.folders)
    assert answer.status == 0, answer.err
    assert (ranked.board / "leaderboard.html").exists()
    pd.testing.assert_frame_equal(board(ranked.board), before)


def test_report_rebuilds_a_board_that_was_made_from_python(
    backbones: Run, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With options that no command line stands for, and the data named from elsewhere."""
    options = RankOptions(
        data=place.data,
        backbones="MobileNet_0.25",
        weights="random",
        size=32,
        cache=place.cache,
        results=place.results,
        jobs=1,
    )
    protocol = HeadProtocol(repeats=1, epochs=3, dropout=0.4)
    ranked = rank_backbones(replace(RankRequest.of(options), protocol=protocol))
    published = {path.name: path.read_bytes() for path in ranked.run.glob("*.*") if path.stem not in {"run"}}
    for name in published:
        (ranked.folder / name).unlink()
    monkeypatch.chdir(place.data.parent)
    answer = backbones("report", place.data.name, *place.folders)
    assert answer.status == 0, answer.err
    assert {name: (ranked.folder / name).read_bytes() for name in published} == published


def test_a_comparison_names_what_changed(backbones: Run, ranked: Place) -> None:
    (first,) = (ranked.board / "runs").iterdir()
    assert backbones("rank", ranked.data, *SMALL, *QUICK, *ranked.folders, "--seed", 1, "--quiet").status == 0
    (second,) = set((ranked.board / "runs").iterdir()) - {first}
    answer = backbones("report", "--compare", first, second, "--format", "json")
    assert answer.status == 0, answer.err
    kinds = {row["what"] for row in answer.rows}
    assert "weights" in kinds, "another seed draws other random weights"
    assert "MobileNet_0.25" in backbones("report", "--compare", first, second).out
    assert "same" in backbones("report", "--compare", first, first).out


def test_a_backbone_that_cannot_run_stays_on_the_board(backbones: Run, place: Place, tmp_path: Path) -> None:
    """No weights file in the folder: failed, with the reason; nothing scored: exit 1, the board is there."""
    (tmp_path / "weights").mkdir()
    words = (
        "--weights",
        tmp_path / "weights",
        "--backbones",
        "MobileNet_0.25",
        "--size",
        "32",
        "--jobs",
        "1",
    )
    answer = backbones("rank", place.data, *words, *QUICK, *place.folders)
    assert answer.status == 1
    assert "no weights file" in answer.said
    (row,) = pd.read_csv(place.board / "leaderboard.csv").to_dict("records")
    assert row["status"] == "failed"
    assert "backbones weights bundle" in row["reason"]


def test_weights_verify_reads_a_bundle(backbones: Run, tmp_path: Path) -> None:
    import hashlib

    good, bad = tmp_path / "A.weights.h5", tmp_path / "B.weights.h5"
    good.write_bytes(b"a")
    bad.write_bytes(b"b")
    digest = hashlib.sha256(b"a").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  A.weights.h5\n{digest}  B.weights.h5\n")
    answer = backbones("weights", "verify", tmp_path, "--format", "json")
    assert answer.status == 1
    assert {row["status"] for row in answer.rows} >= {"failed"}


# plan -----------------------------------------------------------------------------------------------


def test_a_plan_of_what_is_ranked_costs_nothing_and_the_run_kept_what_it_predicted(
    backbones: Run, ranked: Place
) -> None:
    words = ("plan", ranked.data, *SMALL, *QUICK, *ranked.folders, "--format", "json")
    row, whole = backbones(*words, "--price-per-hour", "2").rows
    assert (row["backbone"], row["status"], row["images"]) == ("MobileNet_0.25", "cached", 0)
    assert row["storage_bytes"] == row["memory_bytes"] == 0
    assert whole["seconds"] < 5
    assert whole["cost"] < 0.01
    row, whole = backbones(*words, "--images", 1000).rows
    assert (row["status"], row["images"]) == ("to embed", 960)
    assert whole["seconds"] > 0

    record = json.loads((ranked.board / "run.json").read_text())
    timings = record["timings"]
    assert timings["predicted_seconds"] == pytest.approx(
        sum(timings[f"predicted_{name}_seconds"] for name in ("embedding", "audit", "heads", "board")),
        abs=0.01,
    )
    took = [timings[f"{name}_seconds"] for name in ("embedding", "timing", "audit", "heads", "board")]
    assert min(took) >= 0
    assert timings["all_seconds"] == pytest.approx(sum(took), abs=0.01)
    (log,) = (ranked.board / "runs" / record["identifier"]).glob("run.log")
    assert "finished estimate about " in log.read_text()
    assert "Predicted " in log.read_text().splitlines()[-1]


def test_a_plan_needs_images_and_says_so(backbones: Run, tmp_path: Path) -> None:
    answer = backbones("plan", "--cache", tmp_path / "none")
    assert answer.status == 2
    assert "DATA or --images" in answer.said


def test_embedding_says_what_it_took_and_keeps_it(backbones: Run, place: Place) -> None:
    answer = backbones("embed", place.data, *SMALL, "--cache", place.cache)
    assert "Predicted " in answer.said
    (record,) = (place.cache / "runs").glob("*/run.json")
    stored = json.loads(record.read_text())
    assert stored["options"]["size"] == 32
    assert stored["timings"]["embedding_seconds"] > 0
    assert "Predicted " in record.with_name("run.log").read_text()
    quiet = backbones("embed", place.data, *SMALL, "--cache", place.cache, "--quiet")
    assert quiet.err == ""
