"""A model gives way to that of another run: whole, with its exports, and only when the other one is ready."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.errors import ManifestError, StorageError
from benchmark.finetuning import FinetuneRequest, finetune, load_manifest
from benchmark.finetuning.model_directory import ModelDirectory, digest_of
from benchmark.records import ImageSet

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
Request = Callable[..., FinetuneRequest]
A, B = "a" * 64, "b" * 64


class Stop(Exception):
    """Ends a run from outside, as Ctrl-C would."""


class StopAfter:
    """An observer that ends the run after some finished epochs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def started(self, task: str, total: int) -> None: ...

    def advanced(self, task: str, done: int, note: str = "") -> None:
        self.left -= bool(note)
        if self.left < 0:
            raise Stop

    def finished(self, task: str, note: str = "") -> None: ...

    def message(self, text: str) -> None: ...


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Directories alone -----------------------------------------------------------------------------------


def model(folder: Path, digest: str, text: str) -> Path:
    """What stands for a finished model, with an export."""
    (folder / "export").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"digest": digest}))
    (folder / "model.keras").write_text(text)
    (folder / "export" / "model.tflite").write_text(text)
    return folder


def text_of(folder: Path) -> str:
    """The model in a directory; an export of another one beside it is an error."""
    text = (folder / "model.keras").read_text()
    export = folder / "export" / "model.tflite"
    assert not export.exists() or export.read_text() == text
    return text


def test_the_first_model_finds_its_place_empty(tmp_path: Path) -> None:
    bench = ModelDirectory(tmp_path / "models" / "recipe")
    with bench.alone():
        model(bench.new, A, "new")
        assert bench.publish(bench.new, A) is None
    assert text_of(bench.out) == "new"
    assert not bench.new.exists()


def test_a_model_of_another_run_is_moved_aside_with_its_exports(tmp_path: Path) -> None:
    bench = ModelDirectory(tmp_path / "recipe")
    model(bench.out, A, "old")
    before = contents(bench.out)
    model(bench.new, B, "new")
    moved = bench.publish(bench.new, B)
    assert moved == tmp_path / "recipe.aaaaaaaa"
    assert contents(moved) == before
    assert text_of(bench.out) == "new"
    assert digest_of(bench.out) == B


def test_a_model_of_the_same_run_is_replaced(tmp_path: Path) -> None:
    bench = ModelDirectory(tmp_path / "recipe")
    model(bench.out, A, "old")
    model(bench.new, A, "new")
    assert bench.publish(bench.new, A) is None
    assert text_of(bench.out) == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"recipe", ".recipe"}
    assert not list(bench.folder.iterdir())


def test_each_run_has_one_model(tmp_path: Path) -> None:
    """A stands aside, is made again, and B comes back: A's older model is not kept beside the newer one."""
    bench = ModelDirectory(tmp_path / "recipe")
    for digest, text in ((A, "a1"), (B, "b1"), (A, "a2"), (B, "b2")):
        model(bench.new, digest, text)
        bench.publish(bench.new, digest)
    assert text_of(bench.out) == "b2"
    assert text_of(bench.kept_beside(A)) == "a2"
    assert {path.name for path in tmp_path.iterdir()} == {"recipe", ".recipe", "recipe.aaaaaaaa"}


def test_two_digests_that_begin_alike_do_not_meet(tmp_path: Path) -> None:
    bench = ModelDirectory(tmp_path / "recipe")
    other = "a" * 20 + "c" * 44
    for digest in (A, other, B):
        model(bench.new, digest, digest)
        bench.publish(bench.new, digest)
    assert text_of(bench.kept_beside(A)) == A
    assert text_of(bench.kept_beside(other)) == other
    assert bench.kept_beside(A) != bench.kept_beside(other)


@pytest.mark.parametrize("record", [None, "", "[]", '{"digest": 3}', '{"digest": "../../elsewhere"}'])
def test_a_folder_of_unknown_making_is_moved_aside_too(tmp_path: Path, record: str | None) -> None:
    bench = ModelDirectory(tmp_path / "recipe")
    for text in ("one", "two"):
        bench.out.mkdir(exist_ok=True)
        (bench.out / "notes.txt").write_text(text)
        if record is not None:
            (bench.out / "run.json").write_text(record)
        model(bench.new, A, "new")
        moved = bench.publish(bench.new, A)
        assert moved is not None
        assert (moved / "notes.txt").read_text() == text
        assert moved.parent == tmp_path
        bench.out.rename(tmp_path / f"away-{text}")


class Fragile(ModelDirectory):
    """Is killed before its nth change of a name."""

    left = 0

    def _rename(self, source: Path, target: Path) -> None:
        if self.left == 0:
            raise Stop
        self.left -= 1
        super()._rename(source, target)


@pytest.mark.parametrize("survived", range(4))
@pytest.mark.parametrize("digest", [A, B], ids=["same run", "other run"])
def test_killed_between_two_names(tmp_path: Path, survived: int, digest: str) -> None:
    """Every model is whole at every moment; the next run finds or restores one at the usual place."""
    fragile = Fragile(tmp_path / "recipe")
    fragile.left = survived
    model(fragile.out, A, "old")
    model(fragile.new, digest, "new")
    model(fragile.kept_beside(A), A, "older")
    with contextlib.suppress(Stop):
        fragile.publish(fragile.new, digest)
    everything = [text_of(path.parent) for path in tmp_path.rglob("model.keras")]
    assert "new" in everything
    assert "old" in everything or fragile.out.exists()
    bench = ModelDirectory(tmp_path / "recipe")
    with bench.alone():
        if bench.new.exists():
            bench.publish(bench.new, digest)
    assert text_of(bench.out) == "new"
    if digest == B:
        assert text_of(bench.kept_beside(A)) == "old"


def test_a_killed_replacement_is_taken_back(tmp_path: Path) -> None:
    fragile = Fragile(tmp_path / "recipe")
    fragile.left = 1
    model(fragile.out, A, "old")
    model(fragile.new, A, "new")
    with pytest.raises(Stop):
        fragile.publish(fragile.new, A)
    assert not fragile.out.exists()
    with ModelDirectory(tmp_path / "recipe").alone():
        assert text_of(tmp_path / "recipe") == "old"


def test_a_folder_that_cannot_be_renamed_is_an_error(tmp_path: Path) -> None:
    bench = ModelDirectory(tmp_path / "recipe")
    with pytest.raises(StorageError, match="recipe"):
        bench.publish(bench.new, A)


# Real runs ------------------------------------------------------------------------------------------


def test_another_run_leaves_the_finished_model_alone(binary: ImageSet, request_for: Request) -> None:
    asked = request_for(overrides={"epochs": (1, 1)})
    first = finetune(asked, binary)
    (asked.out / "export").mkdir()
    (asked.out / "export" / "model.tflite").write_bytes(b"of the first model")
    before = contents(asked.out)
    bench = ModelDirectory(asked.out)

    # Two interrupted trials change nothing, and each keeps its own state.
    for seed in (1, 2):
        with pytest.raises(Stop):
            finetune(asked.but(seed=seed), binary, StopAfter(0))
        assert contents(asked.out) == before
        assert len(list(bench.folder.glob("state-*.npz"))) == seed
    assert load_manifest(asked.out) == first.manifest

    # One of them goes on: the first model steps aside, whole.
    second = finetune(asked.but(seed=1), binary)
    assert "goes on after epoch 1" in second.notes[0]
    aside = bench.kept_beside(json.loads(before["run.json"])["digest"])
    assert contents(aside) == before
    assert load_manifest(aside) == first.manifest
    assert f"it is in {aside.name} now" in " ".join(second.notes)
    assert not (asked.out / "export").exists()
    assert second.manifest.seed == 1
    assert len(list(bench.folder.glob("state-*.npz"))) == 1, "the state of the other trial"

    # The first run again: nothing is trained, the models change places.
    again = finetune(asked, binary)
    assert not again.repeated
    assert contents(asked.out) == before
    assert again.manifest == first.manifest
    assert again.model_dir == asked.out
    kept = bench.kept_beside(str(digest_of_seed(bench, 1)))
    assert load_manifest(kept) == second.manifest

    # By force: the model is made again, and stands alone.
    forced = finetune(asked.but(force=True), binary)
    assert forced.repeated
    assert not (asked.out / "export").exists()
    assert {path.name for path in asked.out.parent.iterdir() if path.name.startswith(asked.out.name)} == {
        asked.out.name,
        kept.name,
    }


def digest_of_seed(bench: ModelDirectory, seed: int) -> str | None:
    return next(digest_of(path) for path in bench.relatives() if load_manifest(path).seed == seed)


def test_a_model_that_was_not_published_any_more_is_found(binary: ImageSet, request_for: Request) -> None:
    asked = request_for(overrides={"epochs": (1, 0)})
    done = finetune(asked, binary)
    bench = ModelDirectory(asked.out)
    asked.out.rename(bench.new)  # killed just before the last change of a name
    again = finetune(asked, binary)
    assert not again.repeated
    assert load_manifest(asked.out) == done.manifest


DRIVER = """
import importlib.util, sys
specification = importlib.util.spec_from_file_location("tiny_conftest", sys.argv[1])
module = importlib.util.module_from_spec(specification)
sys.modules["tiny_conftest"] = module
specification.loader.exec_module(module)
from dataclasses import replace
from pathlib import Path
from benchmark.data import load_images
from benchmark.options import DataOptions
from benchmark.finetuning import finetune, Recipe
from benchmark.options import RecipeChanges
folder = Path(sys.argv[2])
images = load_images(folder / "stripes", cache=folder / "cache", options=DataOptions(positive="crack"))
recipe = Recipe.load().changed(RecipeChanges(image_size=32, batch_size=16, epochs=(1, 1)))
request = module.tiny_request(recipe, folder / "model", folder / "cache")
print("ready", flush=True)
finetune(request.but(seed=int(sys.argv[3]), force=sys.argv[4] == "force"), images)
"""


def run_driver(folder: Path, seed: int, force: str = "") -> subprocess.Popen[bytes]:
    conftest = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", DRIVER, str(conftest), str(folder), str(seed), force]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process


def whole_models(folder: Path) -> set[int]:
    """Seeds of the models that are whole, wherever they stand."""
    found = set()
    for path in folder.rglob("model.keras"):
        try:
            found.add(load_manifest(path.parent).seed)
        except ManifestError:
            continue
    return found


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_run_killed_at_any_moment_costs_no_finished_model(
    tmp_path: Path, write_stripes: Callable[[Path], Path]
) -> None:
    write_stripes(tmp_path / "stripes")
    process = run_driver(tmp_path, 0)
    began = time.monotonic()
    assert process.wait(timeout=900) == 0
    seconds = time.monotonic() - began
    chance, done, killed = random.Random(5), {0}, 0
    for attempt in range(12):
        seed = attempt % 3
        process = run_driver(tmp_path, seed, "force")
        time.sleep(chance.uniform(0.6, 1.05) * seconds)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        whole = whole_models(tmp_path)
        assert done <= whole, "a finished model was lost"
        done = whole
    assert killed
    assert run_driver(tmp_path, 0).wait(timeout=900) == 0
    assert load_manifest(tmp_path / "model").seed == 0
    assert done <= whole_models(tmp_path)
