"""What a command writes stays in the folders that it was given, whatever the data are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_places import QUICK, SMALL, Place, Run


def _listed(place: Place, name: str) -> Path:
    """A CSV of this name that lists the place's photographs."""
    rows = [f"{path.relative_to(place.data)},{path.parent.name}" for path in sorted(place.data.glob("*/*"))]
    folder = place.root / "tables"
    folder.mkdir()
    (folder / "walls").symlink_to(place.data)
    lines = ["path,label", *(f"walls/{row}" for row in rows if not row.startswith("demo.json"))]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def _everything(root: Path, *without: Path) -> set[Path]:
    return {path for path in root.rglob("*") if not any(path.is_relative_to(one) for one in without)}


@pytest.mark.parametrize("name", ["...csv", ".csv.csv", "a\nb.csv", "-rf.csv", " .csv"])
def test_a_table_of_any_name_leaves_its_results_inside(backbones: Run, place: Place, name: str) -> None:
    table = _listed(place, name)
    before = _everything(place.root)
    answer = backbones("audit", table, *place.folders, "--follow-links", "--quiet")
    assert answer.status == 0, answer.err
    assert _everything(place.root, place.results, place.cache) == before - {place.results, place.cache}
    (folder,) = place.results.iterdir()
    assert folder.name.isprintable()
    assert (folder / "audit" / "audit_summary.csv").is_file()


def test_a_board_and_its_report_stay_inside(backbones: Run, place: Place) -> None:
    table = _listed(place, "...csv")
    before = _everything(place.root)
    words = (table, *SMALL, *QUICK, *place.folders, "--follow-links", "--quiet")
    assert backbones("rank", *words).status == 0
    (folder,) = place.results.iterdir()
    assert (folder / "leaderboard.csv").is_file()
    answer = backbones("report", table, *place.folders)
    assert answer.status == 0, answer.err
    assert _everything(place.root, place.results, place.cache) == before - {place.results, place.cache}


def test_an_identifier_of_a_record_leads_nowhere(backbones: Run, ranked: Place) -> None:
    record = ranked.board / "run.json"
    outside = ranked.root / "outside"
    (ranked.board / "runs" / json.loads(record.read_text())["identifier"]).rename(outside)
    record.write_text(json.dumps({**json.loads(record.read_text()), "identifier": "../../../outside"}))
    answer = backbones("report", ranked.data, *ranked.folders)
    assert answer.status == 2
    assert "identifier: not the name of a run" in answer.said


@pytest.mark.parametrize("linked", ["walls", "walls/runs", "walls/plots", "walls/outcomes"])
def test_results_do_not_follow_links_elsewhere(backbones: Run, place: Place, linked: str) -> None:
    outside = place.root / "outside"
    outside.mkdir()
    (place.results / linked).parent.mkdir(parents=True)
    (place.results / linked).symlink_to(outside)
    answer = backbones("rank", place.data, *SMALL, *QUICK, *place.folders, "--quiet")
    assert answer.status == 1
    assert "leads out of the folder" in answer.err
    assert linked in answer.err.replace("\n", "")
    assert list(outside.iterdir()) == []
