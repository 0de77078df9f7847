"""The small apps of docs/phones.md see the pixels that ``predict`` sees, and say what it says."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chromium_pipe import Browser
from PIL import Image

import benchmark
from benchmark.data import resize_pixels
from benchmark.deployment import open_model, predict
from benchmark.options import PredictOptions
from benchmark.records import Resize
from benchmark.storage import sha256_file

if TYPE_CHECKING:
    from conftest import Trained

    from benchmark.deployment.export import ExportResult

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "docs" / "apps"
SHARED = ROOT / ".." / "shared"
WEB = "onnxruntime-web@1.30.0"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

HARNESS = """
import java.nio.*;
import java.nio.file.*;
import org.example.whatisit.Pixels;

class Harness {
    public static void main(String[] words) throws Exception {
        IntBuffer given = ByteBuffer.wrap(Files.readAllBytes(Path.of(words[0]))).asIntBuffer();
        int[] argb = new int[given.remaining()];
        given.get(argb);
        int width = Integer.parseInt(words[1]), height = Integer.parseInt(words[2]);
        boolean area = words[4].equals("area");
        int orientation = Integer.parseInt(words[6]);
        argb = Pixels.upright(argb, width, height, orientation);
        if (orientation > 4) {
            int other = width;
            width = height;
            height = other;
        }
        byte[] made = Pixels.resized(argb, width, height, Integer.parseInt(words[3]), area);
        Files.write(Path.of(words[5]), made);
    }
}
"""


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("javac") is None:
        pytest.skip("there is no Java compiler here")
    folder = tmp_path_factory.mktemp("classes")
    (folder / "Harness.java").write_text(HARNESS)
    sources = [str(APPS / "android" / "Pixels.java"), str(folder / "Harness.java")]
    subprocess.run(["javac", "-Xlint:all", "-Werror", "-d", str(folder), *sources], check=True)
    return folder


@pytest.mark.parametrize("resize", [Resize.BILINEAR, Resize.AREA])
@pytest.mark.parametrize("shape", [(40, 64), (301, 97), (224, 224), (1, 500)], ids=str)
def test_the_android_app_makes_the_same_pixels(
    classes: Path, tmp_path: Path, shape: tuple[int, int], resize: Resize
) -> None:
    same_pixels(classes, tmp_path, shape, resize, orientation=1)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_android_app_turns_as_exif_says(classes: Path, tmp_path: Path, orientation: int) -> None:
    same_pixels(classes, tmp_path, (40, 64), Resize.BILINEAR, orientation)


def same_pixels(
    classes: Path, tmp_path: Path, shape: tuple[int, int], resize: Resize, orientation: int
) -> None:
    pixels = np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), np.uint8)
    wide = pixels.astype(np.uint32)
    argb = 0xFF000000 | wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    (tmp_path / "argb").write_bytes(argb.astype(">u4").tobytes())
    height, width = shape
    words = [str(tmp_path / "argb"), width, height, 96, resize.value, str(tmp_path / "made"), orientation]
    subprocess.run(["java", "-cp", str(classes), "Harness", *map(str, words)], check=True)
    made = np.frombuffer((tmp_path / "made").read_bytes(), np.uint8).reshape(96, 96, 3)
    turns = {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE, 2: Image.Transpose.FLIP_LEFT_RIGHT}
    turns |= {3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    turns |= {6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    if orientation in turns:
        pixels = np.asarray(Image.fromarray(pixels).transpose(turns[orientation]))
    np.testing.assert_array_equal(made, resize_pixels(pixels, 96, resize))


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of ONNX Runtime Web, fetched for the test alone."""
    if shutil.which("npm") is None or CHROMIUM is None:
        pytest.skip("needs npm and Chromium")
    folder = tmp_path_factory.mktemp("onnxruntime-web")
    command = ["npm", "pack", WEB, "--fetch-retries=0", "--fetch-timeout=30000", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode:
        pytest.skip(f"npm could not fetch {WEB}")
    with tarfile.open(next(folder.glob("*.tgz"))) as packed:
        for name in RUNTIME:
            found = packed.extractfile(f"package/dist/{name}")
            assert found
            (folder / name).write_bytes(found.read())
    return folder


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        """Nothing."""


@pytest.fixture
def site(tmp_path: Path, runtime: Path) -> Iterator[tuple[Path, str]]:
    """The page as the documentation lays it out, still without a model, and its address."""
    folder = tmp_path / "site"
    shutil.copytree(APPS / "browser", folder)
    for name in RUNTIME:
        (folder / name).symlink_to(runtime / name)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def answers(address: str, photos: list[Path], profile: Path) -> list[Any]:
    assert CHROMIUM
    with Browser(CHROMIUM, profile) as page:
        page.open(address)
        page.wait("document.querySelector('[role=status]').textContent === 'Ready.'")
        page.run("import('./app.js').then(app => { window.classify = app.classify; })")
        found = []
        for photo in photos:
            page.choose("input", [photo])
            found.append(page.run("window.classify(document.querySelector('input').files[0])"))
        assert page.complaints == []
        assert all(request.startswith((address, "blob:", "data:")) for request in page.requests)
    return found


def assert_as_predicted(found: list[Any], export: Path, photos: list[Path]) -> None:
    wanted = predict(open_model(export), PredictOptions(model=export, images=tuple(photos)))
    np.testing.assert_allclose(
        [one["probabilities"] for one in found], [one.probabilities for one in wanted], atol=1e-3
    )
    assert [one["label"] for one in found] == [one.label for one in wanted]
    assert [one["sure"] for one in found] == [one.doubt == "" for one in wanted]


def test_the_page_says_what_predict_says(
    site: tuple[Path, str], trained: Trained, exported: dict[str, ExportResult], tmp_path: Path
) -> None:
    """Photographs of other sizes, turned by EXIF, transparent, grey, and of the training data."""
    folder, address = site
    export = exported["onnx"].folder
    for name in ("model.onnx", "deployment.json"):
        shutil.copy(export / name, folder)
    photos = sorted(trained.data.rglob("*.png"))[::80]
    first = Image.open(photos[0]).resize((150, 90), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[274] = 6
    first.save(tmp_path / "turned.jpg", quality=95, exif=turned)
    clear = first.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(first.size).point(lambda level: 255 * (level > 99)))
    clear.save(tmp_path / "transparent.png")
    first.convert("L").save(tmp_path / "grey.webp", lossless=True)
    photos += [tmp_path / name for name in ("turned.jpg", "transparent.png", "grey.webp")]
    assert_as_predicted(answers(address, photos, tmp_path / "profile"), export, photos)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("resize", ["bilinear", "area"])
def test_the_page_decides_as_predict_does(
    site: tuple[Path, str],
    trained: Trained,
    exported: dict[str, ExportResult],
    tmp_path: Path,
    task: str,
    resize: str,
) -> None:
    """A network that answers with the mean of each channel of a picture."""
    import onnx
    from onnx import TensorProto, helper

    folder, address = site
    export = tmp_path / "export"
    shutil.copytree(exported["onnx"].folder, export)
    last = helper.make_node("Softmax" if task == "multiclass" else "Sigmoid", ["logits"], ["answer"])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "middle"], ["centred"]),
        helper.make_node("ReduceMean", ["centred"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
        last,
    ]
    numbers = [helper.make_tensor("middle", 1, [1], [128.0]), helper.make_tensor("scale", 1, [1], [0.02])]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 32, 32, 3])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "means", [pixels], [answer], numbers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, export / "model.onnx")
    (export / "labels.txt").write_text("red\ngreen\nblue\n")
    facts = json.loads((export / "deployment.json").read_text())
    facts |= {"task": task, "labels": ["red", "green", "blue"], "positive": None, "resize": resize}
    facts |= {"sure_from": 0.6, "source_sha256": "", "average": "macro"}
    facts["files"] |= {name: sha256_file(export / name) for name in ("model.onnx", "labels.txt")}
    (export / "deployment.json").write_text(json.dumps(facts))
    for name in ("model.onnx", "deployment.json"):
        shutil.copy(export / name, folder)
    photos = []
    colours = [(250, 20, 20), (20, 250, 160), (90, 100, 110), (255, 255, 255), (0, 0, 0)]
    for number, colour in enumerate(colours):
        noise = np.random.default_rng(number).integers(-20, 20, (77, 130, 3))
        photos.append(tmp_path / f"{number}.png")
        Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(photos[-1])
    assert_as_predicted(answers(address, photos, tmp_path / "profile"), export, photos)


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="needs the weights in ../shared")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_real_photographs_with_a_real_network(site: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = site
    bricks = SHARED / "data" / "brick_cracks"
    places = {"cache": tmp_path / "cache", "results": tmp_path / "results"}
    name = "MobileNet_0.25"
    benchmark.rank(bricks, backbones=name, weights=SHARED / "weights", limit=100, repeats=1, **places)
    benchmark.finetune(bricks, winner=name, recipe="frozen", **places).export("onnx")
    (export,) = (tmp_path / "results").rglob("export/onnx")
    for file in ("model.onnx", "deployment.json"):
        shutil.copy(export / file, folder)
    photos = sorted(bricks.rglob("*.jpg"))[::40]
    assert_as_predicted(answers(address, photos, tmp_path / "profile"), export, photos)
