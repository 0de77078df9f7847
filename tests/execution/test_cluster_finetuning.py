"""Fine-tuning on a cluster gives the models of one process to the last digit, whatever its workers do."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from benchmark.finetuning import Recipe
from benchmark.options import FinetuneOptions, RankOptions, RecipeChanges
from benchmark.pipeline import FinetuneJob, RankRequest, finetune_backbones, rank_backbones
from benchmark.records import HeadProtocol
from benchmark.storage import read_json

# As on the workers, which know the networks by name.
sys.path.append(str(Path(__file__).resolve().parents[1] / "pipeline"))
pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
import tiny
from clusters import Cluster, cluster

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


def tune(place: Path, **options: object) -> None:
    changes = RecipeChanges(image_size=tiny.SIZE, batch_size=16, epochs=(1, 1))
    asked = FinetuneOptions.check({**places(place), "top": len(PAIR), **options})
    job = FinetuneJob(options=asked, recipe=Recipe.load().changed(changes), known=PAIR)
    assert len(finetune_backbones(job).models) == len(PAIR)


def models(place: Path) -> dict[str, Any]:
    """What does not depend on place or clock."""
    found: dict[str, Any] = {}
    for folder in sorted(place.glob("*/finetune/*/two-phase-f1")):
        found[folder.parent.name] = {
            "predictions": (folder / "predictions.csv").read_text(),
            "metrics": read_json(folder / "metrics.json"),
            "manifest": {**read_json(folder / "manifest.json"), "files": None},
            "files": sorted(path.name for path in folder.glob("*.*")),
        }
    return found


def training(made: Cluster) -> tuple[psutil.Process, list[psutil.Process]] | None:
    """A worker that has begun to train, and its children."""
    for worker in (one for one in made.workers if one.poll() is None):
        with suppress(psutil.Error):  # a process may end while it is looked at
            process = psutil.Process(worker.pid)
            children = process.children()
            if any("benchmark.execution.apart" in child.cmdline() for child in children):
                return process, children
    return None


def test_a_killed_worker_changes_no_digit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.draw_photos(tmp_path / "walls")
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    rank(alone)
    shutil.copytree(alone, shared)
    tune(alone)
    paths = [str(Path(tiny.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    left: list[psutil.Process] = []
    killed: list[psutil.Process] = []
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster", 2) as made:

        def disturb() -> None:
            while (found := training(made)) is None:
                time.sleep(0.05)
            process, children = found
            process.kill()
            killed.append(process)
            made.add()
            left.extend(psutil.wait_procs(children, timeout=60)[1])

        disturbing = threading.Thread(target=disturb, daemon=True)
        disturbing.start()
        tune(shared, cluster=made.address)
        disturbing.join(90)
    assert killed
    assert not left, "what a lost worker had begun went on"
    np.testing.assert_equal(models(shared), models(alone))
    top = "walls/finetune/top.csv"
    pd.testing.assert_frame_equal(pd.read_csv(shared / top), pd.read_csv(alone / top))
    assert not list((tmp_path / "cache").glob(".tmp-*"))
