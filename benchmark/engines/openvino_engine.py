"""The OpenVINO engine: a converted, cached model, one image or a few per request, one thread per stream.

Every request runs on a single thread with a fixed batch, so the bits of an embedding depend neither on the
number of threads nor on its neighbours. A model that is in the cache is opened without its own library.
"""

from __future__ import annotations

import contextlib
import gc
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmark.backbones import engines_of, known_weights_sha256, load_network
from benchmark.engines.agreement import LIBRARIES, compare, compared, disagreement, embed_few
from benchmark.engines.engine import EngineRequest, FrozenBackbone
from benchmark.engines.model_cache import (
    XML,
    Agreement,
    ModelMeta,
    check_files,
    identity_of,
    model_folder,
    new_folder,
    publish,
    read_meta,
    write_meta,
)
from benchmark.engines.planning import open_in
from benchmark.errors import CacheDamaged, EmbeddingError, StorageError
from benchmark.records import Engine, Float32, Precision, UInt8
from benchmark.storage import mark_used, storage_error

CompiledModel: TypeAlias = Any
InferRequest: TypeAlias = Any

BATCH_SIZE = 32
_HINTS = {Precision.FLOAT32: "f32", Precision.BFLOAT16: "bf16"}
# Small networks spend much of their time between operations: several images share that, as many as still
# fit into a core's cache. (floating-point operations per image, images per request)
_TOGETHER = ((300_000_000, 8), (2_000_000_000, 2))


class OpenVINOBackbone(FrozenBackbone):
    """A compiled OpenVINO model behind a ring of asynchronous requests."""

    engine = Engine.OPENVINO

    def __init__(
        self, request: EngineRequest, folder: Path, precision: Precision, weights_sha256: str
    ) -> None:
        self.precision = precision
        self.weights_sha256 = weights_sha256
        self.batch_size = request.batch_size or BATCH_SIZE
        self.embedding_dim = request.backbone.embedding_dim
        self._folder = folder
        self._size = request.input_size
        self._threads = max(1, request.threads)
        flops = request.backbone.flops_at(request.input_size)
        self._images = self.together = _images_per_request(flops, self.batch_size)
        self._model = self._compiled(self._images, self._threads)
        # One request more than streams: the next one waits inside OpenVINO while this side copies.
        self._requests = [self._model.create_infer_request() for _ in range(self._threads + 1)]
        self._single: InferRequest = None

    def _compiled(self, images: int, threads: int) -> CompiledModel:
        """The model for so many images at a time, with one thread for each of ``threads`` streams."""
        import openvino

        core = openvino.Core()
        model = core.read_model(self._folder / XML)
        model.reshape([images, self._size, self._size, 3])
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            # Worker processes stand side by side: pinned, all of them would take the first core.
            "ENABLE_CPU_PINNING": False,
        }
        return core.compile_model(model, "CPU", settings)

    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        """Embed batches of uint8 (B, S, S, 3), several at a time, in order; float32 (B, D) each."""
        running: deque[_Job] = deque()
        idle = list(self._requests)
        try:
            for job, images in self._jobs(batches):
                if not idle:
                    yield from _finish(running, idle)
                job.request = idle.pop()
                job.request.start_async({0: images})
                running.append(job)
            while running:
                yield from _finish(running, idle)
        finally:
            for job in running:
                job.request.wait()

    def _jobs(self, batches: Iterable[UInt8]) -> Iterator[tuple[_Job, UInt8]]:
        for batch in batches:
            features = np.empty((len(batch), self.embedding_dim), np.float32)
            for start in range(0, len(batch), self._images):
                stop = start + self._images
                whole = features if stop >= len(batch) else None
                yield _Job(features[start:stop], whole), np.ascontiguousarray(batch[start:stop])

    def embed_one(self, image: UInt8) -> Float32:
        """The embedding of one image alone, on one core."""
        if self._single is None:
            alone = self._requests[0] if self._images == 1 else self._compiled(1, 1).create_infer_request()
            self._single = alone
        row: Float32 = _infer(self._single, image[None])[0]
        return row

    def embed_together(self, images: UInt8) -> Float32:
        """Embeddings of one request, on one core."""
        return _infer(self._requests[0], images)

    def close(self) -> None:
        """Give the compiled model back."""
        self._requests.clear()
        self._model = self._single = None
        gc.collect()


def _infer(request: InferRequest, images: UInt8) -> Float32:
    request.infer({0: np.ascontiguousarray(images)})
    rows: Float32 = request.get_output_tensor(0).data.copy()
    return rows


def _images_per_request(flops: int, batch_size: int) -> int:
    images = next((images for most, images in _TOGETHER if flops < most), 1)
    # A batch of another size than a multiple of that many would end with requests of another shape.
    return images if batch_size % images == 0 else 1


class _Job:
    """One running request: where its rows go, and the batch that they complete (None: not yet)."""

    __slots__ = ("request", "rows", "whole")

    def __init__(self, rows: Float32, whole: Float32 | None) -> None:
        self.request: InferRequest = None
        self.rows = rows
        self.whole = whole


def _finish(running: deque[_Job], idle: list[InferRequest]) -> Iterator[Float32]:
    """Wait for the oldest request; yields the batch that it completes, if it does."""
    job = running.popleft()
    job.request.wait()
    job.rows[:] = job.request.get_output_tensor(0).data
    idle.append(job.request)
    if job.whole is not None:
        yield job.whole


# Opening ------------------------------------------------------------------------------------------


def open_frozen(request: EngineRequest, precision: Precision, sample: UInt8) -> FrozenBackbone:
    """Open a backbone from the model cache, or convert it first.

    Args:
        request: what to open.
        precision: wanted arithmetic; float32 is used instead where it does not agree with the own library.
        sample: uint8 (n, S, S, 3) real images for that comparison.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
        StorageError: the converted model cannot be stored.
    """
    known = known_weights_sha256(request.backbone, request.weights, cache=request.cache)
    notes: tuple[str, ...] = ()
    if known is not None:
        try:
            model = _Converted.find(request, known)
        except CacheDamaged as error:
            model, notes = None, (str(error),)
        if model is not None and _is_usable(model):
            return _open_model(request, model, precision, sample)
    return _open_model(request, _convert(request, sample), precision, sample, notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Converted:
    """A converted model in the cache; right after converting, its library's float32 (n, D) and remarks."""

    folder: Path
    meta: ModelMeta
    reference: Float32 | None = None
    remarks: tuple[str, ...] = ()

    @property
    def weights_sha256(self) -> str:
        return str(self.meta.identity["weights_sha256"])

    @classmethod
    def find(cls, request: EngineRequest, weights_sha256: str) -> _Converted | None:
        identity = identity_of(request.backbone, weights_sha256, request.input_size)
        folder = model_folder(request.cache, identity)
        meta = read_meta(folder, identity)
        if meta is None:
            return None
        check_files(folder, meta)
        mark_used(folder)
        return cls(folder=folder, meta=meta)


def _is_usable(model: _Converted) -> bool:
    """Whether somebody finished comparing the model with its library (a killed process may not have)."""
    return bool(model.meta.agreement)


def _convert(request: EngineRequest, sample: UInt8) -> _Converted:
    """Build, load, convert and store a backbone; its own library's embeddings of the sample come along."""
    import openvino

    network = load_network(request.backbone, request.weights, request.input_size, cache=request.cache)
    images = compared(request, sample)
    reference, remarks = network.run(images), network.remarks(images)
    identity = identity_of(request.backbone, network.weights_sha256, request.input_size)
    folder = model_folder(request.cache, identity)
    temporary = new_folder(request.cache)
    try:
        scratch = temporary / "scratch"
        scratch.mkdir()
        model = network.convert(scratch)
        del network
        openvino.save_model(model, temporary / XML, compress_to_fp16=False)
        del model
        shutil.rmtree(scratch)
        meta = publish(temporary, folder, identity)
    except OSError as error:
        raise storage_error(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _Converted(folder=folder, meta=meta, reference=reference, remarks=remarks)


def _open_model(
    request: EngineRequest,
    model: _Converted,
    precision: Precision,
    sample: UInt8,
    notes: tuple[str, ...] = (),
) -> FrozenBackbone:
    """Open a converted model in the wanted arithmetic, or in the next one that agrees with its library."""
    for candidate in dict.fromkeys((precision, Precision.FLOAT32)):
        agreement = model.meta.agreement.get(candidate)
        if agreement is None or agreement.passed:
            backbone = OpenVINOBackbone(
                request, model.folder, candidate, model.meta.identity["weights_sha256"]
            )
            agreement = agreement or _agreement(request, model, backbone, sample)
            if agreement.passed:
                backbone.notes, backbone.agreement = (*model.remarks, *notes), agreement.cosine
                return backbone
            backbone.close()
        notes = (*notes, disagreement(request, Engine.OPENVINO, candidate, agreement))
    own = engines_of(request.backbone)[0]
    if own is Engine.OPENVINO:
        raise EmbeddingError(
            "OpenVINO does not yield usable embeddings", where=request.backbone.name, got=notes[-1]
        )
    fallback = open_in(own, request, Precision.FLOAT32, sample)
    fallback.notes = (*notes, f"{LIBRARIES[own]} is used instead of OpenVINO")
    return fallback


def _agreement(
    request: EngineRequest, model: _Converted, backbone: OpenVINOBackbone, sample: UInt8
) -> Agreement:
    """Compare a freshly compiled model with its library, or with an arithmetic that agreed with it."""
    images = compared(request, sample)
    reference = model.reference
    if reference is None:
        trusted = next((Precision(name) for name, item in model.meta.agreement.items() if item.passed), None)
        if trusted is None:
            network = load_network(request.backbone, request.weights, request.input_size, cache=request.cache)
            reference = network.run(images)
        else:
            other = OpenVINOBackbone(request, model.folder, trusted, backbone.weights_sha256)
            reference = embed_few(other, images)
            other.close()
    agreement = compare(embed_few(backbone, images), reference)
    model.meta.agreement[backbone.precision] = agreement
    with contextlib.suppress(StorageError):  # a read-only cache only means to compare again next time
        write_meta(model.folder, model.meta)
    return agreement
