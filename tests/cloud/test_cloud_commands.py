"""Commands with a cache at a URL: the board of a local one, nothing computed twice, no secret told."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from s3_server import KEY_ID, SECRET, S3Server

import benchmark as bb
from benchmark.cli import main
from benchmark.locations import home

SMALL = ("--weights", "random", "--backbones", "MobileNet_0.25,MobileNetV3Small_0.75", "--size", "32")
QUICK = ("--repeats", "1", "--epochs", "2", "--groups", "none", "--quiet")
CLOCKED = ["images_per_second", "latency_ms", "latency_p95_ms", "noisy", "embed_seconds", "head_seconds"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos"
    assert main(["demo", str(folder), "--count", "60", "--quiet"]) == 0
    return folder


def rank(data: object, cache: object, results: Path, *more: str) -> pd.DataFrame:
    words = ["rank", str(data), *SMALL, *QUICK, "--cache", str(cache), "--results", str(results), *more]
    assert main(words) == 0
    return board(results)


def board(results: Path) -> pd.DataFrame:
    (path,) = results.glob("*/leaderboard.csv")
    return pd.read_csv(path).drop(columns=CLOCKED)


def written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_board_is_that_of_a_local_cache(s3: S3Server, photos: Path, tmp_path: Path) -> None:
    url = f"s3://bench/{tmp_path.name}"
    local = rank(photos, tmp_path / "cache", tmp_path / "local")
    pd.testing.assert_frame_equal(rank(photos, url, tmp_path / "remote"), local)
    s3.requests()
    again = rank(photos, url, tmp_path / "again")
    assert not [one for one in s3.requests() if one.startswith("PUT")]
    pd.testing.assert_frame_equal(again, local)
    # Another machine has none of it and computes nothing either.
    shutil.rmtree(home())
    other = rank(photos, url, tmp_path / "other")
    assert not [one for one in s3.requests() if one.startswith("PUT") and "/part-" in one]
    pd.testing.assert_frame_equal(other, local)


def test_a_place_that_cannot_be_reached_ends_the_run_before_it_begins(
    s3: S3Server, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["rank", str(photos), *SMALL, *QUICK, "--results", str(tmp_path), "--cache"]
    assert main([*words, "s3://nowhere/cache"]) == 1
    assert "s3://nowhere: no such bucket" in capfd.readouterr().err
    s3.fault("403", times=1000)
    assert main([*words, f"s3://bench/{tmp_path.name}"]) == 1
    assert "access is refused" in capfd.readouterr().err
    assert not list(tmp_path.rglob("leaderboard.*"))


def test_a_plan_asks_for_little(s3: S3Server, photos: Path, tmp_path: Path) -> None:
    words = ["plan", str(photos), "--weights", "random", "--cache", f"s3://bench/{tmp_path.name}", "--quiet"]
    assert main([*words, "--backbones", "MobileNet*", "--results", str(tmp_path)]) == 0
    assert len(s3.requests()) < 10


def test_no_secret_is_told(
    s3: S3Server, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", str(photos), *SMALL, "--cache", f"s3://bench/{tmp_path.name}", "--jobs", "1", "--debug"]
    assert main(words) == 0
    s3.fault("500", method="PUT", times=1000)
    assert main([*words, "--seed", "1"]) == 1
    s3.heal()
    s3.fault("403", times=1000)
    assert main([*words, "--seed", "2"]) == 1
    hidden = f"s3://{KEY_ID}:{SECRET}@bench/cache"
    assert main(["rank", str(photos), "--cache", hidden, "--results", str(tmp_path / "results")]) == 2
    assert main(["rank", hidden, "--results", str(tmp_path / "results")]) == 2
    told = capfd.readouterr()
    assert "InternalError" in told.err
    assert "access is refused" in told.err
    texts = [told.out, told.err, *(path.read_bytes().decode("latin-1") for path in written(tmp_path))]
    assert len(texts) > 10
    for secret in (KEY_ID, SECRET):
        assert not [text for text in texts if secret in text]


def test_the_memory_of_one_process(s3: S3Server, photos: Path, tmp_path: Path) -> None:
    local = rank(photos, tmp_path / "cache", tmp_path / "local", "--jobs", "1")
    there = rank(photos, "memory://bench/cache", tmp_path / "there", "--jobs", "1")
    pd.testing.assert_frame_equal(there, local)


GUARD = """
import os, sys
def watch(event, arguments):
    if event == "socket.connect" and arguments[1][0] not in {"127.0.0.1", "::1"}:
        open(os.environ["REPORT"], "a").write(f"{event} {arguments[1]}\\n")
    if event == "socket.getaddrinfo" and arguments[0] not in {"127.0.0.1", "localhost", b"127.0.0.1", "::1"}:
        open(os.environ["REPORT"], "a").write(f"{event} {arguments}\\n")
sys.addaudithook(watch)
"""


def test_pixels_from_python(s3: S3Server, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    labels, how = ["a", "b"] * 12, {"weights": "random", "size": 32, "jobs": 1}
    there = bb.embed((pixels, labels), "MobileNet_0.25", cache=f"s3://bench/{tmp_path.name}", **how)
    here = bb.embed((pixels, labels), "MobileNet_0.25", cache=tmp_path / "cache", **how)
    np.testing.assert_array_equal(there.features, here.features)


def test_nobody_else_is_asked_or_told(s3: S3Server, photos: Path, tmp_path: Path) -> None:
    """No library on the way reports to anybody."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    report = tmp_path / "report"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "guard"), "REPORT": str(report)}
    words = ["embed", str(photos), *SMALL, "--cache", f"s3://bench/{tmp_path.name}", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *words],
        cwd=Path(__file__).resolve().parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert s3.requests()
    assert not report.exists(), report.read_text()
    looks = "import socket; socket.getaddrinfo('telemetry.example', 80)"
    subprocess.run([sys.executable, "-c", looks], env=environment, capture_output=True)
    assert report.exists()


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_what_google_needs_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list", "--cache", "gs://bucket/cache"]) == 2
    assert "pip install 'gcsfs'" in capfd.readouterr().err


def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['fsspec'] = None; from benchmark.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "cache", "list", "--cache", "s3://bench/x"],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "pip install 'backbone-benchmark[cloud]'" in done.stderr


def test_looking_after_it(
    s3: S3Server, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"s3://bench/{tmp_path.name}"
    assert main(["embed", str(photos), *SMALL, "--cache", url, "--jobs", "1", "--quiet"]) == 0
    capfd.readouterr()
    assert main(["cache", "list", "--cache", url, "--format", "csv"]) == 0
    assert "MobileNet_0.25" in capfd.readouterr().out
    assert main(["cache", "verify", "--cache", url, "--quiet"]) == 0
    assert main(["cache", "clean", "--cache", url, "--backbones", "MobileNet_0.25"]) == 0
    capfd.readouterr()
    assert main(["cache", "list", "--cache", url, "--format", "csv"]) == 0
    listed = capfd.readouterr().out
    assert "MobileNetV3Small_0.75" in listed
    assert "MobileNet_0.25" not in listed
