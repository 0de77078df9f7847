"""The device kit: made from a board, measured where this package is not, and put on the board again."""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loopback
import numpy as np
import pytest
from command_places import QUICK, SMALL, Answer, Place, Run

from benchmark.deployment import measure
from benchmark.records import Task

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's
]
TARGETS = ("tflite-float32", "tflite-dynamic", "onnx")
GUARD = Path(__file__).with_name("no_network.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ranked_once: Place, backbones: Run) -> Place:
    """A ranking with a kit; read only."""
    place = Place(tmp_path_factory.mktemp("kit") / "ranked", ranked_once.data)
    shutil.copytree(ranked_once.root, place.root, symlinks=True)
    words = ("device", "kit", place.data, "--to", ",".join(TARGETS), *place.folders, "--format", "json")
    answer = backbones(*words)
    assert answer.status == 0, answer.err
    board = json.loads((place.board / "leaderboard.json").read_text())["rows"][0]
    for row in answer.rows[:3:2]:  # float32 changes nothing: the very figures of the board
        assert [row["f1"], row["f1_low"], row["f1_high"]] == pytest.approx(
            [board["val_f1"], board["val_f1_low"], board["val_f1_high"]], abs=1e-3
        )
    return place


@pytest.fixture
def kit(made: Place, tmp_path: Path) -> Path:
    """A kit as it arrives on a device."""
    with zipfile.ZipFile(made.board / "device_kit.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "device_kit"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``clean(*packages)``: the Python of an environment with these and what they need, and no network."""

    def make(*packages: str) -> Path:
        folder = tmp_path_factory.mktemp("clean")
        venv.create(folder, with_pip=False)
        (site,) = folder.glob("lib/python*/site-packages")
        shutil.copy(GUARD, site / "sitecustomize.py")
        wanted, linked = list(packages), set[str]()
        while wanted:
            try:
                found = distribution(wanted.pop())
            except PackageNotFoundError:  # what only another system needs
                continue
            for file in found.files or ():
                top = file.parts[0]
                if top != ".." and top not in linked and not top.startswith("__pycache__"):
                    linked.add(top)
                    (site / top).symlink_to(str(found.locate_file(top)))
            plain = (need for need in found.requires or () if "extra ==" not in need)
            wanted += [re.split(r"[^\w.-]", need)[0] for need in plain]
        return folder / "bin" / "python"

    return make


@pytest.fixture(scope="module")
def device(clean: Callable[..., Path]) -> Path:
    """The Python of a device with both runtimes."""
    return clean("numpy", "ai-edge-litert", "onnxruntime")


def run(python: Path | str, kit: Path, *words: object) -> subprocess.CompletedProcess[str]:
    report = kit / "network.txt"
    done = subprocess.run(
        [str(python), "measure.py", "--seconds", "0.2", *map(str, words)],
        cwd=kit,
        env={"PATH": os.environ["PATH"], "NETWORK_REPORT": str(report), "HOME": str(kit)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert not report.exists(), report.read_text()
    return done


def record(kit: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((kit / "device.json").read_text())
    return found


def rewrite(kit: Path, name: str, content: bytes) -> None:
    """Change a file so that the kit vouches for it."""
    (kit / name).write_bytes(content)
    listed = json.loads((kit / "kit.json").read_text())
    listed["files"][name] = hashlib.sha256(content).hexdigest()
    (kit / "kit.json").write_text(json.dumps(listed))


def test_a_kit_is_measured_in_a_clean_environment(kit: Path, device: Path) -> None:
    names = subprocess.run([str(device), "-c", "import benchmark"], cwd=kit, capture_output=True, check=False)
    assert names.returncode, "the package is not there"
    done = run(device, kit, "--threads", 1)
    assert done.returncode == 0, (done.stdout, done.stderr)
    found = record(kit)
    listed = json.loads((kit / "kit.json").read_text())
    assert found["fingerprint"] == listed["fingerprint"]
    assert found["kit"] == hashlib.sha256((kit / "kit.json").read_bytes()).hexdigest()
    assert found["threads"] == 1
    assert set(found["machine"]["runtimes"]) == {"numpy", "ai-edge-litert", "onnxruntime"}
    assert [one["target"] for one in found["exports"]] == list(TARGETS)
    for one, export in zip(found["exports"], listed["exports"], strict=True):
        assert one["status"] == "passed", one
        assert one["max_difference"] <= export["tolerance"]["max_difference"]
        assert 0 < one["latency_p50_ms"] <= one["latency_p95_ms"]
        assert one["runs"] >= measure.FEWEST_RUNS
        assert 0 < one["memory_bytes"] < one["process_bytes"] < 1e9
        assert one["f1"] == export["f1"]
        assert f"{one['backbone']} {one['target']}: " in done.stdout
    assert not list(kit.rglob("*.tmp"))


def test_what_has_no_runtime_is_skipped_and_said(kit: Path, clean: Callable[..., Path]) -> None:
    done = run(clean("numpy", "onnxruntime"), kit)
    assert done.returncode == 0, done.stderr
    assert [one["status"] for one in record(kit)["exports"]] == ["skipped", "skipped", "passed"]
    assert "pip install ai-edge-litert" in done.stdout
    nothing = run(clean(), kit)
    assert nothing.returncode == 1, "nothing was measured"
    assert "pip install numpy" in nothing.stdout


def _flip(kit: Path) -> str:
    (path,) = kit.rglob("model.onnx")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "model.onnx is damaged"


def _lose(kit: Path) -> str:
    next(kit.glob("samples-*.npy")).unlink()
    return "No such file"


def _half(kit: Path) -> str:
    (kit / "kit.json").write_text((kit / "kit.json").read_text()[:500])
    return "not a whole kit"


def _later(kit: Path) -> str:
    listed = json.loads((kit / "kit.json").read_text())
    (kit / "kit.json").write_text(json.dumps(listed | {"schema": 99}))
    return "schema 99"


@pytest.mark.parametrize("damage", [_flip, _lose, _half, _later])
def test_a_damaged_kit_is_refused(kit: Path, damage: Callable[[Path], str]) -> None:
    said = damage(kit)
    done = run(sys.executable, kit)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (kit / "device.json").exists()


def test_other_outputs_and_broken_models_fail(kit: Path, device: Path) -> None:
    exports = json.loads((kit / "kit.json").read_text())["exports"]
    expected = f"{exports[0]['folder']}/expected.npy"
    np.save(kit / expected, 1 - np.load(kit / expected))
    rewrite(kit, expected, (kit / expected).read_bytes())
    model = f"{exports[2]['folder']}/model.onnx"
    rewrite(kit, model, (kit / model).read_bytes()[:1000])
    done = run(device, kit)
    assert done.returncode == 1
    first, second, third = record(kit)["exports"]
    assert [one["status"] for one in (first, second, third)] == ["failed", "passed", "failed"]
    assert "not those expected" in first["reason"]
    assert "max difference" in first["reason"]
    assert "latency_p50_ms" not in first
    assert "its process ended with status" in third["reason"]


def test_ctrl_c_keeps_what_was_measured(kit: Path, device: Path) -> None:
    command = [str(device), "-u", "measure.py", "--seconds", "4"]
    process = subprocess.Popen(
        command, cwd=kit, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert "ms" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    out, err = process.communicate(timeout=60)
    assert process.returncode == measure.INTERRUPTED, (out, err)
    assert "Interrupted. What was measured is in device.json" in err
    assert "Traceback" not in err
    found = record(kit)
    assert found["interrupted"] is True
    assert [one["status"] for one in found["exports"]] == ["passed", "skipped", "skipped"]


def test_the_program_is_python_3_9(kit: Path) -> None:
    ast.parse((kit / "measure.py").read_text(), feature_version=(3, 9))
    for minor in range(9, 14):
        python = shutil.which(f"python3.{minor}") or ""
        if not python or subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode:
            continue  # not on this machine
        done = run(python, kit)
        assert (done.returncode, "not installed here" in done.stdout) in {(1, True), (0, False)}, done


def test_a_kit_has_what_measure_can_run_and_replaces_nothing_else(
    made: Place, backbones: Run, tmp_path: Path
) -> None:
    words = ("device", "kit", made.data, *made.folders, "--quiet")
    refused = backbones(*words, "--to", "savedmodel")
    assert refused.status == 2
    assert "--to savedmodel: measure.py cannot run this format" in refused.said
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    taken = backbones(*words, "--to", "tflite-float32", "--output", tmp_path / "mine")
    assert taken.status == 2
    assert "holds something else than a kit" in taken.said
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "refused before any work"
    file = tmp_path / "file"
    file.touch()
    assert "holds something else" in backbones(*words, "--output", file).said
    (tmp_path / "new.zip").write_text("another archive")
    assert "is not the file of a kit" in backbones(*words, "--output", tmp_path / "new").said
    unranked = backbones("device", "kit", made.data, "--results", tmp_path / "none")
    assert unranked.status == 2


@pytest.mark.parametrize(
    ("task", "outputs", "expected", "agreement"),
    [
        (Task.BINARY, [[0.49], [0.9]], [[0.51], [0.9]], 0.5),
        (Task.MULTICLASS, [[0.4, 0.3, 0.3], [0.1, 0.2, 0.7]], [[0.3, 0.4, 0.3], [0.1, 0.3, 0.6]], 0.5),
        (Task.MULTILABEL, [[0.9, 0.4], [0.2, 0.2]], [[0.9, 0.6], [0.2, 0.2]], 0.5),
        (Task.MULTICLASS, [[0.4, 0.6]], [[0.4, 0.6]], 1.0),
        (Task.BINARY, [[float("nan")]], [[0.5]], 0.0),
        (Task.BINARY, [[0.5, 0.5]], [[0.5]], 0.0),
    ],
)
def test_outputs_are_compared_as_the_task_decides(
    task: Task, outputs: list[list[float]], expected: list[list[float]], agreement: float
) -> None:
    info = {"task": task.value, "threshold": 0.5}
    found = measure.differences(np.float32(outputs), np.float32(expected), info)
    assert found["label_agreement"] == agreement
    exact = {"max_difference": 1e-3, "mean_difference": 1e-4, "label_agreement": 1.0}
    assert bool(measure.violations(found, exact)) is (agreement < 1)


def test_what_the_system_tells_of_heat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SYSTEM", tmp_path)
    assert (measure.temperature(), measure.megahertz(), measure.throttled(None)) == (None, None, None)
    files = {
        "class/thermal/thermal_zone0/temp": "51250\n",
        "class/thermal/thermal_zone1/temp": "-273000\n",
        "class/thermal/thermal_zone2/temp": "no sensor\n",
        "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
        "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1500000\n",
        "devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "7\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    assert (measure.temperature(), measure.megahertz(), measure.throttle_count()) == (51.25, 2400.0, 7)
    assert (measure.throttled(7), measure.throttled(6)) == (False, True)
    raspberry = tmp_path / "devices/platform/soc/soc:firmware/get_throttled"
    raspberry.parent.mkdir(parents=True)
    for content, slowed in (("50000", False), ("50005", True), ("0", False)):  # before now; also now; never
        raspberry.write_text(content)
        assert measure.throttled(None) is slowed


class Endless:
    """A process that is not done in time; it says how much time it had."""

    given: float = 0.0
    returncode = None

    def __init__(self, command: list[str], **_: object) -> None:
        self._killed = False

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        if timeout is not None:
            Endless.given = timeout
            raise subprocess.TimeoutExpired("measure.py", timeout)
        return b"", b""

    def poll(self) -> int | None:
        return -9 if self._killed else None

    def kill(self) -> None:
        self._killed = True


def test_the_time_that_was_asked_for_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("DEVNULL", "PIPE", "TimeoutExpired")
    processes = SimpleNamespace(Popen=Endless, **{name: getattr(subprocess, name) for name in names})
    monkeypatch.setattr(measure, "subprocess", processes)
    monkeypatch.setattr(measure, "MODULES", {"a runtime": "json"})
    known = dict.fromkeys(("backbone", "weights_sha256", "input_size", "target", "size_bytes", *measure.F1))
    found = measure.measured(
        0, {**known, "runtime": "a runtime"}, argparse.Namespace(threads=1, seconds=5000.0)
    )
    assert found["status"] == "failed"
    assert Endless.given > 5000
    assert f"not finished after {Endless.given:g} seconds" in found["reason"]


# --- what comes back ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(made: Place, device: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The ``device.json`` of a kit."""
    folder = tmp_path_factory.mktemp("device") / "kit"
    shutil.copytree(made.board / "device_kit", folder)
    done = run(device, folder)
    assert done.returncode == 0, done.stderr
    return record(folder)


@pytest.fixture
def board(made: Place, tmp_path: Path) -> Iterator[Place]:
    """A copy of the ranking with a kit, to do anything with."""
    copy = Place(tmp_path / "ranked", made.data)
    shutil.copytree(made.root, copy.root, symlinks=True)
    yield copy
    shutil.rmtree(copy.root, ignore_errors=True)


def add(board: Place, backbones: Run, content: object, name: str = "pi5") -> Answer:
    file = board.root / "device.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return backbones("device", "add", file, "--name", name, *board.folders, "--format", "json", "--quiet")


def files(board: Place) -> dict[str, bytes]:
    names = [f"leaderboard.{ending}" for ending in ("csv", "json", "md", "html")]
    return {name: (board.board / name).read_bytes() for name in (*names, "plots/f1_vs_device_latency.png")}


def test_a_device_stands_on_the_board_until_it_is_taken_off(
    board: Place, backbones: Run, measured: dict[str, Any]
) -> None:
    before = (board.board / "leaderboard.csv").read_bytes()
    gone = {"backbone": "MobileNet_0.25", "target": "tflite-int8", "reason": "it lost F1"}
    answer = add(board, backbones, measured | {"left_out": [gone]})
    assert answer.status == 0, answer.err
    (row,) = answer.rows
    fastest = min(measured["exports"], key=lambda one: one["latency_p50_ms"])
    assert row["device"] == "pi5"
    assert row["device_target"] == fastest["target"]
    assert row["device_latency_ms"] == fastest["latency_p50_ms"]
    assert row["device_memory_bytes"] == fastest["memory_bytes"]
    assert row["device_f1_low"] <= row["device_f1"] <= row["device_f1_high"]
    said = json.loads((board.board / "leaderboard.json").read_text())["statements"]
    assert any(text.startswith("On device pi5 (") and "MobileNet_0.25 takes" in text for text in said), said
    assert any(text.endswith("MobileNet_0.25 as tflite-int8 was not tried: it lost F1.") for text in said)
    for page in ("leaderboard.md", "leaderboard.html"):
        assert "device ms" in (board.board / page).read_text()
    shown = files(board)
    for _ in range(2):
        assert backbones("report", board.data, *board.folders, "--quiet").status == 0
        assert files(board) == shown, "a rebuilt board is the same, byte for byte"
    other = backbones("report", board.data, "--device", "pi5:onnx", *board.folders, "--format", "json")
    assert [one["device_target"] for one in other.rows] == ["onnx"]
    assert backbones("report", board.data, "--device", "none", *board.folders).status == 0
    assert (board.board / "leaderboard.csv").read_bytes() == before
    assert not (board.board / "plots" / "f1_vs_device_latency.png").exists()


def test_f1_of_a_kit_stays_with_the_scores_that_it_was_found_for(
    board: Place, backbones: Run, measured: dict[str, Any]
) -> None:
    answer = add(board, backbones, measured)
    assert answer.rows[0]["device_f1"] is not None
    rank = ("rank", board.data, *SMALL, *QUICK, *board.folders, "--format", "json", "--quiet")
    for words in (("--average", "macro"), ("--threshold", 0.3), ("--protocol", "holdout")):
        other = backbones(*rank, *words, "--device", "pi5")
        assert other.status == 0, other.err
        (row,) = other.rows
        assert row["device_f1"] is None
        assert row["device_latency_ms"] == answer.rows[0]["device_latency_ms"]
        said = json.loads((board.board / "leaderboard.json").read_text())["statements"]
        assert any("F1 of MobileNet_0.25 is not shown: the kit was made" in text for text in said), said
    again = backbones(*rank, "--device", "pi5")
    assert again.rows[0]["device_f1"] == answer.rows[0]["device_f1"]


def test_a_limit_is_about_the_device(board: Place, backbones: Run, measured: dict[str, Any]) -> None:
    assert add(board, backbones, measured).status == 0
    shown = files(board)["leaderboard.json"]
    rank = ("rank", board.data, *SMALL, *QUICK, *board.folders, "--format", "json", "--quiet")
    fits = backbones(*rank, "--device", "pi5", "--max-latency-ms", 10_000)
    assert fits.status == 0, fits.err
    assert fits.rows[0]["device"] == "pi5"
    assert (fits.rows[0]["status"], files(board)["leaderboard.json"] == shown) == ("scored", True)
    slow = backbones(*rank, "--device", "pi5:onnx", "--max-latency-ms", 1e-6)
    assert slow.status == 1
    row = json.loads((board.board / "leaderboard.json").read_text())["rows"][0]
    assert row["status"] == "skipped"
    assert re.search(r"ms an image on pi5 \(onnx\) is more than", row["reason"]), row["reason"]
    for status, said in (("failed", "no export of it passed on pi5"), (None, "it was not measured on pi5")):
        kept = board.board / "devices" / "pi5.json"
        changed = json.loads(json.dumps(measured))
        for export in changed["exports"]:
            export["status"] = status
        changed["exports"] = changed["exports"] if status else []
        kept.write_text(json.dumps(changed))
        assert backbones(*rank, "--device", "pi5", "--max-latency-ms", 10_000).status == 1
        (row,) = json.loads((board.board / "leaderboard.json").read_text())["rows"]
        assert said in row["reason"], row["reason"]
    plain = backbones(*rank)
    assert plain.status == 0
    assert not [name for name in plain.rows[0] if name.startswith("device")]


def test_what_was_not_added_is_said(board: Place, backbones: Run, measured: dict[str, Any]) -> None:
    report = ("report", board.data, *board.folders, "--device")
    unknown = backbones(*report, "pi4")
    assert unknown.status == 2
    assert "--device pi4: no such device was added to this board" in unknown.said
    for name in ("../pi5", "", "a b", ".hidden", "x" * 99, "none"):
        assert add(board, backbones, measured, name).status == 2, name
        assert not (board.board / "devices").exists()
    assert add(board, backbones, measured).status == 0
    without = backbones(*report, "pi5:openvino")
    assert without.status == 2
    assert "nothing of this format was measured there" in without.said
    (board.board / "devices" / "pi5.json").write_text("{}")
    damaged = backbones("report", board.data, *board.folders)
    assert damaged.status == 2
    assert "is not what measure.py writes" in damaged.said


def _changed(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda found: found | changes


def _export(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda found: found | {"exports": [found["exports"][0] | changes, *found["exports"][1:]]}


def _without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda found: (
        found
        | {"exports": [{key: value for key, value in one.items() if key != name} for one in found["exports"]]}
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: "no JSON", "Expecting value"),
        (lambda found: [found], "not a JSON object"),
        (lambda found: "[" * 100_000 + "]" * 100_000, "nested deeper"),
        (lambda found: json.dumps(found).replace("\n", "")[:-40], ""),
        (_changed(schema=2), "schema: 2"),
        (_changed(extra=1), "unknown keys: extra"),
        (_changed(fingerprint="../../x"), "fingerprint: "),
        (_changed(fingerprint="0" * 64), "other images"),
        (_changed(threads=0), "threads"),
        (_changed(threads=True), "threads"),
        (_changed(interrupted="no"), "interrupted"),
        (_changed(machine={"model": 1}), "machine.model"),
        (_changed(data="x" * 501), "data: "),
        (_changed(exports={}), "exports"),
        (_changed(left_out=[{"backbone": "A", "target": 1, "reason": ""}]), "left_out"),
        (_changed(left_out=[{"backbone": "A", "target": "", "reason": "x" * 501}]), "left_out.0.reason: "),
        (lambda found: found | {"exports": found["exports"] * 2}, "two of one backbone and target"),
        (_export(latency_p50_ms=float("nan")), "latency_p50_ms"),
        (_export(latency_p50_ms=float("inf")), "latency_p50_ms"),
        (_export(latency_p50_ms=-1.0), "latency_p50_ms"),
        (_export(latency_p50_ms=0), "latency_p50_ms"),
        (_export(latency_p50_ms="11.2"), "latency_p50_ms"),
        (_export(latency_p50_ms=1e6), "above latency_p95_ms"),
        (_export(memory_bytes=-1), "memory_bytes"),
        (_export(memory_bytes=1.5), "memory_bytes"),
        (_export(runs=10**30), "runs"),
        (_export(f1=2.0), "f1: Input should be less than or equal to 1; got 2.0"),
        (_export(f1_low=0.9, f1_high=0.1), "outside of its interval"),
        (_export(status="winner"), "'skipped'; got 'winner'"),
        (_export(weights_sha256="x"), "weights_sha256"),
        (_export(outcome="x"), "outcome"),
        (_export(reason="x" * 100_000), "exports.0.reason: "),
        (_without("latency_p95_ms"), "without having been timed"),
        (_without("f1"), "f1"),
    ],
)
def test_what_no_kit_can_have_written_is_refused(
    made: Place,
    backbones: Run,
    measured: dict[str, Any],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    content = change(json.loads(json.dumps(measured)))
    file = tmp_path / "device.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    answer = backbones("device", "add", file, "--name", "pi5", *made.folders, "--quiet")
    assert answer.status == 2, answer.err
    assert said in answer.err.replace("\n", " "), answer.err
    assert not (made.board / "devices").exists()


def test_what_is_no_file_is_refused(made: Place, backbones: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * (5 * 2**20))
    for name in ("pipe", "large", "absent", "."):
        words = ("device", "add", tmp_path / name, "--name", "pi5", *made.folders)
        assert backbones(*words).status == 2, name


# --- both in one command --------------------------------------------------------------------------------


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[loopback.Loopback]:
    """A real sshd on loopback, called ``device``, found by the ssh of this process."""
    if not all(loopback.TOOLS):
        pytest.skip("no sshd, ssh or ssh-keygen")
    (tmp_path / "sshd").mkdir()
    try:
        found = loopback.start(tmp_path / "sshd")
    except RuntimeError as error:
        pytest.skip(f"sshd lets nobody in: {error}")
    monkeypatch.setenv("PATH", found.path)
    yield found
    found.stop()


def test_a_kit_is_measured_over_ssh(
    board: Place,
    backbones: Run,
    device: Path,
    clean: Callable[..., Path],
    there: loopback.Loopback,
    tmp_path: Path,
) -> None:
    words = ("device", "measure", board.board / "device_kit", *board.folders, "--quiet")
    assert "--ssh: is needed" in backbones(*words).said
    refused = backbones(*words, "--ssh=-oProxyCommand=touch x")
    assert refused.status == 2
    assert "no host as ssh takes it" in refused.said
    lacking = backbones(*words, "--ssh", "device", "--python", clean("numpy"))
    assert lacking.status == 1
    assert "nothing could be measured there" in lacking.said
    assert "pip install" in lacking.said
    assert not (board.board / "devices").exists()
    answer = backbones(*words, "--ssh", "device", "--python", device, "--format", "json")
    assert answer.status == 0, answer.err
    (row,) = answer.rows
    assert row["device"] == "device", "the name of the host"
    assert row["device_latency_ms"] > 0
    assert row["device_f1"] == pytest.approx(row["val_f1"], abs=1e-3)
    kept = json.loads((board.board / "devices" / "device.json").read_text())
    assert [one["status"] for one in kept["exports"]] == ["passed"] * len(TARGETS)
    # A device that answers for another board than the one whose kit it was sent.
    swapped = Path(shutil.copytree(board.board / "device_kit", tmp_path / "kit"))
    other = json.dumps(kept | {"fingerprint": "f" * 64})
    (swapped / "measure.py").write_text(f"open('device.json', 'w').write({other!r})")
    words = ("device", "measure", swapped, *board.folders, "--quiet", "--ssh", "device")
    foreign = backbones(*words, "--python", sys.executable, "--name", "liar")
    assert foreign.status == 2
    assert "measured another kit than it was sent" in foreign.said
    assert not (board.board / "devices" / "liar.json").exists()
    assert there.left() == []
