"""Embeddings of augmented views: the frozen network sees every view once, phase 1 reads the result.

Rows go to the embedding cache under the SHA-256 of seed, view number, image id and augmentation, so that
another run with other epochs, other heads or more views computes only what is new. Loads TensorFlow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from benchmark.data import decoder_name
from benchmark.embeddings import BatchEmbedder, EmbeddingStore, PartWriter, extract
from benchmark.engines import EngineRequest, embedding_key, open_engine, plan_engine
from benchmark.finetuning.augment import Keys, view_key, view_keys
from benchmark.finetuning.feed import Inference, PixelFeed, Pixels
from benchmark.finetuning.network import Network
from benchmark.finetuning.recipe import Pooling, Recipe
from benchmark.finetuning.request import FinetuneRequest
from benchmark.finetuning.training import PREDICTION_BATCH, Views
from benchmark.finetuning.untyped import Model
from benchmark.machine import cores
from benchmark.records import EmbeddingKey, Engine, Float32, ImageSet, Int64, Observer, Precision, UInt8

_TASK = "embed views"
_SAMPLE_IMAGES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedNetwork:
    """Where training begins.

    Attributes:
        network: with the backbone's starting weights.
        weights_sha256: of those weights.
    """

    network: Network
    weights_sha256: str


class ViewEmbedder(BatchEmbedder, Protocol):
    """What embeds the views: an engine, or the run's own network."""

    @property
    def engine(self) -> Engine:
        """What really executes it."""

    @property
    def precision(self) -> Precision:
        """The arithmetic that it really uses."""


class _Sink(NamedTuple):
    frozen: ViewEmbedder
    rows: ViewRows
    writer: PartWriter
    progress: Callable[[int], None]


class ViewRows:
    """Augmented views of some rows, in order, as extraction reads them."""

    def __init__(self, pixels: Pixels, recipe: Recipe) -> None:
        """Build the input pipeline.

        Args:
            pixels: reads images by row position.
            recipe: input size and augmentation.
        """
        self._feed = PixelFeed(pixels, recipe.image_size, None, recipe.augmentation, recipe.batch_size)
        self._rows = np.zeros(0, np.int64)
        self._keys = np.zeros((0, 2), np.uint32)
        self._next = 0
        self._waiting: Iterator[UInt8] = iter(())

    def choose(self, rows: Int64, keys: Keys) -> None:
        """Say which views come: int64 (n,) row positions, uint32 (n, 2) keys."""
        self._rows, self._keys = rows, keys
        self._restart(0)

    def rows(self, start: int, stop: int) -> UInt8:
        """uint8 (stop - start, S, S, 3) of the chosen views; cheap in order, possible from anywhere."""
        if start != self._next:
            self._restart(start)
        self._next = stop
        return np.stack([next(self._waiting) for _ in range(stop - start)])

    def _restart(self, start: int) -> None:
        self._next = start
        self._waiting = self._images(start)

    def _images(self, start: int) -> Iterator[UInt8]:
        for images, _, _ in self._feed.epoch(self._rows[start:], self._keys[start:]):
            yield from images.numpy()


class _BodyEngine:
    """The run's own network as an engine, for poolings that engines do not offer."""

    engine = Engine.TENSORFLOW
    precision = Precision.FLOAT32
    batch_size = PREDICTION_BATCH

    def __init__(self, body: Model) -> None:
        self._run = Inference(body, lambda _: iter(()), self.batch_size)

    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        """uint8 (B, S, S, 3) -> float32 (B, D)."""
        return map(self._run.embed, batches)

    def close(self) -> None:
        """Nothing to give back: the network belongs to the run."""


def embed_views(
    request: FinetuneRequest, images: ImageSet, pixels: Pixels, start: LoadedNetwork, observer: Observer
) -> Views:
    """Compute what is missing of the views of all training images.

    Args:
        request: backbone, weights, recipe, number of views, cache.
        images: the data set.
        pixels: reads images by row position.
        start: the network with the backbone's starting weights.
        observer: told how many views are done.

    Raises:
        EmbeddingError: vectors that cannot be right.
        StorageError: the cache cannot be written.
    """
    work = _ViewWork(request, images, pixels, start)
    if any(map(len, work.missing())):
        work.compute(observer)
    return Views(count=work.count, read=work.read)


class _ViewWork:
    """Which views there are, which are missing, how they are computed."""

    def __init__(
        self, request: FinetuneRequest, images: ImageSet, pixels: Pixels, start: LoadedNetwork
    ) -> None:
        self._request = request
        self._pixels = pixels
        self._start = start
        self._decoder = decoder_name(images.bit_depth)
        self._train = images.split.train
        self._ids = [images.image_ids[row] for row in images.split.train]
        self._recipe = request.recipe
        # Without augmentation all views are the picture itself.
        self.count = 1 if request.recipe.augmentation.changes_nothing else request.cached_views
        self._store = EmbeddingStore(request.cache)
        self._key = self._key_of(self._planned_engine(), Precision.FLOAT32)

    def names(self, view: int) -> list[str]:
        """The cache's row names of one view of every training image."""
        changes = self._recipe.augmentation.model_dump_json().encode()
        seed = self._request.seed
        return [hashlib.sha256(view_key(seed, view, name) + changes).hexdigest() for name in self._ids]

    def missing(self) -> list[Int64]:
        """Of every view, the positions in the training part whose vector is missing, int64 (m,)."""
        return [self._missing(view) for view in range(self.count)]

    def _missing(self, view: int) -> Int64:
        names = self.names(view)
        absent = set(self._store.missing(self._key, names))
        return np.asarray([at for at, name in enumerate(names) if name in absent], np.int64)

    def read(self, view: int) -> Float32:
        """Vectors of one view, float32 (n_train, D)."""
        return self._store.read(self._key, self.names(view)).features

    def compute(self, observer: Observer) -> None:
        """Embed the missing positions of every view.

        An engine may find out while it is opened that it has to compute otherwise than planned; the vectors
        belong to what it really does, which may have been there before.
        """
        frozen = self._engine()
        try:
            self._key = self._key_of(frozen.engine, frozen.precision)
            self._embed(self.missing(), frozen, observer)
        finally:
            frozen.close()

    def _embed(self, missing: list[Int64], frozen: ViewEmbedder, observer: Observer) -> None:
        total = sum(map(len, missing))
        if not total:
            return
        observer.started(_TASK, total)
        rows = ViewRows(self._pixels, self._recipe)
        width = math.prod(self._start.network.body.output.shape[1:])
        done = 0
        with self._store.writer(self._key, width) as writer:
            for view, positions in enumerate(missing):
                if len(positions):
                    sink = _Sink(frozen, rows, writer, _counting_from(done, observer))
                    self._compute_view(view, positions, sink)
                done += len(positions)
        observer.finished(_TASK)

    def _compute_view(self, view: int, positions: Int64, sink: _Sink) -> None:
        ids = [self._ids[at] for at in positions]
        sink.rows.choose(self._train[positions], view_keys(self._request.seed, view, ids))
        names = self.names(view)
        extract(sink.frozen, sink.rows, [names[at] for at in positions], sink.writer, sink.progress)

    def _engine(self) -> ViewEmbedder:
        if self._recipe.head.pooling is not Pooling.AVG:
            return _BodyEngine(self._start.network.body)
        sample = np.stack(list(self._pixels(self._train[:_SAMPLE_IMAGES])))
        return open_engine(self._engine_request(self._key.engine), sample=sample)

    def _planned_engine(self) -> Engine:
        if self._recipe.head.pooling is not Pooling.AVG:
            return Engine.TENSORFLOW
        return plan_engine(self._engine_request(None), self.count * len(self._ids))[0]

    def _key_of(self, engine: Engine, precision: Precision) -> EmbeddingKey:
        key = embedding_key(
            self._request.backbone,
            self._start.weights_sha256,
            input_size=self._recipe.image_size,
            resize=self._request.resize,
            decoder=self._decoder,
            engine=engine,
            precision=precision,
        )
        return replace(key, pooling=self._recipe.head.pooling.value)

    def _engine_request(self, engine: Engine | None) -> EngineRequest:
        return EngineRequest(
            backbone=self._request.backbone,
            weights=self._request.weights,
            input_size=self._recipe.image_size,
            engine=engine,
            # Phase 2 and the saved model compute in float32: so do the vectors that the head learns from.
            precision=Precision.FLOAT32,
            threads=self._request.jobs or cores(),
            cache=self._request.cache,
        )


def _counting_from(done: int, observer: Observer) -> Callable[[int], None]:
    return lambda count: observer.advanced(_TASK, done + count)
