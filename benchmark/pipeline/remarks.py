"""What a reader must know of some embeddings, remembered beside the cache, so that a cached run says it, too.

That an engine fell back to another arithmetic is found out when it is opened: a run that finds all vectors in
the cache opens none. Whoever finds it out remembers it before the first vector is kept, so that one who is
killed leaves no vector without its remark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.records import EmbeddingKey, Engine, Precision
from benchmark.storage import Memo


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRemarks:
    """Remarks of those who asked for the same engine and arithmetic: a fall-back is one for them alone.

    Attributes:
        cache: where they are remembered.
        engine: that was asked for; None: any.
        precision: that was asked for; None: any.
    """

    cache: Path
    engine: Engine | None
    precision: Precision | None

    def load(self, key: EmbeddingKey) -> tuple[str, ...]:
        """What is to be said of embeddings."""
        return self._memo.recall(key.backbone, self._question(key)) or ()

    def add(self, key: EmbeddingKey, remarks: Sequence[str]) -> None:
        """Remember remarks, each once."""
        known = self.load(key) if remarks else ()
        wanted = tuple(dict.fromkeys((*known, *remarks)))
        if wanted != known:
            self._memo.remember(key.backbone, self._question(key), wanted)

    @property
    def _memo(self) -> Memo[tuple[str, ...]]:
        return Memo(folder=self.cache / "remarks", kind=tuple[str, ...], shared=True)

    def _question(self, key: EmbeddingKey) -> list[object]:
        return [key.digest(), self.engine, self.precision]
