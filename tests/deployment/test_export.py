# ruff: noqa: ANN401 - fixtures of conftest.py, whose types test files cannot import
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.deployment import (
    Tolerance,
    export_model,
    open_model,
    parse_targets,
    target_names,
    time_exports,
)
from benchmark.deployment.description import read_description
from benchmark.deployment.export import ExportResult
from benchmark.deployment.parity import compare
from benchmark.deployment.targets import find_target
from benchmark.deployment.worker import Conversion, carry_out
from benchmark.errors import ArgumentError, ExportError, ManifestError, StorageError
from benchmark.execution import failure
from benchmark.finetuning.manifest import write_manifest
from benchmark.options import ExportOptions
from benchmark.records import Average, Silent, Task
from benchmark.storage import temporary_beside

CLASSES, SIDE = ("crack", "plain"), 32
LIGHT = [t for t in target_names() if t not in ("keras", "savedmodel")]


def keras_probabilities(trained: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(trained.model(images.astype(np.float32), training=False))


def test_the_model_learned_something(trained: Any) -> None:
    val = trained.parts == "val"
    right = (keras_probabilities(trained, trained.pixels[val]) >= 0.5) == (trained.targets[val] > 0.5)
    assert right.mean() > 0.95


@pytest.mark.parametrize("target", target_names())
def test_every_target_passes_its_gate(exported: dict[str, ExportResult], target: str) -> None:
    result = exported[target]
    assert result.passed, result.reason
    assert result.parity is not None
    assert result.parity.images == 100
    assert result.size_bytes > 1000
    assert result.latency_p50_ms > 0


@pytest.mark.parametrize("target", ["tflite-float32", "tflite-float16", "onnx", "openvino"])
def test_float_exports_keep_every_label(exported: dict[str, ExportResult], target: str) -> None:
    parity = exported[target].parity
    assert parity is not None
    assert parity.label_agreement == 1.0


def test_the_int8_file_is_integer_and_takes_raw_bytes(exported: dict[str, ExportResult]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    folder = exported["tflite-int8"].folder
    assert folder is not None
    interpreter = Interpreter(model_path=str(folder / "model.tflite"))
    (taken,) = interpreter.get_input_details()
    assert taken["dtype"] is np.uint8
    assert tuple(taken["quantization"]) in ((1.0, 0), (0.0, 0))
    kinds = [detail["dtype"] for detail in interpreter.get_tensor_details()]
    assert kinds.count(np.int8) > len(kinds) / 3


@pytest.mark.parametrize("target", target_names())
def test_a_folder_holds_what_a_developer_needs(exported: dict[str, ExportResult], target: str) -> None:
    folder = exported[target].folder
    assert folder is not None
    assert (folder / "labels.txt").read_text() == "crack\nplain\n"
    info = json.loads((folder / "deployment.json").read_text())
    assert (info["labels"], info["positive"], info["threshold"]) == (list(CLASSES), "crack", 0.5)
    assert (info["input_size"], info["input_dtype"], info["input_range"]) == (SIDE, "uint8", [0.0, 255.0])
    assert info["resize"] == "bilinear"
    parity = json.loads((folder / "parity.json").read_text())
    assert parity["status"] == "passed"
    assert parity["images"] == 100
    assert 0 <= parity["example_max_difference"] < 1e-3


def test_nothing_temporary_is_left(exported: dict[str, ExportResult], trained: Any) -> None:
    assert sorted(path.name for path in (trained.model_dir / "export").iterdir()) == sorted(target_names())
    assert len(exported) == len(target_names())


@pytest.mark.parametrize("target", target_names())
def test_any_export_predicts_what_keras_predicts(
    exported: dict[str, ExportResult], trained: Any, target: str
) -> None:
    folder = exported[target].folder
    assert folder is not None
    predictor = open_model(folder, threads=1)
    answers = predictor.predict(trained.pixels[:40])
    assert answers.shape == (40, 1)
    assert answers.dtype == np.float32
    exact = exported[target].parity.max_difference < 1e-3  # type: ignore[union-attr]
    wanted = keras_probabilities(trained, trained.pixels[:40])
    np.testing.assert_allclose(answers, wanted, atol=1e-3 if exact else 0.3)
    assert predictor.predict(trained.pixels[:0]).shape == (0, 1)


def test_examples_run_as_they_stand(exported: dict[str, ExportResult], trained: Any, tmp_path: Path) -> None:
    cracked = np.flatnonzero(trained.targets[:, 0] > 0.5)
    sure = int(cracked[keras_probabilities(trained, trained.pixels[cracked])[:, 0].argmax()])
    photo = trained.data / "crack" / f"{sure:04d}.png"
    copied = shutil.copytree(trained.model_dir, tmp_path / "elsewhere")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    running = {
        target: subprocess.Popen(
            [sys.executable, str(copied / "export" / target / "example.py"), str(photo)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for target in exported
    }
    finished = {target: (*process.communicate(timeout=200), process) for target, process in running.items()}
    for target, (output, errors, process) in finished.items():
        assert process.returncode == 0, (target, errors[-600:])
        label, probability = output.removeprefix(f"{photo} ").split()
        assert label == "crack"
        assert float(probability) > 0.5
        text = (copied / "export" / target / "example.py").read_text()
        assert "benchmark" not in text
        assert len([line for line in text.splitlines() if line.strip()]) <= 65


def test_light_formats_predict_without_tensorflow(exported: dict[str, ExportResult]) -> None:
    folders = [str(exported[target].folder) for target in LIGHT]
    program = (
        "import sys, numpy as np; from pathlib import Path; from benchmark.deployment import open_model\n"
        f"for folder in {folders!r}:\n"
        f"    open_model(Path(folder)).predict(np.zeros((2, {SIDE}, {SIDE}, 3), np.uint8))\n"
        "print(sorted({'tensorflow', 'keras', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def without_exports(trained: Any, tmp_path: Path) -> Path:
    """A copy of the model folder that may be changed."""
    ignored = shutil.ignore_patterns("export")
    return Path(shutil.copytree(trained.model_dir, tmp_path / "model", ignore=ignored))


def test_an_export_outside_its_tolerance_is_kept_and_marked(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_dir = without_exports(trained, tmp_path)
    monkeypatch.setattr(find_target("tflite-dynamic"), "tolerance", Tolerance(max_difference=0.0))
    (result,) = export_model(model_dir, ExportOptions(to="tflite-dynamic", parity_images=20))
    assert not result.passed
    assert "largest" in result.reason
    assert result.parity is not None
    assert result.parity.images == 20
    kept = model_dir / "export" / "tflite-dynamic"
    assert (kept / "model.tflite").is_file()
    verdict = json.loads((kept / "parity.json").read_text())
    assert verdict["status"] == "failed"
    assert verdict["tolerance"]["max_difference"] == 0.0


def test_what_was_not_timed_is_timed_later(trained: Any, tmp_path: Path) -> None:
    model_dir = without_exports(trained, tmp_path)
    options = ExportOptions(to="tflite-dynamic,onnx", parity_images=20)
    results = export_model(model_dir, options, timed=False)
    told = [model_dir / "export" / target / "parity.json" for target in ("tflite-dynamic", "onnx")]
    before = [json.loads(path.read_text()) for path in told]
    assert [one["latency_p50_ms"] for one in before] == [None, None]
    assert np.isnan([one.latency_p95_ms for one in results]).all()
    (told[0].with_name("model.tflite")).write_bytes(b"no model")
    ((untimed, reason),) = time_exports({path.parent: trained.pixels[0] for path in told})
    assert untimed == told[0].parent
    assert "model.tflite" in str(reason)
    broken, timed = (json.loads(path.read_text()) for path in told)
    assert broken == before[0]
    assert 0 < timed["latency_p50_ms"] <= timed["latency_p95_ms"]
    assert {**timed, "latency_p50_ms": None, "latency_p95_ms": None} == before[1]
    assert list(timed) == list(before[1])


class Steps(Silent):
    """Remembers how far it was told things are."""

    def __init__(self) -> None:
        self.total = 0
        self.done: list[int] = []
        self.notes: list[str] = []

    def started(self, task: str, total: int) -> None:
        self.total = total

    def advanced(self, task: str, done: int, note: str = "") -> None:
        self.done.append(done)
        self.notes.append(note)


def test_progress_counts_what_is_finished(trained: Any, tmp_path: Path) -> None:
    told = Steps()
    options = ExportOptions(to="tflite-dynamic,tflite-float16", parity_images=20)
    export_model(without_exports(trained, tmp_path), options, observer=told)
    assert (told.total, told.done) == (4, [1, 2, 3, 4])
    assert told.notes == [
        "tflite-dynamic: converted",
        "tflite-float16: converted",
        "tflite-dynamic: passed",
        "tflite-float16: passed",
    ]


def test_what_killed_exports_left_is_taken_away(trained: Any, tmp_path: Path) -> None:
    model_dir = without_exports(trained, tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from benchmark.storage import temporary_beside;"
        "folder = temporary_beside(Path(sys.argv[1]) / 'onnx'); folder.mkdir(parents=True);"
        "(folder / 'model.onnx').write_bytes(b'half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(model_dir / "export")], check=False)
    assert [path.name[:5] for path in (model_dir / "export").iterdir()] == [".tmp-"]
    alive = temporary_beside(model_dir / "export" / "onnx")
    alive.mkdir()
    export_model(model_dir, ExportOptions(to="tflite-dynamic", parity_images=20))
    kept = sorted(path.name for path in (model_dir / "export").iterdir())
    assert kept == [alive.name, "tflite-dynamic"], "what another export is at work on stays"


def test_what_takes_too_long_is_ended_and_leaves_the_old_export(
    exported: dict[str, ExportResult], trained: Any
) -> None:
    folder = exported["onnx"].folder
    assert folder is not None
    before = (folder / "deployment.json").read_bytes()
    with pytest.raises(ExportError, match=r"not finished after 0.2 seconds"):
        export_model(trained.model_dir, ExportOptions(to="onnx", timeout=0.2))
    assert (folder / "deployment.json").read_bytes() == before
    assert sorted(path.name for path in (trained.model_dir / "export").iterdir()) == sorted(target_names())


def test_missing_and_changed_images_are_named(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be used") as found:
        export_model(trained.model_dir, ExportOptions(to="onnx", data=tmp_path))
    assert failure(found.value)["elsewhere"], "another machine may have them"
    copied = shutil.copytree(trained.data, tmp_path / "data")
    for path in (copied / "crack").iterdir():
        shutil.copy(copied / "plain" / "0001.png", path)
    with pytest.raises(ExportError, match="other bytes"):
        export_model(trained.model_dir, ExportOptions(to="onnx", data=copied))


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_csv_that_a_model_was_trained_on_names_its_folder(
    trained: Any, tmp_path: Path, suffix: str
) -> None:
    model_dir = without_exports(trained, tmp_path)
    table = (trained.data / "photos").with_suffix(suffix)
    options = ExportOptions(to="keras", parity_images=4, data=table)
    (result,) = export_model(model_dir, options)
    assert result.passed, result.reason
    with pytest.raises(ExportError, match="`data`"):
        export_model(model_dir, options.but(data=tmp_path / "photos.csv"))


def test_the_images_are_written_one_by_one(trained: Any, tmp_path: Path) -> None:
    """However many images are compared, one is held at a time; each is decoded as in training."""
    import tracemalloc

    from benchmark.deployment.samples import SplitFiles, read_split, write_images

    rows = read_split(trained.model_dir)
    tracemalloc.start()
    try:
        write_images(rows, SplitFiles(None, trained.data), trained.manifest, tmp_path / "images.npy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    written = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(written, trained.pixels)
    assert peak < written.nbytes / 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_and_no_crash(trained: Any) -> None:
    from benchmark.deployment.samples import SplitFiles, read_split, write_images

    rows = read_split(trained.model_dir)[:20]
    with pytest.raises(OSError, match="No space left"):
        write_images(rows, SplitFiles(None, trained.data), trained.manifest, Path("/dev/full"))


@pytest.mark.parametrize("target", target_names())
def test_a_disk_that_fills_while_a_format_is_written_is_told_as_such(
    trained: Any, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # nor are compiled modules to be cut off
    np.save(tmp_path / "calibration.npy", trained.pixels[:4])
    staged = tmp_path / "staged"
    staged.mkdir()
    task = Conversion(
        name=target,
        model=trained.model_dir / "model.keras",
        output=staged / find_target(target).file,
        calibration=tmp_path / "calibration.npy",
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot be written; got File too large\. Free some space"):
            list(carry_out([task]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_pipe_in_the_place_of_an_image_is_no_wait(trained: Any, tmp_path: Path) -> None:
    copied = shutil.copytree(trained.data, tmp_path / "data")
    for path in (copied / "crack").iterdir():
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(ExportError, match="not a regular file"):
        export_model(trained.model_dir, ExportOptions(to="onnx", data=copied))


def test_at_most_two_thousand_images_are_compared_unless_asked(trained: Any) -> None:
    from benchmark.deployment.samples import SplitRow, stratified

    usual = ExportOptions(to="onnx").parity_images
    assert usual == 2000
    rows = tuple(
        SplitRow(path=f"{n}.png", image_id=f"{n}", label="a" if n % 10 else "b", part="val")
        for n in range(5000)
    )
    chosen = stratified(rows, usual, 0)
    assert len(chosen) == 2000
    assert sum(row.label == "b" for row in chosen) == 200


def test_the_model_says_how_f1_is_averaged(trained: Any, tmp_path: Path) -> None:
    model_dir = without_exports(trained, tmp_path)
    write_manifest(model_dir, replace(trained.manifest, average=Average.MACRO))
    (result,) = export_model(model_dir, ExportOptions(to="keras", parity_images=60))
    assert result.parity is not None
    assert result.folder is not None
    description = read_description(result.folder)
    assert (description.average, description.recipe) == (Average.MACRO, "two-phase-f1")
    before, after = np.array([[0.9], [0.9], [0.1], [0.1]]), np.array([[0.9], [0.1], [0.1], [0.1]])
    truth = np.array([[1.0], [0.0], [0.0], [0.0]])
    parity = compare(before, after, truth, Task.BINARY, 0.5, Average.MACRO)
    assert (parity.f1_before, parity.f1_after) == (pytest.approx((2 / 3 + 4 / 5) / 2), 1.0)


def test_targets_are_parsed() -> None:
    assert parse_targets("onnx, tflite-int8,onnx") == ("onnx", "tflite-int8")
    assert parse_targets("all") == target_names()
    with pytest.raises(ArgumentError, match="Did you mean openvino"):
        parse_targets("openvin")
    with pytest.raises(ArgumentError, match="no export target"):
        parse_targets(" , ")


def test_a_model_directory_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        export_model(tmp_path, ExportOptions(to="onnx"))
    with pytest.raises(ArgumentError, match="no export target"):
        export_model(tmp_path, ExportOptions(to=""))
