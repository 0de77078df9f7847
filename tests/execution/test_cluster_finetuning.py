"""Fine-tuning on a cluster gives the models of one process to the last digit, whatever its workers do."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from benchmark.cli import main
from benchmark.finetuning import Recipe
from benchmark.options import FinetuneOptions, RankOptions, RecipeChanges
from benchmark.pipeline import FinetuneJob, RankRequest, finetune_backbones, rank_backbones
from benchmark.records import HeadProtocol
from benchmark.storage import read_json

# As on the workers, which know the networks by name.
sys.path.append(str(Path(__file__).resolve().parents[1] / "pipeline"))
pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
import tiny
from clusters import cluster

SHARED = Path(__file__).resolve().parents[3] / "shared"
PAIR = (tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16))

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX"),
    # Keras converts variables without NumPy 2's copy keyword.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


def places(place: Path) -> dict[str, object]:
    folders = {"cache": place.parent / "cache", "results": place}
    return {"data": place.parent / "walls", "weights": "random", **folders}


def rank(place: Path) -> None:
    protocol = HeadProtocol(epochs=4, updates=0, repeats=1, learning_rates=(1e-2,), weight_decays=(0.0,))
    options = RankOptions.check({**places(place), "size": tiny.SIZE, "jobs": 1})
    rank_backbones(RankRequest(options=options, backbones=PAIR, protocol=protocol))


def tune(place: Path, *, afresh: bool = False, **options: object) -> None:
    changes = RecipeChanges(image_size=tiny.SIZE, batch_size=16, epochs=(2, 3))
    asked = FinetuneOptions.check({**places(place), "top": len(PAIR), **options})
    job = FinetuneJob(options=asked, recipe=Recipe.load().changed(changes), known=PAIR)
    done = tiny.tune_afresh(job) if afresh else finetune_backbones(job)
    assert len(done.models) == len(PAIR)


def folders(place: Path) -> list[Path]:
    return sorted(place.glob("*/finetune/*/two-phase-f1"))


def runs(place: Path) -> list[dict[str, Any]]:
    return [read_json(folder / "run.json") for folder in folders(place)]


def models(place: Path) -> dict[str, Any]:
    """What does not depend on place or clock."""
    found: dict[str, Any] = {}
    for folder in folders(place):
        found[folder.parent.name] = {
            "predictions": (folder / "predictions.csv").read_text(),
            "metrics": read_json(folder / "metrics.json"),
            "manifest": {**read_json(folder / "manifest.json"), "files": None},
            "files": sorted(path.name for path in folder.glob("*.*")),
        }
    return found


def test_killed_workers_change_no_digit_and_cost_no_finished_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.draw_photos(tmp_path / "walls")
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    rank(alone)
    shutil.copytree(alone, shared)
    tune(alone, afresh=True)
    paths = [str(Path(tiny.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    left: list[psutil.Process] = []
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster", 2) as made:

        def disturb() -> None:
            """Kill both workers as soon as one has finished an epoch."""
            while not list((tmp_path / "cache").glob(".tmp-*/*/state-*.npz")):
                time.sleep(0.01)
            below = [one for worker in made.workers for one in psutil.Process(worker.pid).children()]
            for worker in [*made.workers]:
                worker.kill()
                made.add()
            left.extend(psutil.wait_procs(below, timeout=60)[1])

        disturbing = threading.Thread(target=disturb, daemon=True)
        disturbing.start()
        # It repeats what earlier commands made, not what this one did.
        tune(shared, cluster=made.address, force=True)
        disturbing.join(90)
        assert len(made.workers) == 4
    assert not left, "what a lost worker had begun went on"
    assert [note for run in runs(shared) for note in run["notes"] if "goes on after epoch" in note]
    np.testing.assert_equal(models(shared), models(alone))
    top = "walls/finetune/top.csv"
    pd.testing.assert_frame_equal(pd.read_csv(shared / top), pd.read_csv(alone / top))
    assert not list((tmp_path / "cache").glob(".tmp-*"))


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the photographs and weights of ../shared")
def test_real_backbones_on_a_cluster_are_those_of_one_process(tmp_path: Path) -> None:
    for name in ("Positive", "Negative"):
        (tmp_path / "walls" / name).mkdir(parents=True)
        for path in sorted((SHARED / "data" / "brick_cracks" / name).iterdir())[:30]:
            shutil.copy(path, tmp_path / "walls" / name)
    alone, shared = tmp_path / "alone", tmp_path / "shared"

    def run(command: str, place: Path, *more: str) -> None:
        folders = ["--cache", str(tmp_path / "cache"), "--results", str(place), "--quiet"]
        assert main([command, str(tmp_path / "walls"), *folders, *more]) == 0

    weights, backbones = str(SHARED / "weights"), "MobileNet_0.25,MobileNet_0.5"
    board = ("--weights", weights, "--backbones", backbones, "--size", "64", "--groups", "none")
    heads = ("--repeats", "1", "--epochs", "2", "--jobs", "1")
    run("rank", alone, *board, *heads)
    shutil.copytree(alone, shared)
    epochs = ("--top", "2", "--epochs", "1,1", "--recipe", "two-phase-f1")
    run("finetune", alone, *epochs, "--jobs", "1")
    run("finetune", shared, *epochs, "--cluster", "local:2")
    assert len(models(alone)) == 2
    np.testing.assert_equal(models(shared), models(alone))
