"""Several backbones fine-tuned side by side: what one after the other would have made."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import filelock
import numpy as np
import psutil
import pytest

from benchmark.backbones import parse_weights, select
from benchmark.data import load_images
from benchmark.errors import StorageError
from benchmark.execution import Call
from benchmark.finetuning import FineTuned, FinetuneRequest, Recipe
from benchmark.options import FinetuneOptions, RecipeChanges
from benchmark.pipeline import FinetuneJob, RankRequest, finetune_backbones, rank_backbones
from benchmark.pipeline.finetuning import FinetuneResult
from benchmark.pipeline.tuning import hand_over_model, most_side_by_side, training_bytes, tune_all
from benchmark.records import Backbone, ImageSet, Silent

# Processes of their own know the networks by name.
sys.path.append(str(Path(__file__).resolve().parent))
import tiny as by_name

pytestmark = [
    # Keras converts variables without NumPy 2's copy keyword.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
Finetune = Callable[..., FinetuneResult]
GOES_ON = "An interrupted run goes on after epoch"


@pytest.fixture(scope="module")
def pair() -> tuple[Backbone, ...]:
    return tuple(by_name.tiny_backbone(f"Tiny{width}", width) for width in (8, 12))


@pytest.fixture
def fine_tuned(
    tmp_path: Path,
    tiny: ModuleType,
    photos: Path,
    request_for: Callable[..., RankRequest],
    pair: tuple[Backbone, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> Finetune:
    """Fine-tunes all of a board in results of its own."""
    # Side by side, however much others hold just now.
    monkeypatch.setattr("benchmark.pipeline.tuning.available_memory", lambda: 64e9)

    def finetune(
        name: str,
        *backbones: Backbone,
        epochs: tuple[int, int] = (1, 1),
        afresh: bool = False,
        **options: object,
    ) -> FinetuneResult:
        results = tmp_path / name
        rank_backbones(request_for(photos, *pair, results=results))
        places = {"data": photos, "weights": "random", "cache": tmp_path / "cache", "results": results}
        asked = FinetuneOptions.check({**places, "top": len(pair), **options})
        changes = RecipeChanges(image_size=tiny.SIZE, batch_size=16, epochs=epochs)
        recipe = Recipe.load().changed(changes)
        job = FinetuneJob(options=asked, recipe=recipe, known=(*backbones, *pair))
        return by_name.tune_afresh(job) if afresh else finetune_backbones(job)

    return finetune


def content(model: FineTuned) -> dict[str, object]:
    """What does not depend on place or clock."""
    manifest = replace(model.manifest, files={})
    tables = {name: (model.model_dir / name).read_bytes() for name in ("predictions.csv", "split.csv")}
    notes = [note for note in model.notes if GOES_ON not in note]
    return {"phases": model.phases, "manifest": manifest, "notes": notes, **tables}


def top(result: FinetuneResult) -> list[dict[str, str]]:
    path = result.models[0].model_dir.parents[1] / "top.csv"
    return list(csv.DictReader(path.read_text().splitlines()))


def same(one: FinetuneResult, other: FinetuneResult) -> None:
    for left, right in zip(one.models, other.models, strict=True):
        np.testing.assert_equal(content(left), content(right))
        assert (right.model_dir / "report.html").exists()
        assert (right.model_dir / "model.keras").exists()
    assert top(one) == top(other)
    assert (one.regret, one.left_out, one.failed) == (other.regret, other.left_out, other.failed)


def test_side_by_side_is_one_after_the_other(fine_tuned: Finetune) -> None:
    """Also in rounds, of which the second takes up what the first one found."""
    same(fine_tuned("one", afresh=True, halving=True), fine_tuned("two", halving=True, jobs=2))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_process_costs_no_finished_epoch(fine_tuned: Finetune, tmp_path: Path) -> None:
    """Also where the command repeats what earlier ones made."""
    killed: list[psutil.Process] = []

    def kill() -> None:
        """Every process that trains, as soon as one has finished an epoch."""
        while not list(tmp_path.glob("two/*/finetune/*/.*/state-*.npz")):
            time.sleep(0.01)
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if "benchmark.execution.apart" in " ".join(child.cmdline()):
                    child.kill()
                    killed.append(child)

    undisturbed = fine_tuned("one", afresh=True, epochs=(2, 3))
    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    disturbed = fine_tuned("two", epochs=(2, 3), jobs=2, force=True)
    killing.join(10)
    assert killed
    assert [note for model in disturbed.models for note in model.notes if GOES_ON in note]
    same(undisturbed, disturbed)


@dataclass
class FarRunner:
    """Workers elsewhere, all of which fail."""

    handed_over: Path
    is_local = False
    threads = workers = 1

    def computes_as(self, _: object) -> bool:
        return False

    def run(self, _: object, calls: list[Call], **__: object) -> Generator[tuple[int, dict[str, Any]]]:
        yield from ((place, {"error": f"{call.name} failed there"}) for place, call in enumerate(calls))


class HereRunner(FarRunner):
    """This process, as if it were a worker elsewhere."""

    def run(
        self, function: Callable[..., dict[str, Any]], calls: list[Call], **__: object
    ) -> Generator[tuple[int, dict[str, Any]]]:
        yield from ((place, function(call.argument, 1)) for place, call in enumerate(calls))


class Heard(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def asked(photos: Path, place: Path, backbones: Iterable[Backbone]) -> tuple[list[FinetuneRequest], ImageSet]:
    """Requests without a board."""
    options = FinetuneOptions.check({"data": photos, "weights": "random", "cache": place / "cache"})
    changes = RecipeChanges(image_size=by_name.SIZE, batch_size=16, epochs=(1, 0))
    requests = [
        FinetuneRequest(
            backbone=one,
            recipe=Recipe.load().changed(changes),
            out=place / one.name / "model",
            options=options,
            weights=parse_weights("random"),
        )
        for one in backbones
    ]
    return requests, load_images(photos, cache=options.cache, options=options)


def test_a_model_that_was_not_handed_over_costs_no_epoch(
    tmp_path: Path, photos: Path, pair: tuple[Backbone, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where equal weights are trained under another name meanwhile."""
    requests, images = asked(photos, tmp_path, (pair[0], replace(pair[0], name="Twin")))
    handed, lost = tmp_path / "handed", list[Path]()

    def lose_the_first(model_dir: Path, to: Path) -> dict[str, Any]:
        if lost:
            return hand_over_model(model_dir, to)
        lost.append(model_dir)
        raise StorageError("cannot be written")

    def tune() -> tuple[list[bool], list[str]]:
        heard = Heard()
        found = list(tune_all(requests, images, HereRunner(handed), heard))
        return [one.model is not None for one in found], [one for one in heard.messages if GOES_ON in one]

    monkeypatch.setattr("benchmark.pipeline.tuning.hand_over_model", lose_the_first)
    assert tune() == ([False, True], [])
    assert tune() == ([True, True], [f"Tiny8: {GOES_ON} 1."])
    assert not [path for path in handed.rglob("*") if path.is_file()]


def test_a_folder_that_is_taken_fails_alone(tmp_path: Path, photos: Path, pair: tuple[Backbone, ...]) -> None:
    requests, images = asked(photos, tmp_path, pair)
    tried = [one.failure["error"] for one in tune_all(requests, images, FarRunner(tmp_path), Silent())]
    assert tried == ["finetune-Tiny8 failed there", "finetune-Tiny12 failed there"]
    (lock,) = (tmp_path / "Tiny8").rglob("lock")
    with filelock.FileLock(lock):
        found = {one.position: one for one in tune_all(requests, images, FarRunner(tmp_path), Silent())}
    assert "another process is fine-tuning" in found[0].failure["error"]
    assert "finetune-Tiny12 failed there" in found[1].failure["error"]


_IN_A_CONTAINER = """
import sys
from pathlib import Path
import benchmark.machine
benchmark.machine.cores = lambda: 1  # of a container with more processors than time for them
import tiny
from benchmark.backbones import parse_weights
from benchmark.data import load_images
from benchmark.finetuning import FinetuneRequest, Recipe, finetune
from benchmark.options import FinetuneOptions, RecipeChanges

photos, out = map(Path, sys.argv[1:])
options = FinetuneOptions.check({"data": photos, "cache": out / "cache"})
changes = RecipeChanges(image_size=tiny.SIZE, batch_size=16, epochs=(1, 0))
finetune(
    FinetuneRequest(
        backbone=tiny.tiny_backbone("Tiny8", 8),
        recipe=Recipe.load().changed(changes),
        out=out / "model",
        options=options,
        weights=parse_weights("random"),
    ),
    load_images(photos, cache=options.cache, options=options),
)
import tensorflow as tf
threads = tf.config.threading
print(threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads())
"""


def test_one_alone_trains_with_the_threads_of_those_side_by_side(
    tmp_path: Path, tiny: ModuleType, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of threads sums in another order."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(str(tiny.__file__)).parent))
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_CONTAINER, str(photos), str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["1", "1"]


def test_as_many_side_by_side_as_find_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.pipeline.tuning.available_memory", lambda: 10e9)
    assert [most_side_by_side(jobs, [2e9, 4e9, 1e9]) for jobs in (0, 1, 2, 8)] == [1, 1, 2, 2]
    assert most_side_by_side(8, [20e9, 1e9]) == 1
    assert most_side_by_side(8, []) == 1


@pytest.mark.parametrize(
    ("name", "size", "measured"),
    [("MobileNet_0.25", 64, 0.87e9), ("MobileNetV2", 224, 2.31e9), ("ResNet50", 224, 4.29e9)],
)
def test_what_training_takes_is_not_underrated(name: str, size: int, measured: float) -> None:
    (backbone,) = select(name)
    recipe = Recipe.load().changed(RecipeChanges(image_size=size, batch_size=32))
    options = FinetuneOptions(data=Path("photos"))
    request = FinetuneRequest(backbone=backbone, recipe=recipe, out=Path("model"), options=options)
    found = training_bytes(request)
    assert measured < found < 1.5 * measured
