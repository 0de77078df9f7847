"""A run that is killed goes on where it was, and ends as one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.errors import StorageError
from benchmark.finetuning import BoardHead, FineTuned, FinetuneRequest, finetune
from benchmark.finetuning.progress import Progress
from benchmark.records import ImageSet

pytestmark = pytest.mark.filterwarnings(
    # Keras converts variables without NumPy 2's copy keyword.
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
Request = Callable[..., FinetuneRequest]
EPOCHS = {"epochs": (3, 3), "learning_rates": (0.01, 0.01), "schedule": "cosine"}


class Stop(Exception):
    """Ends a run from outside, as Ctrl-C would."""


class StopAfter:
    """An observer that ends the run after some finished epochs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs
        self.messages: list[str] = []

    def started(self, task: str, total: int) -> None: ...

    def advanced(self, task: str, done: int, note: str = "") -> None:
        self.left -= bool(note)
        if self.left < 0:
            raise Stop

    def finished(self, task: str, note: str = "") -> None: ...

    def message(self, text: str) -> None:
        self.messages.append(text)


def states(out: Path) -> list[Path]:
    """What interrupted runs left beside a model directory."""
    return list(out.with_name(f".{out.name}").glob("state-*.npz"))


def numbers(done: FineTuned) -> list[list[str]]:
    """history.csv without its clock columns."""
    rows = [line.split(",") for line in (done.model_dir / "history.csv").read_text().splitlines()]
    keep = [at for at, name in enumerate(rows[0]) if name not in ("seconds", "finished_at")]
    return [[row[at] for at in keep] for row in rows]


def weights(done: FineTuned) -> list[np.ndarray]:
    import keras

    return keras.saving.load_model(done.model_dir / "model.keras").get_weights()


def same(one: FineTuned, other: FineTuned) -> None:
    assert numbers(one) == numbers(other)
    assert (one.phases, one.kept_phase) == (other.phases, other.kept_phase)
    assert all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_an_interruption_changes_nothing(binary: ImageSet, request_for: Request, tmp_path: Path) -> None:
    undisturbed = finetune(request_for(overrides=EPOCHS, out=tmp_path / "undisturbed"), binary)
    request = request_for(overrides=EPOCHS)
    for epochs in (1, 2):  # in the middle of phase 1, then of phase 2
        with pytest.raises(Stop):
            finetune(request, binary, StopAfter(epochs))
        assert not request.out.exists()
    watch, told = StopAfter(100), list[float]()
    done = finetune(request, binary, watch, lambda row: told.append(row["epoch"]))
    same(undisturbed, done)
    assert "goes on after epoch 5" in " ".join(watch.messages)
    assert told == [1, 2, 3, 4, 5, 6]
    (events,) = (request.out / "tensorboard" / "train").iterdir()
    assert events.read_bytes().count(b"epoch_loss") == 6


def test_force_forgets_what_another_request_left_and_not_what_its_own_process_lost(
    binary: ImageSet, request_for: Request
) -> None:
    epochs = {"epochs": (4, 0)}
    with pytest.raises(Stop):
        finetune(request_for(overrides=epochs), binary, StopAfter(2))
    forced = request_for(overrides=epochs, force=True)
    first, second = StopAfter(1), StopAfter(100)
    with pytest.raises(Stop):
        finetune(forced, binary, first)
    finetune(forced, binary, second)
    assert "goes on" not in " ".join(first.messages)
    assert "An interrupted run goes on after epoch 2." in second.messages


@pytest.mark.slow
def test_a_damaged_state_begins_again(binary: ImageSet, request_for: Request, tmp_path: Path) -> None:
    undisturbed = finetune(request_for(overrides=EPOCHS, out=tmp_path / "undisturbed"), binary)
    request = request_for(overrides=EPOCHS)
    with pytest.raises(Stop):
        finetune(request, binary, StopAfter(2))
    (state,) = states(request.out)
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    watch = StopAfter(100)
    same(undisturbed, finetune(request, binary, watch))
    assert "goes on" not in " ".join(watch.messages)


def test_progress_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(3), np.zeros((0, 2), np.float32)]
    before = Progress(
        phase=2,
        epoch=3,
        stale=1,
        weights_sha256="ab",
        history=[{"epoch": 1, "loss": 0.1}],
        metrics={"before": {"val": {"f1": 1 / 3}, "test": None}, "phase1": None},
        best={"phase1": {"f1": 0.5}},
        current=arrays,
        optimizer=[np.int64(7)],
        best1=[],
        best2=arrays[:1],
    )
    before.save(path)
    after = Progress.load(path)
    assert after is not None
    for name in ("phase", "epoch", "stale", "weights_sha256", "history", "metrics", "best"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("current", "optimizer", "best1", "best2"):
        stored, given = getattr(after, name), getattr(before, name)
        assert len(stored) == len(given)
        assert all(
            a.dtype == np.asarray(b).dtype and np.array_equal(a, b)
            for a, b in zip(stored, given, strict=True)
        )


@pytest.mark.parametrize("content", [None, b"", b"PK", b"\x93NUMPY", bytes(100)])
def test_no_progress(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.npz"
    if content is not None:
        path.write_bytes(content)
    assert Progress.load(path) is None


def test_a_full_disk_is_an_error_and_leaves_the_old_state(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "state.npz"
    Progress(phase=1).save(path)
    old = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(StorageError, match=r"state\.npz"):
            Progress(phase=2, current=[np.zeros(10_000)]).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


DRIVER = """
import importlib.util, pickle, sys
specification = importlib.util.spec_from_file_location("tiny_conftest", sys.argv[1])
module = importlib.util.module_from_spec(specification)
sys.modules["tiny_conftest"] = module
specification.loader.exec_module(module)
from pathlib import Path
from benchmark.data import load_images
from benchmark.options import DataOptions
from benchmark.finetuning import finetune, Recipe
from benchmark.options import RecipeChanges
folder = Path(sys.argv[2])
images = load_images(folder / "stripes", cache=folder / "cache", options=DataOptions(positive="crack"))
recipe = Recipe.load().changed(RecipeChanges(
    image_size=32, batch_size=4, epochs=(6, 6), learning_rates=(0.01, 0.01)))
finetune(module.tiny_request(recipe, folder / sys.argv[3], folder / "cache"), images)
"""


def run_driver(folder: Path, name: str) -> subprocess.Popen[bytes]:
    conftest = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", DRIVER, str(conftest), str(folder), name]
    return subprocess.Popen(command, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


def history(out: Path) -> list[dict]:
    (state,) = states(out)
    progress = Progress.load(state)
    assert progress is not None, "a state is whole or absent"
    return progress.history


def kill_after(process: subprocess.Popen[bytes], out: Path, epochs: int) -> None:
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and process.poll() is None:
        if states(out) and len(history(out)) >= epochs:
            process.kill()
            break
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.torture
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_run_ends_as_one_that_was_left_alone(
    tmp_path: Path, write_stripes: Callable[[Path], Path]
) -> None:
    write_stripes(tmp_path / "stripes")
    assert run_driver(tmp_path, "undisturbed").wait(timeout=900) == 0
    for epochs in (2, 5, 8, 10):
        kill_after(run_driver(tmp_path, "killed"), tmp_path / "killed", epochs)
        assert not (tmp_path / "killed").exists()
    assert run_driver(tmp_path, "killed").wait(timeout=900) == 0
    one, other = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("undisturbed", "killed")
    )
    assert one == other
    import keras

    models = [keras.saving.load_model(tmp_path / name / "model.keras") for name in ("undisturbed", "killed")]
    first, second = (model.get_weights() for model in models)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_interruption_changes_nothing_that_began_with_the_head_of_a_board(
    many: ImageSet, request_for: Request, board_head: Callable[..., BoardHead], tmp_path: Path
) -> None:
    epochs = {"epochs": (2, 4)}
    whole = request_for("probe-then-tune", epochs, head=board_head(many), out=tmp_path / "undisturbed")
    undisturbed = finetune(whole, many)
    request = request_for("probe-then-tune", epochs, head=board_head(many))
    for stop in (1, 3):
        with pytest.raises(Stop):
            finetune(request, many, StopAfter(stop))
    same(finetune(request, many), undisturbed)
