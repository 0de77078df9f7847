"""Embeddings of augmented views: the frozen network sees every view once, phase 1 reads the result.

Rows go to the embedding cache under the SHA-256 of seed, view number, image id and augmentation, so that
another run with other epochs, other heads or more views computes only what is new. Loads TensorFlow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from benchmark.data import decoder_name, optional_formats
from benchmark.embeddings import EmbeddingStore, extract
from benchmark.engines import EngineRequest, FrozenBackbone, embedding_key, open_engine, plan_engine
from benchmark.finetuning.augment import Keys, view_key, view_keys
from benchmark.finetuning.feed import Inference, PixelFeed
from benchmark.finetuning.network import Network
from benchmark.finetuning.recipe import Pooling
from benchmark.finetuning.training import PREDICTION_BATCH, FineTuningData, Views
from benchmark.finetuning.untyped import Model
from benchmark.machine import cores
from benchmark.records import EmbeddingKey, Engine, Float32, Int64, Observer, Precision, UInt8

_TASK = "embed views"
_SAMPLE_IMAGES = 64


def embed_views(data: FineTuningData, network: Network, weights_sha256: str, observer: Observer) -> Views:
    """Compute what is missing of the views of all training images, with the backbone's starting weights.

    Raises:
        EmbeddingError: vectors that cannot be right.
        StorageError: the cache cannot be written.
    """
    work = _ViewWork(data, network, weights_sha256)
    if any(map(len, work.missing())):
        work.compute(observer)
    return Views(count=work.count, read=work.read)


class _ViewWork:
    """Which views there are, which are missing, how they are computed."""

    def __init__(self, data: FineTuningData, network: Network, weights_sha256: str) -> None:
        self._request = data.request
        self._pixels = data.pixels
        self._body = network.body
        self._weights_sha256 = weights_sha256
        self._decoder = decoder_name(
            data.images.bit_depth, formats=optional_formats(data.images.paths), resize=data.request.resize
        )
        self._train = data.images.split.train
        self._ids = [data.images.image_ids[row] for row in self._train]
        self._recipe = data.request.recipe
        self._pooled = self._recipe.head.pooling is Pooling.AVG  # as engines pool
        # Without augmentation all views are the picture itself.
        self.count = 1 if self._recipe.augmentation.changes_nothing else data.request.options.cached_views
        self._store = EmbeddingStore(data.request.options.cache)
        planned = Engine.TENSORFLOW
        if self._pooled:
            planned = plan_engine(self._engine_request(None), self.count * len(self._ids))[0]
        self._key = self._key_of(planned, Precision.FLOAT32)

    def names(self, view: int) -> list[str]:
        """The cache's row names of one view of every training image."""
        changes = self._recipe.augmentation.model_dump_json().encode()
        seed = self._request.seed
        return [hashlib.sha256(view_key(seed, view, name) + changes).hexdigest() for name in self._ids]

    def missing(self) -> list[Int64]:
        """Of every view, the positions in the training part whose vector is missing, int64 (m,)."""
        found = []
        for names in map(self.names, range(self.count)):
            absent = set(self._store.missing(self._key, names))
            found.append(np.asarray([at for at, name in enumerate(names) if name in absent], np.int64))
        return found

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
            missing = self.missing()
            total = sum(map(len, missing))
            if total:
                observer.started(_TASK, total)
                self._embed(missing, frozen, observer)
                observer.finished(_TASK)
        finally:
            frozen.close()

    def _embed(self, missing: list[Int64], frozen: FrozenBackbone | _BodyEngine, observer: Observer) -> None:
        recipe, done = self._recipe, 0
        feed = PixelFeed(self._pixels, recipe.image_size, None, recipe.augmentation, recipe.batch_size)

        def progress(count: int) -> None:
            observer.advanced(_TASK, done + count)

        with self._store.writer(self._key, math.prod(self._body.output.shape[1:])) as writer:
            for view, positions in enumerate(missing):
                if not len(positions):
                    continue
                keys = view_keys(self._request.seed, view, [self._ids[at] for at in positions])
                names = self.names(view)
                rows = _ViewRows(feed, self._train[positions], keys)
                extract(frozen, rows, [names[at] for at in positions], writer, progress)
                done += len(positions)

    def _engine(self) -> FrozenBackbone | _BodyEngine:
        if not self._pooled:
            return _BodyEngine(self._body)
        sample = np.stack(list(self._pixels(self._train[:_SAMPLE_IMAGES])))
        return open_engine(self._engine_request(self._key.engine), sample=sample)

    def _key_of(self, engine: Engine, precision: Precision) -> EmbeddingKey:
        key = embedding_key(
            self._request.backbone,
            self._weights_sha256,
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
            threads=self._request.options.jobs or cores(),
            cache=self._request.options.cache,
        )


class _ViewRows:
    """Views of some rows (int64 (n,), keys uint32 (n, 2)), as extraction reads them."""

    def __init__(self, feed: PixelFeed, rows: Int64, keys: Keys) -> None:
        self._feed, self._rows, self._keys = feed, rows, keys
        self._next = -1
        self._waiting: Iterator[UInt8] = iter(())

    def rows(self, start: int, stop: int) -> UInt8:
        """uint8 (stop - start, S, S, 3); cheap in order, possible from anywhere."""
        if start != self._next:
            batches = self._feed.epoch(self._rows[start:], self._keys[start:])
            self._waiting = (image for images, _, _ in batches for image in images.numpy())
        self._next = stop
        return np.stack(list(islice(self._waiting, stop - start)))


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
