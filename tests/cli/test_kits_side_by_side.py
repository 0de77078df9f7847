"""Exports side by side, in processes and on clusters: what one after the other makes, whatever happens."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from command_places import QUICK, Place, Run

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's
    pytest.mark.timeout(1200),  # exports, on a busy machine
    pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX"),
]
PAIR = ("--weights", "random", "--backbones", "MobileNet_0.25,MobileNet_0.5", "--size", "32")
TIMED = ("latency_p50_ms", "latency_p95_ms")
# Of formats whose converter makes the same file twice: tf2onnx does not.
KIT = ("--top", 2, "--to", "tflite-float32,tflite-dynamic", "--format", "json")
# Kills the process that exports: of one backbone every time, of the other once.
MORTAL = """
import os, signal, time
from pathlib import Path
from benchmark.deployment.targets.onnx import TARGET as ONNX


class Mortal(type(ONNX)):
    def convert(self, model, images, path):
        often = "MobileNet_0.25" in str(path)
        tries = Path(os.environ["TRIES"], "often" if often else "once")
        tries.mkdir(exist_ok=True)
        count = len(list(tries.iterdir()))
        (tries / str(count)).touch()
        if often or not count:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return super().convert(model, images, path)


MORTAL = Mortal()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, walls: Path, backbones: Run) -> Place:
    """A ranking of two, with a kit that was made one after the other; read only."""
    place = Place(tmp_path_factory.mktemp("kits"), walls)
    ranked = backbones("rank", walls, *PAIR, *QUICK, *place.folders, "--jobs", 1, "--quiet")
    assert ranked.status == 0, ranked.err
    answer = backbones("device", "kit", walls, *KIT, *place.folders, "--jobs", 1)
    assert answer.status == 0, answer.err
    (place.root / "rows.json").write_text(answer.out)
    return place


@pytest.fixture
def copy(made: Place, tmp_path: Path) -> Iterator[Place]:
    """The same ranking and its models, exports and kit gone."""
    place = Place(tmp_path / "copy", made.data)
    shutil.copytree(made.root, place.root, symlinks=True)
    for export in place.board.glob("finetune/*/frozen/export"):
        shutil.rmtree(export)
    shutil.rmtree(place.board / "device_kit")
    (place.board / "device_kit.zip").unlink()
    yield place
    shutil.rmtree(place.root, ignore_errors=True)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process and those that it starts have their temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def kit(place: Place) -> dict[str, object]:
    """Every file of a kit, but for the times of this machine."""
    folder = place.board / "device_kit"
    found: dict[str, object] = {}
    for path in (one for one in folder.rglob("*") if one.is_file()):
        name = path.relative_to(folder).as_posix()
        content: Any = path.read_bytes()
        if path.name == "parity.json":
            content = json.loads(content)
            times = [content.pop(key) for key in TIMED]
            assert 0 < times[0] <= times[1]
        if path.name == "kit.json":
            content = json.loads(content)
            content["files"] = sorted(content["files"])
        found[name] = content
    return found


def leftovers(place: Place, temporary: Path) -> list[Path]:
    found = [*place.results.rglob(".tmp-*"), *place.cache.glob(".tmp-*"), *temporary.iterdir()]
    return [path for path in found if path.name != "dask-scratch-space"]  # Dask's own, and empty


@pytest.mark.parametrize(
    "how", [("--jobs", 2), pytest.param(("--cluster", "local:2"), marks=pytest.mark.slow)]
)
def test_a_kit_is_that_of_one_after_the_other(
    made: Place, copy: Place, backbones: Run, temporary: Path, how: tuple[object, ...]
) -> None:
    if "--cluster" in how:
        pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    answer = backbones("device", "kit", copy.data, *KIT, *copy.folders, *how)
    assert answer.status == 0, answer.err
    assert answer.rows == json.loads((made.root / "rows.json").read_text())
    assert [row["reason"] for row in answer.rows] == [""] * 4
    assert kit(copy) == kit(made)
    assert not leftovers(copy, temporary)


@pytest.mark.slow
def test_a_worker_without_the_converter_hands_its_task_on(
    made: Place, copy: Place, backbones: Run, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    sys.path.append(str(Path(__file__).resolve().parents[1] / "execution"))
    from clusters import HERE, cluster

    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "sitecustomize.py").write_text("import sys; sys.modules['ai_edge_litert'] = None")
    with cluster(tmp_path, 0) as workers:
        workers.add(PYTHONPATH=os.pathsep.join([str(tmp_path / "bare"), str(HERE)]))
        words = ("device", "kit", copy.data, *KIT, *copy.folders, "--cluster", workers.address)
        alone = backbones(*words)
        assert alone.status == 1, alone.err
        assert "a package that this format needs is not installed" in alone.err
        assert "on worker tcp://" in alone.err
        workers.add()
        with distributed.Client(workers.address) as client:
            client.wait_for_workers(2, timeout=240)
        answer = backbones(*words)
    assert answer.status == 0, answer.err
    assert [row["reason"] for row in answer.rows] == [""] * 4
    assert kit(copy) == kit(made)


@pytest.mark.slow
def test_one_that_dies_each_time_is_left_out_and_one_that_died_once_is_not(
    copy: Place, backbones: Run, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, tries = tmp_path / "site", tmp_path / "tries"
    facts = site / "mortal-0.1.dist-info"
    facts.mkdir(parents=True)
    tries.mkdir()
    (site / "mortal.py").write_text(MORTAL)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text("[backbone_benchmark.targets]\nmortal = mortal:MORTAL\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("TRIES", str(tries))
    words = ("--top", 2, "--to", "mortal,tflite-float32", "--format", "json", "--jobs", 2)
    answer = backbones("device", "kit", copy.data, *words, *copy.folders)
    assert answer.status == 0, answer.err
    *there, gone = answer.rows
    assert [(row["backbone"], row["target"], row["reason"]) for row in there] == [
        ("MobileNet_0.5", "mortal", ""),
        ("MobileNet_0.5", "tflite-float32", ""),
    ]
    assert gone["backbone"] == "MobileNet_0.25"
    assert gone["reason"].startswith(
        "left out: tried 3 times in a process of its own; the last time the process"
    )
    assert "status -9 (killed; it may need more memory than there is)" in gone["reason"]
    assert {path.name: len(list(path.iterdir())) for path in tries.iterdir()} == {"often": 3, "once": 2}
    assert not leftovers(copy, temporary)


def exports(place: Place) -> dict[str, bytes]:
    """What is in its place."""
    found = [path for path in place.board.glob("finetune/*/frozen/export/*/*") if path.is_file()]
    return {path.relative_to(place.board).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def begin(copy: Place) -> Callable[..., subprocess.Popen[str]]:
    """``begin(limit)``: a kit of two at once, in a process group of its own."""

    def start(limit: Callable[[], None] | None = None) -> subprocess.Popen[str]:
        words = ("device", "kit", copy.data, *KIT, *copy.folders, "--jobs", 2)
        return subprocess.Popen(
            [sys.executable, "-m", "benchmark", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=limit,
        )

    return start


def test_ctrl_c_leaves_what_was_there(
    made: Place, copy: Place, temporary: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    for model in copy.board.glob("finetune/*/frozen"):
        shutil.copytree(made.board / model.relative_to(copy.board) / "export", model / "export")
    before = exports(copy)
    process = begin()
    children: list[psutil.Process] = []
    # Two that export, and two that convert for them.
    while len(list(copy.board.glob("finetune/*/frozen/export/.tmp-*"))) < 4 or len(children) < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert exports(copy) == before
    assert not (copy.board / "device_kit").exists()
    assert not leftovers(copy, temporary)


def test_a_full_disk_leaves_what_was_there(
    copy: Place, temporary: Path, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    def limit() -> None:
        with suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    process = begin(limit)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 1, (out, err)
    assert "no export of the board can be measured" in err
    assert "cannot be written; got File too large. Free some space" in " ".join(err.split())
    assert "backbones-apart" not in err, "which is gone"
    assert not exports(copy)
    assert not (copy.board / "device_kit").exists()
    assert not leftovers(copy, temporary)
