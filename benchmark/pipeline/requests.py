"""What a caller asks of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from benchmark.data import DataOptions, decoder_name
from benchmark.records import (
    Backbone,
    Engine,
    HeadProtocol,
    ImageSet,
    Precision,
    ProtocolName,
    Resize,
    WeightsKind,
    WeightsSource,
)
from benchmark.statistics import DEFAULT_MARGIN

SCRATCH_BYTES = 4 * 2**30


class Search(StrEnum):
    """How much of the board is computed."""

    EXHAUSTIVE = "exhaustive"
    HALVING = "halving"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """What to embed, how, and where the cache lies.

    Attributes:
        data: folder or CSV.
        backbones: what to run, in board order.
        weights: source for backbones that carry none of their own.
        size: input side in pixels; None means each backbone's native size.
        resize: how images get that size.
        engine: None picks what finishes sooner.
        precision: None picks what the processor is fastest at.
        cache: folder of the embedding cache.
        options: how the images are read and split.
        jobs: worker processes; 0 picks, 1 works in this process.
        max_size_mb: backbones whose float32 parameters exceed this are skipped (1 MB = 10**6 bytes).
        scratch_bytes: most bytes of decoded pixels kept on disk at once; fewer where there is little room.
        cache_limit_bytes: the least recently used embeddings go beyond this size; None keeps everything.
        fallback_random: use random weights for all backbones when ImageNet weights cannot be had.
        measure_latency: also time single images where everything is cached and nobody has timed them here.
    """

    data: Path
    backbones: tuple[Backbone, ...]
    weights: WeightsSource = field(default_factory=lambda: WeightsSource(kind=WeightsKind.IMAGENET))
    size: int | None = 224
    resize: Resize = Resize.BILINEAR
    engine: Engine | None = None
    precision: Precision | None = None
    cache: Path = Path("embeddings_cache")
    options: DataOptions = field(default_factory=DataOptions)
    jobs: int = 0
    max_size_mb: float | None = None
    scratch_bytes: int = SCRATCH_BYTES
    cache_limit_bytes: int | None = None
    fallback_random: bool = False
    measure_latency: bool = False

    def as_read(self, images: ImageSet) -> EmbedRequest:
        """The same with what reading the images has decided."""
        return replace(self, options=replace(self.options, bit_depth=images.bit_depth))

    @property
    def decoder(self) -> str:
        """How images become pixels, as it stands in embedding keys."""
        return decoder_name(self.options.known_bit_depth)

    def source_of(self, backbone: Backbone) -> WeightsSource:
        """The weights that a backbone gets."""
        return backbone.weights or self.weights

    def size_of(self, backbone: Backbone) -> int:
        """The input side that a backbone gets, in pixels."""
        return self.size or backbone.default_size


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRequest:
    """What to rank, and how.

    Attributes:
        embed: what to embed first.
        results: folder of all results; the board goes to ``results/<dataset>``.
        protocol: how heads are trained.
        protocol_given: whether the user chose the protocol's name; else ``protocol_name`` does.
        auto_groups: find groups of related images and keep each on one side of every split.
        max_latency_ms: backbones slower than this on one image (p50) are skipped; ``embed`` then measures.
        max_loss: most F1 that the winner may give away.
        search: everything, or successive halving.
        audit_search: replay halving on the full results and report whether it would have agreed.
        arguments: command-line or API arguments as given, for ``run.json``.
    """

    embed: EmbedRequest
    results: Path = Path("results")
    protocol: HeadProtocol = field(default_factory=HeadProtocol)
    protocol_given: bool = False
    auto_groups: bool = False
    max_latency_ms: float | None = None
    max_loss: float = DEFAULT_MARGIN
    search: Search = Search.EXHAUSTIVE
    audit_search: bool = False
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """A limit on the latency needs every backbone's."""
        if self.max_latency_ms is not None and not self.embed.measure_latency:
            object.__setattr__(self, "embed", replace(self.embed, measure_latency=True))

    def protocol_name(self, *, parts_given: bool) -> ProtocolName:
        """The user's choice, else holdout when the user gave the parts, else cv."""
        if self.protocol_given or not parts_given:
            return self.protocol.name
        return ProtocolName.HOLDOUT
