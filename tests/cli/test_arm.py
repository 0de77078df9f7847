"""The device kit on 64-bit Arm, as far as emulation shows it: outputs, not times."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import arm64
import pytest
from command_places import Place, Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras's
]
TARGETS = ("tflite-float32", "tflite-dynamic", "tflite-int8", "onnx")
SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python, NumPy and both runtimes for Arm; skips where they, or the emulator, cannot be had."""
    if not all(arm64.TOOLS):
        pytest.skip("no qemu-user-static, apt-get or dpkg-deb")
    folder = tmp_path_factory.mktemp("arm64")
    try:
        arm64.prepare(folder)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"the packages of Arm cannot be had: {error}")
    return folder


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory, backbones: Run) -> Path:
    """A kit of a small network with real weights."""
    if not (SHARED / "weights").is_dir():
        pytest.skip("no shared photographs and weights")
    place = Place(tmp_path_factory.mktemp("ranked"), SHARED / "data" / "brick_cracks")
    options = ("--weights", SHARED / "weights", "--backbones", "MobileNet_0.25", "--repeats", 1, "--size", 96)
    ranked = backbones("rank", place.data, *options, *place.folders, "--quiet")
    assert ranked.status == 0, ranked.err
    made = backbones("device", "kit", place.data, "--to", ",".join(TARGETS), *place.folders, "--quiet")
    assert made.status == 0, made.err
    return place.board / "device_kit"


@pytest.mark.parametrize("processor", arm64.PROCESSORS)
def test_every_output_is_that_of_this_machine(arm: Path, kit: Path, tmp_path: Path, processor: str) -> None:
    python = arm64.emulated(arm, processor)
    copy = Path(shutil.copytree(kit, tmp_path / "kit"))
    done = subprocess.run(
        [str(python), "measure.py", "--threads", "1", "--seconds", "0.1"],
        cwd=copy,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    found = json.loads((copy / "device.json").read_text())
    assert found["machine"]["architecture"] == "aarch64"
    exports = {one["target"]: one for one in found["exports"]}
    assert {"tflite-float32", "onnx"} < set(exports), "int8 may be left out of a kit, floats not"
    assert {one["status"] for one in exports.values()} == {"passed"}, (done.stdout, done.stderr)
    assert all(one["label_agreement"] == 1 for one in exports.values()), exports
    assert max(exports[name]["max_difference"] for name in ("tflite-float32", "onnx")) < 1e-5
    assert done.returncode == 0
