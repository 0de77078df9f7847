"""Which engine is planned; the machine's own abilities are taken as they are."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.backbones import engines_of, load_weights, select
from benchmark.engines import EngineRequest, believe_gpus, hardware, memory_bytes, plan_engine
from benchmark.engines.agreement import recall_agreement
from benchmark.engines.hardware import computes_on, has_bfloat16, has_gpu
from benchmark.engines.model_cache import Agreement, ModelMeta, identity_of, model_folder, write_meta
from benchmark.machine import instruction_set
from benchmark.pipeline.machines import describe_machine
from benchmark.records import Backbone, Engine, Precision

pytestmark = pytest.mark.skipif(has_gpu(Engine.TENSORFLOW), reason="with a GPU every job goes there")


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


Probes = Callable[..., None]


@pytest.fixture
def probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Probes]:
    """Gives this machine a device file of a GPU, and engines (by name) programs that ask them for theirs."""
    device = tmp_path / "nvidia0"
    device.touch()
    monkeypatch.setattr(hardware, "_GPU_DEVICES", (device,))
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)  # which would know

    def answer(**programs: str) -> None:
        asked = {Engine(name): text for name, text in programs.items()}
        monkeypatch.setattr(hardware, "_MULTIPLY_ON_GPU", asked)
        hardware._found.clear()

    hardware._found.clear()
    yield answer
    hardware._found.clear()


def test_a_gpu_that_tensorflow_cannot_use_is_none(
    openvino_request: EngineRequest, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes(tensorflow="print('a card'); raise SystemExit(1)")
    assert not has_gpu(Engine.TENSORFLOW)
    engine, precision = plan_engine(automatic(openvino_request), 1_000_000)
    assert engine is Engine.OPENVINO
    assert precision is (Precision.BFLOAT16 if has_bfloat16() else Precision.FLOAT32)
    probes(tensorflow="print('a card')")
    usable = plan_engine(automatic(openvino_request), 1_000_000)
    assert usable == (Engine.TENSORFLOW, Precision.BFLOAT16)
    monkeypatch.setattr(hardware, "_PATIENCE_SECONDS", 0.5)
    probes(tensorflow="import time; time.sleep(60)")
    assert not has_gpu(Engine.TENSORFLOW)


def test_a_gpu_has_the_name_that_its_engine_gives(probes: Probes) -> None:
    """Which card is the first depends on what an engine is let see, and some systems list none."""
    probes(tensorflow="print('hello'); print('NVIDIA  A100\\x1b ')", torch="print('')")
    assert computes_on(Engine.TENSORFLOW) == "GPU NVIDIA A100"
    assert computes_on(Engine.TORCH) == "GPU unnamed"
    assert computes_on(Engine.OPENVINO) == instruction_set()
    probes(tensorflow="raise SystemExit(1)")
    assert computes_on(Engine.TENSORFLOW) == computes_on(Engine.TORCH) == instruction_set()


def test_tensorflow_that_is_here_says_what_it_lets_this_process_see(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes(tensorflow="raise SystemExit(1)")
    cards = ["an A100", "an H100"]
    config = SimpleNamespace(
        list_physical_devices=lambda _: cards,
        get_visible_devices=lambda _: cards[1:],
        experimental=SimpleNamespace(get_device_details=lambda card: {"device_name": card}),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))  # type: ignore[arg-type]
    assert computes_on(Engine.TENSORFLOW) == "GPU an H100"
    hardware._found.clear()
    config.get_visible_devices = lambda _: []
    assert computes_on(Engine.TENSORFLOW) == instruction_set()


def test_what_another_process_found_is_believed(probes: Probes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that asked for itself would be answered otherwise while others fill the card."""
    probes(torch="print('a card')")
    config = SimpleNamespace(
        get_visible_devices=lambda _: ["a card"],
        experimental=SimpleNamespace(get_device_details=lambda card: {"device_name": card}),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))  # type: ignore[arg-type]
    believe_gpus({Engine.TENSORFLOW: "", Engine.TORCH: ""})
    assert computes_on(Engine.TENSORFLOW) == computes_on(Engine.TORCH) == instruction_set()
    believe_gpus({Engine.TORCH: "another"})
    assert computes_on(Engine.TORCH) == "GPU another"


def test_on_windows_the_driver_tells_of_a_gpu(
    probes: Probes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_GPU_DEVICES", ())
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    probes(tensorflow="print('a card')", torch="print('a card')")
    assert not has_gpu(Engine.TORCH)
    (tmp_path / "System32").mkdir()
    (tmp_path / "System32" / "nvcuda.dll").touch()
    hardware._found.clear()
    assert has_gpu(Engine.TORCH)
    assert not has_gpu(Engine.TENSORFLOW), "it has none there"


def test_engines_are_asked_at_once_when_a_machine_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(len(Engine), timeout=60)

    def asked(engine: Engine) -> str:
        together.wait()
        return f"a card of {engine}"

    monkeypatch.setattr("benchmark.pipeline.machines.gpu_name", asked)
    assert dict(describe_machine())["torch GPU"] == "a card of torch"


def test_a_machine_that_resizes_otherwise_in_sources_own_ways_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = describe_machine()
    monkeypatch.setattr("benchmark.data.fingerprint._native_digest", lambda: "0" * 16)
    assert describe_machine() != here


def test_each_engine_is_asked_for_its_own_gpu(
    openvino_request: EngineRequest, probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes(torch="print('a card')")
    facts = dict(describe_machine())
    assert (facts["torch GPU"], facts["tensorflow GPU"]) == ("a card", "none")
    asked: list[object] = []
    monkeypatch.setattr(
        "benchmark.engines.agreement._memo",
        lambda _: SimpleNamespace(recall=lambda _, identity: asked.append(identity["device"])),
    )
    request = automatic(openvino_request, backbone=select("timm:resnet18.a1_in1k")[0])
    recall_agreement(request, "0" * 64, Precision.BFLOAT16)
    recall_agreement(automatic(openvino_request), "0" * 64, Precision.BFLOAT16)
    assert asked == ["GPU a card", instruction_set()]


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
