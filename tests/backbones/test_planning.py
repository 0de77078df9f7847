"""Which engine is planned; the machine's own abilities are taken as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.backbones import engines_of, load_weights, select
from benchmark.engines import EngineRequest, hardware, memory_bytes, plan_engine
from benchmark.engines.hardware import has_bfloat16, has_gpu
from benchmark.engines.model_cache import Agreement, ModelMeta, identity_of, model_folder, write_meta
from benchmark.records import Backbone, Engine, Precision

pytestmark = pytest.mark.skipif(has_gpu(), reason="with a GPU every job goes there")


def automatic(request: EngineRequest, **changes: object) -> EngineRequest:
    return replace(request, engine=None, precision=None, **changes)  # type: ignore[arg-type]


def known_model(request: EngineRequest, agreement: dict[str, Agreement]) -> None:
    """Pretend that the backbone was converted: planning reads what is noted, not the model."""
    model = request.backbone.build(32)
    digest = load_weights(request.backbone, model, request.weights, cache=request.cache)
    identity = identity_of(request.backbone, digest, request.input_size)
    files = {"model.xml": "0" * 64, "model.bin": "0" * 64}
    write_meta(
        model_folder(request.cache, identity), ModelMeta(identity=identity, files=files, agreement=agreement)
    )


PASSED = Agreement(cosine=1.0, images=16, passed=True)
FAILED = Agreement(cosine=0.9, images=16, passed=False)


def test_what_is_asked_for_is_kept(openvino_request: EngineRequest) -> None:
    for engine in engines_of(openvino_request.backbone):
        request = replace(openvino_request, engine=engine, precision=Precision.FLOAT32)
        assert plan_engine(request, 10) == (engine, Precision.FLOAT32)


@pytest.mark.parametrize("name", ["MobileNetV3Small_0.75", "ResNet50", "VGG16"])
def test_more_images_never_lead_back_to_the_slower_engine(name: str, openvino_request: EngineRequest) -> None:
    request = replace(automatic(openvino_request), backbone=select(name)[0], input_size=224)
    plans = [plan_engine(request, images)[0] for images in (1, 10, 100, 1000, 10_000, 1_000_000)]
    assert plans == sorted(plans, key=lambda engine: engine is Engine.OPENVINO)
    assert plans[-1] is Engine.OPENVINO


def test_one_image_is_not_worth_a_conversion(openvino_request: EngineRequest) -> None:
    assert plan_engine(automatic(openvino_request), 1)[0] is Engine.TENSORFLOW


def test_a_converted_model_is_reused_and_its_agreement_respected(openvino_request: EngineRequest) -> None:
    request = automatic(openvino_request)
    known_model(request, {"bfloat16": PASSED})
    wanted = Precision.BFLOAT16 if has_bfloat16() else Precision.FLOAT32
    assert plan_engine(request, 1) == (Engine.OPENVINO, wanted)
    known_model(request, {"bfloat16": FAILED, "float32": PASSED})
    assert plan_engine(request, 1) == (Engine.OPENVINO, Precision.FLOAT32)
    half = replace(request, engine=Engine.OPENVINO, precision=Precision.BFLOAT16)
    assert plan_engine(half, 1) == (Engine.OPENVINO, Precision.FLOAT32)
    known_model(request, {"bfloat16": FAILED, "float32": FAILED})
    assert plan_engine(request, 10_000)[0] is Engine.TENSORFLOW


def test_a_gpu_that_tensorflow_cannot_use_is_none(
    openvino_request: EngineRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "nvidia0"
    device.touch()
    monkeypatch.setattr(hardware, "_GPU_DEVICES", (device,))
    has_gpu.cache_clear()
    try:
        assert not has_gpu()
        engine, precision = plan_engine(automatic(openvino_request), 1_000_000)
        assert engine is Engine.OPENVINO
        assert precision is (Precision.BFLOAT16 if has_bfloat16() else Precision.FLOAT32)
        monkeypatch.delitem(sys.modules, "tensorflow", raising=False)  # which would know
        monkeypatch.setattr(hardware, "_MULTIPLY_ON_GPU", {Engine.TENSORFLOW: "raise SystemExit(0)"})
        has_gpu.cache_clear()
        usable = plan_engine(automatic(openvino_request), 1_000_000)
        assert usable == (Engine.TENSORFLOW, Precision.BFLOAT16)
        monkeypatch.setattr(hardware, "_MULTIPLY_ON_GPU", {Engine.TENSORFLOW: "import time; time.sleep(60)"})
        monkeypatch.setattr(hardware, "_PATIENCE_SECONDS", 0.5)
        has_gpu.cache_clear()
        assert not has_gpu()
    finally:
        has_gpu.cache_clear()


def test_a_gpu_has_the_name_that_its_driver_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_GPU_FACTS", tmp_path)
    assert hardware.gpu_name() == ""
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    assert hardware.gpu_name() == "NVIDIA H100 80GB HBM3"


def test_planning_imports_no_engine(tiny: Backbone, tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path;"
        "from benchmark.backbones import parse_weights, select;"
        "from benchmark.engines import EngineRequest, plan_engine;"
        "[plan_engine(EngineRequest(backbone=b, weights=parse_weights('random'), input_size=224, engine=None,"
        " precision=None, threads=2, cache=Path(sys.argv[1])), 500) for b in select('all')];"
        "print(json.dumps(sorted({'tensorflow', 'keras', 'openvino', 'h5py'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    ("name", "engine", "threads", "peak"),
    [
        ("MobileNet_0.25", Engine.OPENVINO, 1, 0.40e9),
        ("DenseNet121", Engine.TENSORFLOW, 1, 1.16e9),
        ("ResNet50", Engine.TENSORFLOW, 1, 2.16e9),
        ("ResNet50", Engine.TENSORFLOW, 4, 3.92e9),
        ("VGG16", Engine.TENSORFLOW, 4, 2.51e9),
        ("NASNetLarge", Engine.OPENVINO, 1, 4.04e9),
    ],
)
def test_no_process_was_seen_to_take_more_memory_than_is_planned(
    name: str, engine: Engine, threads: int, peak: float
) -> None:
    first, further = memory_bytes(select(name)[0], 224, engine)
    assert peak <= first + further * (threads - 1) <= 1.6 * peak
