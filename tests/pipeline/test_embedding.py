"""Filling the cache: what other runs, engines, small disks and Ctrl-C do to it, with tiny real networks."""

from __future__ import annotations

import itertools
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.data import load_images
from benchmark.data.decode import READS_AVIF
from benchmark.embeddings import EmbeddingStore
from benchmark.engines import FrozenBackbone, Speed, hardware
from benchmark.execution import LocalRunner
from benchmark.execution.runner import dead
from benchmark.pipeline import Embedded, EmbedRequest, Plan, RankRequest, embed, measurements, pixels, tasks
from benchmark.pipeline.display import BOARD
from benchmark.pipeline.embedding import embed_images
from benchmark.pipeline.measurements import Measurement, add_measurement, load_measurement
from benchmark.pipeline.planning import plan_key
from benchmark.pipeline.subsets import take_rows
from benchmark.records import Engine, ImageSet, Precision, Silent

Make = Callable[..., RankRequest]
FIRST_WINDOW = 25


class Notebook(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.totals: list[tuple[str, int]] = []
        self.shares: list[int] = []
        self.done: list[int] = []
        self.finishes: list[str] = []
        self.messages: list[str] = []

    def started(self, task: str, total: int) -> None:
        self.totals.append((task, total))

    def advanced(self, task: str, done: int, note: str = "") -> None:
        if task == BOARD:
            self.shares.append(int(note.partition(" %")[0]))
            self.done.append(done)

    def finished(self, task: str, note: str = "") -> None:
        self.finishes.append(task)

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture(scope="module")
def pair(tiny: ModuleType) -> tuple[Any, Any]:
    return tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)


@pytest.fixture
def request_of(request_for: Make, photos: Path) -> Callable[..., EmbedRequest]:
    """A request for some backbones that runs in this process, in TensorFlow."""

    def make(*backbones: Any, **changes: Any) -> EmbedRequest:  # noqa: ANN401
        return request_for(photos, *backbones).but(engine=Engine.TENSORFLOW, **changes)

    return make


def images_of(request: EmbedRequest) -> ImageSet:
    return load_images(request.options.data, cache=request.options.cache, options=request.options)


def test_twelve_bits_reach_the_network_and_the_key(
    request_for: Make, pair: tuple[Any, Any], tmp_path: Path
) -> None:
    """12-bit data are embedded as the same pictures scaled to 16 bits are, under a key of their own."""
    found = {}
    for name, factor in (("twelve", 1), ("sixteen", 16)):
        for number in range(24):
            values = np.random.default_rng(number).integers(0, 256, (24, 24)) * 16 + number // 2
            path = tmp_path / name / "ab"[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            # Multiples of 257 and 16: both depths round to the same 8 bits.
            Image.fromarray((values // 16 * (257 if factor == 16 else 4095 / 255)).astype(np.uint16)).save(
                path
            )
        request = request_for(tmp_path / name, pair[0]).but(engine=Engine.TENSORFLOW)
        done = embed(request)
        (plan,) = done.plans
        assert plan.key is not None
        images = images_of(request)
        rows = EmbeddingStore(request.options.cache).read(plan.key, images.image_ids).features
        order = np.argsort([Path(one).name for one in images.paths])
        found[name] = (images.bit_depth, plan.key.decoder, rows[order])
    assert (found["twelve"][0], found["sixteen"][0]) == (12, 16)
    assert found["twelve"][1] == found["sixteen"][1] + "-12bit"
    np.testing.assert_allclose(found["twelve"][2], found["sixteen"][2], atol=1e-4)


@pytest.mark.skipif(not READS_AVIF, reason="this Pillow reads no AVIF")
def test_avif_pictures_have_their_decoder_in_the_key(
    request_for: Make, pair: tuple[Any, Any], tmp_path: Path
) -> None:
    keys = {}
    for ending in ("png", "avif"):
        for number in range(12):
            pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3)).astype(np.uint8)
            path = tmp_path / ending / "ab"[number % 2] / f"{number:02}.{ending if number else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        request = request_for(tmp_path / ending, pair[0]).but(engine=Engine.TENSORFLOW)
        (plan,) = embed(request).plans
        assert plan.key is not None
        keys[ending] = plan.key.decoder
    assert re.fullmatch(rf"{keys['png']}-avif-[0-9a-f]{{16}}", keys["avif"])
    images = images_of(request)
    read = request.as_read(images)
    few = take_rows(images, np.array([[*images.paths].index("a/00.png")]))
    assert read.as_read(few).formats == read.formats == {"avif"}


def folder_of(request: EmbedRequest, plan: Plan) -> Path:
    assert plan.key is not None
    return EmbeddingStore(request.options.cache).folder(plan.key)


def lacking(request: EmbedRequest, done: Embedded) -> list[int]:
    """How many rows each plan's key really lacks."""
    ids, store = images_of(request).image_ids, EmbeddingStore(request.options.cache)
    return [len(store.missing(plan.key, ids)) for plan in done.plans if plan.key]


# Rows that went away, keys that became others ------------------------------------------------------


def test_embeddings_that_another_run_removed_fail_their_backbone_alone(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any]
) -> None:
    request = request_of(*pair)

    class Evicting(Silent):
        """A run beside this one, whose limit of the cache takes a finished key away."""

        def finished(self, task: str, note: str = "") -> None:
            if task == BOARD:
                (folder,) = request.options.cache.glob("Tiny8-*")
                shutil.rmtree(folder)

    done = embed_images(request, images_of(request), Evicting())
    assert [plan.backbone.name for plan in done.embedded] == ["Tiny16"]
    (stopped,) = done.stopped
    assert stopped.backbone == "Tiny8"
    assert "went away" in stopped.reason
    assert "rows are missing" in stopped.reason


def test_where_the_precision_falls_back_the_rest_is_embedded_too(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(pair[0])
    images = images_of(request)
    (plan,) = embed_images(request, images).plans
    assert plan.key is not None
    hold_in_bfloat16(request, plan, images.image_ids[10:])
    shutil.rmtree(folder_of(request, plan))
    opened = tasks.open_engine

    def disagreeing(wanted: Any, *, sample: Any) -> Any:  # noqa: ANN401
        return opened(replace(wanted, precision=Precision.FLOAT32), sample=sample)

    monkeypatch.setattr(tasks, "open_engine", disagreeing)
    done = embed_images(request, images)
    assert done.plans[0].precision is Precision.FLOAT32
    assert done.plans[0].is_cached
    assert lacking(request, done) == [0]
    assert done.images_embedded == {"Tiny8": 60}


def hold_in_bfloat16(request: EmbedRequest, plan: Plan, ids: tuple[str, ...]) -> None:
    """Put some rows under the bfloat16 key of a plan."""
    assert plan.key is not None
    key = plan_key(request, replace(plan, precision=Precision.BFLOAT16), plan.key.weights_sha256)
    with EmbeddingStore(request.options.cache).writer(key, 8) as writer:
        writer.add(np.array([one.encode() for one in ids], "S64"), np.ones((len(ids), 8), np.float32))


def test_an_engine_that_never_keeps_its_word_fails_its_backbone(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(pair[0])
    images = images_of(request)
    (plan,) = embed_images(request, images).plans
    assert plan.key is not None
    hold_in_bfloat16(request, plan, images.image_ids[10:])
    shutil.rmtree(folder_of(request, plan))
    precisions = itertools.cycle([Precision.FLOAT32, Precision.BFLOAT16])

    def fickle(task: Any, _: int) -> dict[str, Any]:  # noqa: ANN401
        return {"key": replace(plan.key, precision=next(precisions)), "images": 0, "notes": ()}

    monkeypatch.setattr("benchmark.pipeline.embedding.embed_task", fickle)
    (stopped,) = embed_images(request, images).stopped
    assert "another arithmetic each time" in stopped.reason


def test_the_limit_of_the_cache_is_left_to_the_last_call_of_a_job(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any]
) -> None:
    request = request_of(*pair, cache_limit_gb=1e-9)
    images = images_of(request)
    first = embed_images(replace(request, backbones=pair[:1]), images, planned_images=60)
    embed_images(replace(request, backbones=pair[1:]), images, planned_images=60)
    assert lacking(request, first) == [0]
    both = embed_images(request, images)
    assert both.images_embedded == {}
    assert lacking(request, both) == [0, 0]
    embed_images(replace(request, backbones=pair[1:]), images)
    assert lacking(request, both) == [60, 0]


# Windows of images ---------------------------------------------------------------------------------


def test_every_window_counts_its_own_images(
    request_of: Callable[..., EmbedRequest],
    pair: tuple[Any, Any],
    tiny: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = tasks.open_engine

    def remarking(wanted: Any, *, sample: Any) -> Any:  # noqa: ANN401
        frozen = opened(wanted, sample=sample)
        frozen.notes = ("a remark", *frozen.notes)
        return frozen

    monkeypatch.setattr(tasks, "open_engine", remarking)
    request = replace(request_of(*pair), buffer_bytes=FIRST_WINDOW * tiny.SIZE**2 * 3)
    images, told = images_of(request), Notebook()
    done = embed_images(request, images, told)
    assert [total for task, total in told.totals if task == "Tiny8"] == [25, 25, 10]
    assert [total for task, total in told.totals if task == "Tiny16"] == [25, 25, 10]
    assert [total for task, total in told.totals if task == BOARD] == [2]
    assert told.done == sorted(told.done)
    assert told.done[-1] == 2
    assert told.finishes.count(BOARD) == 1
    assert told.shares == sorted(told.shares)
    assert told.shares[-1] == 100
    assert done.images_embedded == {"Tiny8": 60, "Tiny16": 60}
    assert done.notes == {"Tiny8": ("a remark",), "Tiny16": ("a remark",)}
    assert lacking(request, done) == [0, 0]


def test_windows_that_concern_a_backbone_not_at_all_do_not_open_it(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], tiny: ModuleType
) -> None:
    request = request_of(pair[0])
    images = images_of(request)
    embed_images(request, take_rows(images, range(30)))
    both = replace(request, backbones=pair, buffer_bytes=FIRST_WINDOW * tiny.SIZE**2 * 3)
    told = Notebook()
    done = embed_images(both, images, told)
    assert [total for task, total in told.totals if task == "Tiny8"] == [20, 10]
    assert [total for task, total in told.totals if task == "Tiny16"] == [25, 25, 10]
    assert done.images_embedded == {"Tiny8": 30, "Tiny16": 60}


def test_windows_after_every_backbone_has_failed_are_left_out(
    request_of: Callable[..., EmbedRequest], tiny: ModuleType
) -> None:
    broken = tiny.tiny_backbone("Broken", build=tiny.explode)
    request = replace(request_of(broken), buffer_bytes=FIRST_WINDOW * tiny.SIZE**2 * 3)
    told = Notebook()
    (stopped,) = embed_images(request, images_of(request), told).stopped
    assert "no such architecture" in stopped.reason
    assert told.totals == [(BOARD, 1), ("Broken", 25)]
    assert told.finishes[-1] == BOARD


def test_little_room_makes_a_small_buffer(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(*pair)
    rooms = {8 * 2**30: 2 * 2**30, 10**15: request.buffer_bytes, 0: 64 * 2**20}
    for free, wanted in rooms.items():
        monkeypatch.setattr(pixels, "free_bytes", lambda folder, free=free: free)
        assert pixels.buffer_bytes(request) == wanted
    assert pixels.buffer_bytes(replace(request, buffer_bytes=7)) == 7


# Stopping ------------------------------------------------------------------------------------------


def test_an_interrupted_run_stops_its_decoder(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.data import pixel_buffer as decoding

    begun: list[float] = []
    decode = decoding.decode

    def slowly(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        begun.append(time.monotonic())
        time.sleep(0.1)
        return decode(*arguments, **named)

    request = request_of(*pair)
    images = images_of(request)
    monkeypatch.setattr(decoding, "decode", slowly)
    everything = np.arange(len(images), dtype=np.int64)
    held = pixels.decoded(request, images, everything, 24, "bilinear")
    buffer = held.__enter__()
    buffer.rows(0, 1)
    assert not held.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    seen = len(begun)
    assert seen < len(images) // 2
    assert not [one for one in threading.enumerate() if one.name.startswith(("decode", "images"))]
    time.sleep(0.3)
    assert len(begun) == seen
    assert not buffer.folder.exists()


# Threads and measurements --------------------------------------------------------------------------


def test_a_measurement_that_cannot_be_kept_costs_no_embedding(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any]
) -> None:
    request = request_of(pair[0])
    images = images_of(request)
    (request.options.cache / "measured").write_text("no folder")
    done = embed_images(request.but(max_latency_ms=1e9), images)
    assert not done.stopped
    assert lacking(request, done) == [0]
    assert "latency" in done.notes["Tiny8"][-1]


def test_a_latency_that_failed_to_be_measured_costs_no_embedding(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: FrozenBackbone, sample: Any) -> Any:  # noqa: ANN401
        raise RuntimeError("no batch of one")

    monkeypatch.setattr(FrozenBackbone, "speed", broken)
    request = request_of(pair[0])
    done = embed_images(request, images_of(request))
    assert not done.stopped
    assert done.notes["Tiny8"] == ("its latency could not be measured: no batch of one",)


def test_what_was_never_timed_is_timed_for_a_latency_limit_only(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any]
) -> None:
    request = request_of(pair[0])
    images = images_of(request)
    (plan,) = embed_images(request, images).plans
    assert plan.key is not None
    shutil.rmtree(request.options.cache / "measured")  # as where the process was killed just before
    embed_images(request, images)
    assert np.isnan(load_measurement(request.options.cache, plan.key).latency_ms)
    done = embed_images(request.but(max_latency_ms=1e9), images)
    assert done.images_embedded == {}
    assert done.plans == (plan,)
    assert done.plans[0].is_cached
    assert load_measurement(request.options.cache, plan.key).latency_ms > 0
    assert not list((request.options.cache / "scratch").glob("*"))


SHAKY = Speed(9.0, 90.0, 100.0, noisy=True)
CALM = Speed(8.0, 9.0, 125.0)


def timed_as(monkeypatch: pytest.MonkeyPatch, *speeds: Speed) -> list[int]:
    """Every timing of a backbone comes to the next of these speeds; which were asked for."""
    seen: list[int] = []

    def speed(self: FrozenBackbone, sample: Any) -> Speed:  # noqa: ANN401
        seen.append(len(seen))
        return speeds[min(len(seen), len(speeds)) - 1]

    monkeypatch.setattr(FrozenBackbone, "speed", speed)
    return seen


def test_what_was_noisy_beside_others_is_timed_again_alone(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(pair[0])
    images = images_of(request)
    seen = timed_as(monkeypatch, SHAKY, CALM)
    (plan,) = embed_images(request, images).plans
    assert plan.key is not None
    known = load_measurement(request.options.cache, plan.key)
    assert (known.latency_ms, known.images_per_second, known.noisy) == (8.0, 125.0, False)
    assert (known.images, known.seconds_for(250)) == (60, 2.0)
    assert len(seen) == 2
    embed_images(request.but(max_latency_ms=1e9), images)
    assert len(seen) == 2, "a steady figure is not taken again"


def test_images_are_decoded_once_for_all_that_is_timed_alone_at_their_size(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, own = [], tasks.ImageFiles.decoded

    def counted(self: tasks.ImageFiles, *told: Any) -> Any:  # noqa: ANN401
        decoded.extend(self.paths)
        return own(self, *told)

    monkeypatch.setattr(tasks.ImageFiles, "decoded", counted)
    seen = timed_as(monkeypatch, SHAKY, SHAKY, CALM)
    request = request_of(*pair)
    plans = embed_images(request, images_of(request)).plans
    assert len(seen) == 4
    assert not any(load_measurement(request.options.cache, plan.key).noisy for plan in plans if plan.key)
    assert len(decoded) == len(set(decoded)) == 16


class TimesOneAlone(LocalRunner):
    """A process that is to time several backbones dies."""

    def run(self, function: Any, calls: Any, **how: Any) -> Any:  # noqa: ANN401
        for place, call in enumerate(calls):
            if how.get("alone") and len(call.argument.wanted) > 1:
                yield place, dead()
            else:
                yield from ((place, told) for _, told in LocalRunner.run(self, function, [call], **how))


def test_where_timing_several_kills_the_process_each_is_timed_alone(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed_as(monkeypatch, SHAKY, SHAKY, CALM)
    request = request_of(*pair).executed_by(TimesOneAlone(jobs=1))
    done = embed_images(request, images_of(request))
    keys = [plan.key for plan in done.plans if plan.key]
    assert len(keys) == 2
    assert not any(load_measurement(request.options.cache, key).noisy for key in keys)
    assert not any("died" in note for notes in done.notes.values() for note in notes)


def test_what_stays_noisy_is_kept_as_such_and_no_limit_acts_on_it(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(pair[0])
    images = images_of(request)
    seen = timed_as(monkeypatch, SHAKY)
    done = embed_images(request, images)
    assert done.plans[0].key is not None
    assert load_measurement(request.options.cache, done.plans[0].key).noisy
    assert done.notes.get("Tiny8", ()) == ()
    embed_images(request, images)
    assert len(seen) == 2, "a run that embeds nothing times nothing, unless a limit asks"
    limited = embed_images(request.but(max_latency_ms=1e9), images)
    assert len(seen) == 3
    assert "noisy" in limited.notes["Tiny8"][-1]


def test_a_latency_limit_asks_for_latencies(request_for: Make, photos: Path, pair: tuple[Any, Any]) -> None:
    assert request_for(photos, *pair, max_latency_ms=9.0).measure_latency
    assert not request_for(photos, *pair).measure_latency


def test_times_of_another_machine_are_unknown_here(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(pair[0])
    (plan,) = embed_images(request, images_of(request)).plans
    assert plan.key is not None
    known = load_measurement(request.options.cache, plan.key)
    assert known.images == 60
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(measurements, "processor_name", lambda: "Abacus 9000")
        assert np.isnan(load_measurement(request.options.cache, plan.key).latency_ms)
        assert load_measurement(request.options.cache, plan.key).images == 0
    assert load_measurement(request.options.cache, plan.key) == known
    (file,) = (request.options.cache / "measured").glob("*.json")
    file.write_text(file.read_text().replace("60", "61"))
    assert load_measurement(request.options.cache, plan.key).images == 0, "changed since it was written"
    add_measurement(request.options.cache, plan.key, Measurement(latency_ms=3.0))
    assert load_measurement(request.options.cache, plan.key).latency_ms == 3.0


# A cache that cannot be written to -----------------------------------------------------------------


def test_a_complete_cache_that_takes_no_log_is_success(
    request_of: Callable[..., EmbedRequest], pair: tuple[Any, Any]
) -> None:
    request = request_of(*pair)
    embed(request)
    shutil.rmtree(request.options.cache / "runs")
    (request.options.cache / "runs").write_text("no folder")
    told = Notebook()
    done = embed(request, told)
    assert len(done.embedded) == 2
    assert done.images_embedded == {}
    assert [text.startswith("This run keeps no log") for text in told.messages] == [True]


def test_workers_compute_where_the_planning_process_found_a_gpu(
    request_for: Make, photos: Path, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that asked for itself might be answered otherwise; and only a cluster's machines are compared."""
    monkeypatch.setattr(hardware, "_found", {Engine.TENSORFLOW: "a card"})
    monkeypatch.setattr("benchmark.pipeline.embedding.describe_machine", None)
    backbones = [tiny.tiny_backbone("Tiny8", 8), tiny.tiny_backbone("Tiny16", 16)]
    request = request_for(photos, *backbones).but(
        engine=Engine.TENSORFLOW, precision=Precision.FLOAT32, jobs=2
    )
    done = embed(request)
    assert [plan.key.instructions for plan in done.plans if plan.key] == ["GPU a card"] * 2
    assert done.images_embedded == {"Tiny8": 60, "Tiny16": 60}
