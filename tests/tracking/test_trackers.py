"""Trackers: one of a package that docs/extending.md shows, one that fails, and MLflow on a real server."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from benchmark.data import load_images
from benchmark.errors import ArgumentError
from benchmark.options import RankOptions
from benchmark.pipeline.tracking import Tracking, open_trackers, tracking
from benchmark.tracking import TRACKERS, EmbeddingTracker, Tracker

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """What ``pip install`` leaves of the package of docs/extending.md."""
    page = (ROOT / "docs" / "extending.md").read_text().split("\n## A tracker\n")[1]
    code, project = (re.findall(rf"```{kind}\n(.*?)```", page, re.S)[0] for kind in ("python", "toml"))
    group, points = next(iter(tomllib.loads(project)["project"]["entry-points"].items()))
    facts = tmp_path / "site" / "json_lines_tracker-0.1.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: json_lines_tracker\nVersion: 0.1\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (facts / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    (facts.parent / "json_lines_tracker.py").write_text(code)
    return facts.parent


def backbones(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "demo"
    assert backbones("demo", folder).returncode == 0
    return folder


def small(photos: Path, place: Path) -> tuple[object, ...]:
    return (photos, "--weights", "random", "--results", place / "results", "--cache", photos.parent / "cache")


TINY = ("--backbones", "MobileNet_0.25", "--size", 32, "--groups", "none", "--limit", 60)


def test_a_package_of_somebody_else_adds_a_tracker(photos: Path, shown: Path, tmp_path: Path) -> None:
    site = {"PYTHONPATH": str(shown), "RUNS_FILE": str(tmp_path / "runs.jsonl")}
    ranked = backbones("rank", *small(photos, tmp_path), *TINY, "--track", "json-lines", **site)
    assert ranked.returncode == 0, ranked.stderr
    begin, score, *files, end = map(json.loads, (tmp_path / "runs.jsonl").read_text().splitlines())
    assert (begin["event"], begin["dataset"], begin["command"]) == ("begin", "demo", "rank")
    assert (score["event"], score["backbone"]) == ("score", "MobileNet_0.25")
    assert 0 <= score["val_f1_low"] <= score["val_f1"] <= score["val_f1_high"] <= 1
    assert {Path(one["path"]).name for one in files} >= {"leaderboard.csv", "leaderboard.html", "plots"}
    assert end == {"event": "end", "failed": False}

    (tmp_path / "runs.jsonl").unlink()
    tuned = backbones(
        *(
            "finetune",
            *small(photos, tmp_path),
            "--winner",
            "MobileNet_0.25",
            "--image-size",
            32,
            "--limit",
            60,
        ),
        *("--recipe", "two-phase-f1", "--epochs", "2,1", "--track", "json-lines"),
        **site,
    )
    assert tuned.returncode == 0, tuned.stderr
    told = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [one["event"] for one in told] == ["begin", "epoch", "epoch", "epoch", "score", "file", "end"]
    assert [one["epoch"] for one in told[1:4]] == [1, 2, 3]
    assert Path(told[-2]["path"], "manifest.json").exists()


class Breaks:
    """A tracker that takes one score."""

    told: list[str]

    def __init__(self) -> None:
        self.told = []

    def begin(self, dataset: str, facts: Mapping[str, str | int | float]) -> None:
        self.told.append(f"begin {dataset}")

    def epoch(self, backbone: str, row: Mapping[str, float]) -> None:
        raise OSError("the server is gone\x1b[31m: https://bob:hunter2@mlflow.corp/" + "x" * 300)

    def score(self, backbone: str, scores: Mapping[str, float]) -> None:
        self.told.append(f"score {backbone}")

    def file(self, path: Path) -> None:
        self.told.append("file")

    def end(self, *, failed: bool) -> None:
        self.told.append(f"end {failed}")


class Hears:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def started(self, task: str, total: int) -> None: ...
    def advanced(self, task: str, done: int, note: str = "") -> None: ...
    def finished(self, task: str, note: str = "") -> None: ...
    def message(self, text: str) -> None:
        self.messages.append(text)


def test_a_tracker_that_fails_is_a_note_and_told_nothing_more(photos: Path, tmp_path: Path) -> None:
    breaks, sound, hears = Breaks(), Breaks(), Hears()
    assert isinstance(breaks, Tracker)
    options, images = RankOptions(data=photos), load_images(photos, cache=tmp_path)
    with tracking({"breaks": breaks}, hears, "rank", options, images) as told:
        told.score("A", {"val_f1": 0.5})
        told.epoch("A", {"epoch": 1})
        told.score("B", {"val_f1": 0.5})
    assert breaks.told == ["begin demo", "score A"]
    (message,) = hears.messages
    said = r"Tracking by breaks stopped (OSError: the server is gone\x1b[31m: https://***@mlflow.corp/xx"
    assert message.startswith(said)
    assert message.endswith("x); the run goes on.")
    assert len(message) < 300
    with pytest.raises(RuntimeError), tracking({"sound": sound}, hears, "rank", options, images):
        raise RuntimeError("the run itself")
    assert sound.told == ["begin demo", "end True"]
    Tracking({}, hears).score("A", {})


def test_an_unknown_tracker_is_told_before_any_work(photos: Path, tmp_path: Path) -> None:
    done = backbones("rank", *small(photos, tmp_path), "--track", "mlfow")
    assert done.returncode == 2
    assert "unknown tracker 'mlfow'" in done.stderr
    assert "mlflow" in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", TRACKERS.own)
def test_without_its_package_a_tracker_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArgumentError, match=r"not installed.*pip install"):
        open_trackers([name])


def test_a_store_of_mlflow_that_cannot_be_opened_is_a_note(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client:
        def __init__(self) -> None:
            raise ImportError("No module named 'sqlalchemy'")

    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    hears, options, images = Hears(), RankOptions(data=photos), load_images(photos, cache=tmp_path)
    with tracking(open_trackers(["mlflow"]), hears, "rank", options, images) as told:
        told.score("A", {"val_f1": 0.5})
    assert len(hears.messages) == 1
    assert hears.messages[0].startswith("Tracking by mlflow stopped (ImportError: No module")


@pytest.mark.parametrize("dataset", ["wände", "w" * 200])
def test_weights_and_biases_gets_names_that_it_takes(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    fake = SimpleNamespace(
        Settings=dict,
        init=lambda **_: SimpleNamespace(id="a1b2c3d4"),
        Artifact=lambda name, **_: names.append(name),
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    open_trackers(["wandb"])["wandb"].begin(dataset, {})
    assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,128}", names[0])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on loopback; BACKBONES_MLFLOW names the program where it is not on the PATH."""
    pytest.importorskip("mlflow", exc_type=ImportError)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = os.environ.get("BACKBONES_MLFLOW", "mlflow")
    try:
        process = subprocess.Popen(
            [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            cwd=tmp_path,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        pytest.skip("the MLflow server is not installed")
    try:
        for _ in range(240):
            time.sleep(0.5)
            try:
                with urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    if answer.status == 200:
                        break
            except (URLError, ConnectionError):
                continue
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow itself
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow itself
def test_mlflow_gets_a_run_with_figures_and_files(server: str, photos: Path, tmp_path: Path) -> None:
    done = backbones("rank", *small(photos, tmp_path), *TINY, "--track", "mlflow", MLFLOW_TRACKING_URI=server)
    assert done.returncode == 0, done.stderr
    assert "Tracking by" not in done.stderr
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server)
    (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["command"] == "rank"
    assert 0 <= run.data.metrics["MobileNet_0.25/val_f1"] <= 1
    assert {one.path for one in client.list_artifacts(run.info.run_id)} >= {"leaderboard.html", "plots"}


_PROJECTOR = """
import json, sys
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.util.tensor_util import make_ndarray
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client, EnvironBuilder
from werkzeug.wrappers import Request

logdir = sys.argv[1]
runs = EventMultiplexer()
runs.AddRunsFromDirectory(logdir)
runs.Reload()
plugin = ProjectorPlugin(TBContext(logdir=logdir, data_provider=MultiplexerDataProvider(runs, logdir)))
apps = plugin.get_plugin_apps()
ask = lambda route, **words: Client(apps[route]).get("/", query_string=words)
found = {"runs": ask("/runs").get_json(), "scalars": {}}
for run, tags in runs.Runs().items():
    last = {tag: make_ndarray(runs.Tensors(run, tag)[-1].tensor_proto) for tag in tags["tensors"]}
    found["text"] = last.pop("run").item().decode()
    found["scalars"] |= {tag: value.item() for tag, value in last.items()}
    found["config"] = ask("/info", run=run).get_json()["embeddings"]
    name = found["config"][0]["tensorName"]
    found["bytes"] = len(ask("/tensor", run=run, name=name).data)
    found["metadata"] = ask("/metadata", run=run, name=name).data.decode()
    sprite = ask("/sprite_image", run=run, name=name)
    found["sprite"] = [sprite.status_code, sprite.mimetype, len(sprite.data)]
print(json.dumps(found))
"""


def projector_of(logdir: Path) -> Any:  # noqa: ANN401 - what was printed as JSON
    """What TensorBoard itself finds in a folder."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", "-c", _PROJECTOR, str(logdir)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_tensorboard_projects_the_best_backbones_embeddings(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    place = {"TENSORBOARD_LOGDIR": str(tmp_path / "logs")}
    done = backbones("rank", *small(photos, tmp_path), *TINY, "--track", "tensorboard", **place)
    assert done.returncode == 0, done.stderr
    assert "Tracking by" not in done.stderr
    found = projector_of(tmp_path / "logs")
    (run,) = found["runs"]
    assert run.startswith("demo/rank-")
    assert 0 <= found["scalars"]["MobileNet_0.25/val_f1"] <= 1
    assert "| command | rank |" in found["text"]
    (config,) = found["config"]
    header, *rows = [line.split("\t") for line in found["metadata"].splitlines()]
    images, dim = config["tensorShape"]
    assert (images, dim) == (len(rows), 256)
    assert found["bytes"] == 4 * images * dim
    assert header == ["label", "part", "path"]
    assert all((photos / path).is_file() and Path(path).parent.name == label for label, _, path in rows)
    assert len({label for label, *_ in rows}) == 2
    status, kind, size = found["sprite"]
    assert (status, kind) == (200, "image/jpeg")
    assert 1000 < size < 2e6


def test_the_projector_reads_hostile_names_and_every_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGDIR", str(tmp_path / "logs"))
    tracker = open_trackers(["tensorboard"])["tensorboard"]
    assert isinstance(tracker, EmbeddingTracker)
    tracker.begin("../../outside", {"command": "rank"})
    tracker.epoch("A", {"epoch": 3, "val_f1": 0.5, "val_loss": float("nan")})
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    labels = ["a\tb", "new\nline", "\u202eturned", "\udcff", "é"]
    pictures = np.full((5, 8, 8, 3), 200, np.uint8)
    tracker.embeddings('quo"te\n', vectors, {"label": labels, "path": ["x"] * 5}, pictures)
    tracker.end(failed=False)
    assert [one.name for one in tmp_path.iterdir()] == ["logs"]
    found = projector_of(tmp_path / "logs")
    (config,) = found["config"]
    assert config["tensorName"] == 'quo"te\n'
    rows = [line.split("\t") for line in found["metadata"].splitlines()]
    assert [row[0] for row in rows[1:]] == ["a\\tb", "new\\nline", "\\u202eturned", "\\udcff", "é"]
    assert found["scalars"] == {"A/val_f1": 0.5}
    (stored,) = (tmp_path / "logs").glob("*/*/vectors.tsv")
    assert np.loadtxt(stored) == pytest.approx(vectors, rel=1e-5)
    sprite = np.asarray(Image.open(stored.with_name("sprite.jpg")).convert("L"))
    assert sprite.shape == (24, 24), "three by three pictures of eight pixels"
    shown = sprite.reshape(3, 8, 3, 8).mean((1, 3)).reshape(-1)
    assert shown.tolist() == pytest.approx([200] * 5 + [0] * 4, abs=3)


_READ = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2 as pb

def records(data, at=7, whole=b""):  # LevelDB's log: blocks of 32 KiB, pieces with a header of 7 bytes
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield pb.Record.FromString(whole)
            whole = b""

for record in records(open(sys.argv[1], "rb").read()):
    kind = record.WhichOneof("record_type")
    if kind == "run":
        print(json.dumps([kind, record.run.project, {u.key: u.value_json for u in record.run.config.update}]))
    if kind == "summary":
        print(json.dumps([kind, {u.key: u.value_json for u in record.summary.update if u.key}]))
    if kind == "artifact":
        print(json.dumps([kind, [entry.path for entry in record.artifact.manifest.contents]]))
    if kind == "exit":
        print(json.dumps([kind, record.exit.exit_code]))
"""


def test_weights_and_biases_keeps_a_run_on_this_machine(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    alone = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    words = ["rank", *small(photos, tmp_path), *TINY, "--track", "wandb"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *map(str, words)],
        env={**alone, "TF_CPP_MIN_LOG_LEVEL": "3", "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "Tracking" not in done.stderr
    (stored,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    told = subprocess.run([sys.executable, "-c", _READ, stored], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in told.stdout.splitlines()]
    run = next(one for one in found if one[0] == "run")
    assert run[1] == "demo"
    assert json.loads(run[2]["command"]) == "rank"
    summary = {key: value for one in found if one[0] == "summary" for key, value in one[1].items()}
    assert 0 <= float(summary["MobileNet_0.25/val_f1"]) <= 1
    assert not [value for value in summary.values() if "nan" in value.lower()]
    (files,) = (one[1] for one in found if one[0] == "artifact")
    assert {"leaderboard.csv", "leaderboard.html"} <= set(files)
    assert found[-1] == ["exit", 0]
