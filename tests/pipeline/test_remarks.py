"""What an engine found out is remembered before the first vector is kept, whatever becomes of its process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmark.backbones import parse_weights, select
from benchmark.embeddings import EmbeddingStore
from benchmark.engines import EngineRequest, FrozenBackbone
from benchmark.memory import PackedStrings
from benchmark.pipeline.remarks import EngineRemarks
from benchmark.pipeline.tasks import Wanted, _EmbeddingWork
from benchmark.records import Engine, Float32, Precision, UInt8

_IDS = tuple(sorted(f"{number:064x}" for number in range(64)))
_REMARK = "its bfloat16 was not used"


class Pictures:
    image_ids = PackedStrings.of(_IDS)

    def rows(self, start: int, stop: int) -> UInt8:
        return np.zeros((stop - start, 32, 32, 3), np.uint8)


class Dying(FrozenBackbone):
    """Keeps a few vectors, then its process ends."""

    engine, precision, weights_sha256 = Engine.TENSORFLOW, Precision.FLOAT32, "a" * 64
    batch_size, together, embedding_dim, notes = 8, 1, 3, (_REMARK,)

    def __init__(
        self, seen: list[tuple[str, ...]], remarks: EngineRemarks, work: list[_EmbeddingWork]
    ) -> None:
        self._seen, self._remarks, self._work = seen, remarks, work

    def embed(self, batches: Iterable[UInt8]) -> Iterator[Float32]:
        # Nothing has been kept yet.
        self._seen.append(self._remarks.load(self._work[0]._key(self)))
        for batch in batches:
            yield batch.mean(axis=(1, 2), dtype=np.float32)
            raise KeyboardInterrupt

    def embed_one(self, image: UInt8) -> Float32:
        raise AssertionError("one batch is enough here")

    def embed_together(self, images: UInt8) -> Float32:
        raise AssertionError("one batch is enough here")

    def close(self) -> None:
        """Nothing to close."""


def test_a_remark_is_there_before_the_first_vector(tmp_path: Path) -> None:
    (backbone,) = select("MobileNet_0.25")
    remarks = EngineRemarks(cache=tmp_path, engine=None, precision=None)
    wanted = Wanted(
        engine=EngineRequest(
            backbone=backbone,
            weights=parse_weights("random"),
            input_size=32,
            engine=Engine.TENSORFLOW,
            precision=Precision.FLOAT32,
            threads=1,
            cache=tmp_path,
        ),
        resize="bilinear",
        decoder="pillow",
        images=len(_IDS),
        remarks=remarks,
    )
    pictures, seen = Pictures(), list[tuple[str, ...]]()
    work = _EmbeddingWork(wanted, 1, pictures, pictures.rows(0, 8), timed=False)
    frozen = Dying(seen, remarks, [work])
    with pytest.raises(KeyboardInterrupt):
        work._extract_missing(frozen)
    assert seen == [(_REMARK,)]
    key = work._key(frozen)
    assert len(EmbeddingStore(tmp_path).missing(key, _IDS)) == len(_IDS) - 8
    assert remarks.load(key) == (_REMARK,)
    # Who asked for this very arithmetic is told of no fall-back.
    assert not EngineRemarks(cache=tmp_path, engine=Engine.TENSORFLOW, precision=None).load(key)
