"""``backbones serve``: a real server in a process of its own, asked over HTTP and through a browser."""

from __future__ import annotations

import base64
import http.client
import importlib.resources
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from chromium_pipe import Browser
from PIL import Image

from benchmark.deployment import open_model, predict
from benchmark.errors import ExportError
from benchmark.options import PredictOptions, ServeOptions
from benchmark.records import UInt8
from benchmark.serving.answers import Respondent

if TYPE_CHECKING:
    from conftest import Trained

pytest.importorskip("uvicorn")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PER_MINUTE = 100
MEGABYTES = 1
BYTES = "application/octet-stream"


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers)  # type: ignore[arg-type]
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        kind = answer.headers.get("content-type", "")
        return answer.status, dict(answer.headers), json.loads(text) if "json" in kind else text

    def predict(self, photograph: bytes, query: str = "") -> tuple[int, Any]:
        status, _, said = self.ask("POST", f"/predict{query}", photograph, **{"Content-Type": BYTES})
        return status, said


def start(model: Path, *words: object) -> Server:
    command = [sys.executable, "-m", "benchmark", "serve", str(model), "--port", "0", *map(str, words)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr
    seen = []
    for line in process.stderr:
        seen.append(line)
        if found := re.search(r"http://[^ ]*:(\d+)", line):
            return Server(process, int(found[1]))
    raise AssertionError("".join(seen))


@pytest.fixture(scope="module")
def server(trained: Trained) -> Iterator[Server]:
    started = start(trained.model_dir, "--per-minute", PER_MINUTE, "--max-megabytes", MEGABYTES)
    yield started
    started.process.kill()
    started.process.communicate()


@pytest.fixture
def patient(server: Server) -> Server:
    """The server, once a few photographs are allowed again: the bucket fills as time passes."""
    time.sleep(60 / PER_MINUTE * 3)
    return server


def png(pixels: UInt8) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_the_answer_is_that_of_predict(patient: Server, trained: Trained) -> None:
    paths = sorted(trained.data.rglob("*.png"))[::200]
    said = [patient.predict(path.read_bytes())[1] for path in paths]
    options = PredictOptions(model=trained.model_dir, images=tuple(paths))
    wanted = predict(open_model(trained.model_dir), options)
    assert [one["label"] for one in said] == [one.label for one in wanted]
    assert [one["doubt"] for one in said] == [one.doubt for one in wanted]
    found = [list(one["probabilities"].values()) for one in said]
    np.testing.assert_allclose(found, [one.probabilities for one in wanted], atol=1e-5)
    assert list(said[0]["probabilities"]) == ["crack", "plain"]


def test_maps_of_photographs_and_of_windows(patient: Server, tools: ModuleType) -> None:
    generator = np.random.default_rng(5)
    wall = tools.plaster(generator, 96, 128)
    tools.draw_crack(wall, (60.0, 80.0), 0.4, 16)
    photograph = png(tools.as_photo(wall))
    whole = patient.predict(photograph, "?heatmap=1")[1]
    tiled = patient.predict(photograph, "?heatmap=1&tiles=1")[1]
    for said in (whole, tiled):
        picture = Image.open(io.BytesIO(base64.b64decode(said["heatmap"])))
        assert picture.format == "PNG"
        assert picture.width >= 128
    assert tiled["label"] == "crack"


@pytest.mark.parametrize(
    ("sent", "word"),
    [(b"", "empty"), (b"\0" * 1000, ""), (b"GIF89a" + b"x" * 50, ""), (b"<svg onload='alert(1)'/>", "")],
    ids=["nothing", "zeros", "broken GIF", "SVG"],
)
def test_what_is_no_photograph_gets_a_reason(patient: Server, sent: bytes, word: str) -> None:
    status, said = patient.predict(sent)
    assert status == 200
    assert set(said) == {"error"}
    assert word in said["error"]
    assert "/tmp" not in said["error"]
    assert str(Path.home()) not in said["error"]


def test_a_picture_that_unpacks_into_a_gigabyte_is_refused_unread(patient: Server) -> None:
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    before = time.monotonic()
    status, said = patient.predict(bomb.getvalue())
    assert status == 200
    assert "pixels" in said["error"]
    assert time.monotonic() - before < 60


def test_large_files_are_refused_however_they_come(patient: Server) -> None:
    large = b"x" * (MEGABYTES * 1_000_000 + 1)
    assert patient.predict(large) == (413, {"error": "larger than 1 MB"})
    pieces = (large[start : start + 65536] for start in range(0, len(large), 65536))  # sent in chunks
    status, _, said = patient.ask("POST", "/predict", pieces, **{"Content-Type": BYTES})
    assert (status, said) == (413, {"error": "larger than 1 MB"})


def test_pages_of_other_sites_reach_nothing(patient: Server) -> None:
    """A form or a script of another site can send text and forms, but not this content type unasked."""
    photograph = png(np.zeros((8, 8, 3), np.uint8))
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded"):
        assert patient.ask("POST", "/predict", photograph, **{"Content-Type": kind})[0] == 415
    status, headers, _ = patient.ask(
        "OPTIONS", "/predict", Origin="http://evil.example", **{"Access-Control-Request-Method": "POST"}
    )
    assert status == 405
    assert not [name for name in headers if name.lower().startswith("access-control")]
    # A name of theirs that leads here (DNS rebinding) is not ours.
    assert patient.ask("GET", "/", Host="evil.example")[0] == 400
    assert patient.ask("GET", "/", Host=f"localhost:{patient.port}")[0] == 200
    assert patient.ask("GET", "/", Host=f"[::1]:{patient.port}")[0] == 200


@pytest.mark.parametrize(
    "path", ["/../server.py", "/..%2fserver.py", "/%2e%2e/server.py", "/predict", "/nothing"]
)
def test_nothing_but_the_page_is_served(server: Server, path: str) -> None:
    assert server.ask("GET", path)[0] in (404, 405)


def test_every_answer_says_what_the_page_may_do(server: Server) -> None:
    for path in ("/", "/page.js", "/about", "/nothing"):
        _, headers, _ = server.ask("GET", path)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_too_many_at_once_are_sent_away_and_the_others_answered(trained: Trained) -> None:
    started = start(trained.model_dir, "--per-minute", 1000)
    try:
        photograph = png(np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), np.uint8))
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(started.predict(photograph)[0])) for _ in range(24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(found) == {200, 503}
        assert started.predict(photograph)[0] == 200
    finally:
        started.process.kill()
        started.process.communicate()


def test_options_of_predict_hold_here_too(trained: Trained) -> None:
    started = start(trained.model_dir, "--sure-from", "1.0", "--threshold", "1.0", "--host", "127.0.0.2")
    try:
        cracked = next(trained.data.glob("crack/*.png")).read_bytes()
        connection = http.client.HTTPConnection("127.0.0.2", started.port, timeout=60)
        for query in ("", "?tiles=1"):
            connection.request("POST", f"/predict{query}", cracked, {"Content-Type": BYTES})
            said = json.loads(connection.getresponse().read())
            assert (said["label"], said["doubt"]) == ("plain", "unsure")
        connection.close()
    finally:
        started.process.kill()
        started.process.communicate()


def test_a_model_that_does_not_answer_is_not_served(trained: Trained) -> None:
    predictor = open_model(trained.model_dir)
    options = ServeOptions(model=trained.model_dir)
    Respondent(options, predictor).try_out()

    def broken(images: UInt8) -> UInt8:
        return images[:, 0, 0] * np.nan

    predictor._run = broken
    with pytest.raises(ExportError, match=r"not finite|another shape"):
        Respondent(options, predictor).try_out()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_page_waits_where_it_sends_too_many(trained: Trained, tmp_path: Path) -> None:
    assert CHROMIUM
    started = start(trained.model_dir, "--per-minute", "6")
    try:
        with Browser(CHROMIUM, tmp_path / "profile") as page:
            page.open(f"http://127.0.0.1:{started.port}/")
            page.choose("#files", sorted(trained.data.rglob("*.png"))[:8])
            page.wait("document.querySelector('.status').textContent.includes('6 photographs a minute')")
            page.wait("document.querySelectorAll('article').length === 8")
            assert page.run("document.querySelectorAll('article.failed').length") == 0
    finally:
        started.process.kill()
        started.process.communicate()


def test_too_many_a_minute_are_sent_away(trained: Trained) -> None:
    started = start(trained.model_dir, "--per-minute", 3)
    try:
        photograph = png(np.zeros((8, 8, 3), np.uint8))
        found = [started.predict(photograph)[0] for _ in range(5)]
        assert found == [200, 200, 200, 429, 429]
    finally:
        started.process.kill()
        started.process.communicate()


def test_ctrl_c_ends_it_and_a_taken_port_is_an_error(trained: Trained) -> None:
    started = start(trained.model_dir)
    command = [sys.executable, "-m", "benchmark", "serve", trained.model_dir, "--port", str(started.port)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "--port" in second.stderr
    assert "in use" in second.stderr
    os.kill(started.process.pid, signal.SIGINT)
    _, told = started.process.communicate(timeout=20)
    assert started.process.returncode == 0, told
    assert "Stopped." in told
    assert "Traceback" not in told


def test_only_this_machine_is_listened_to(server: Server) -> None:
    with socket.socket() as probe:
        probe.settimeout(1)
        others: set[str | int] = set()
        with suppress(socket.gaierror):  # a name that nobody knows
            others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        for address in others - {"127.0.0.1", "127.0.1.1"}:
            assert probe.connect_ex((str(address), server.port)) != 0


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["wide", "narrow and dark"])
def test_the_page_in_a_browser(
    patient: Server, trained: Trained, tmp_path: Path, width: int, *, dark: bool
) -> None:
    assert CHROMIUM
    bad = tmp_path / "notes.jpg"
    bad.write_text("no picture")
    files = [*sorted(trained.data.rglob("*.png"))[:: len(trained.pixels) - 1], bad]
    axe = (importlib.resources.files("axe_core_python") / "axe.min.js").read_text()
    with Browser(CHROMIUM, tmp_path / "profile", width=width, dark=dark) as page:
        page.open(f"http://127.0.0.1:{patient.port}/")
        page.wait("document.getElementById('about').textContent.includes('2 classes: crack, plain')")
        page.run("document.getElementById('heatmap').click()")
        page.choose("#files", files)
        page.wait("document.querySelectorAll('article').length === 3")
        heads = page.run("[...document.querySelectorAll('article h2')].map(head => head.textContent)")
        assert heads[0].startswith("No answer: ")
        assert heads[1:] == ["plain", "crack"]
        shown = "[...document.querySelectorAll('img:not([hidden])')].map(one => one.naturalWidth > 0)"
        page.wait(f"{shown}.every(Boolean)")
        assert page.run(f"{shown}.length") == 4
        assert page.run("document.documentElement.scrollWidth") <= width
        page.run(axe + "; 0")
        found = page.run("axe.run().then(found => found.violations.map(one => [one.id, one.impact]))")
        assert [one for one in found if one[1] in ("serious", "critical")] == []
        if kept := os.environ.get("KEEP_SCREENSHOTS"):
            picture = page.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
            (Path(kept) / f"serve-{width}.png").write_bytes(base64.b64decode(picture))
        assert page.complaints == []
        assert {re.sub(r"^(data|blob):.*", "own", one.partition("?")[0]) for one in page.requests} <= {
            "own",
            *(
                f"http://127.0.0.1:{patient.port}/{name}"
                for name in ("", "page.css", "page.js", "about", "predict")
            ),
        }
