"""What a caller asks of the pipeline: options, and the backbones that they name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

from benchmark.backbones import chosen, is_pretrained, parse_weights
from benchmark.data import decoder_name, optional_formats
from benchmark.embeddings import VIEWS
from benchmark.execution import LocalRunner, Runner
from benchmark.options import EmbedOptions, Options, RankOptions
from benchmark.ranking import MeasuredDevice
from benchmark.records import (
    Backbone,
    HeadProtocol,
    ImageSet,
    ProtocolName,
    Resize,
    WeightsSource,
)

BUFFER_BYTES = 4 * 2**30
MOST_TURNED = 100_000  # images whose views are looked at: 10 kB an image in memory
AnyRequest = TypeVar("AnyRequest", bound="EmbedRequest")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """What to embed, how, and where the cache lies.

    Attributes:
        options: of the command.
        backbones: what to run, in board order.
        bit_depth: 12 or 16: bits that the greys of 16-bit files are read with, which reading decides.
        formats: what of ``optional_formats`` the images have, which reading decides, too.
        buffer_bytes: most bytes of decoded pixels kept on disk at once; fewer where there is little room.
        turned: embed views of each image (``turned``) instead of the image itself.
        runner: what executes its tasks; None means processes of this machine.
    """

    options: EmbedOptions
    backbones: tuple[Backbone, ...]
    bit_depth: int = 16
    formats: frozenset[str] = frozenset()
    turned: bool = False
    buffer_bytes: int = BUFFER_BYTES
    runner: Runner | None = field(default=None, compare=False)

    @classmethod
    def of(cls, options: EmbedOptions) -> EmbedRequest:
        """The request of a command.

        Raises:
            ArgumentError: no such backbone or weights.
        """
        parse_weights(options.weights)
        return cls(options=options, backbones=chosen(options, options.seed))

    def but(self, **changes: Any) -> Self:  # noqa: ANN401 - values of any option
        """The same request with other options."""
        return replace(self, options=self.options.but(**changes))

    def as_read(self, images: ImageSet) -> Self:
        """The same with what reading the images has decided."""
        # Who has read all images goes on so with a part of them: their rows are under one key.
        formats = self.formats | optional_formats(images.paths)
        return replace(self, bit_depth=images.bit_depth, formats=formats)

    def views_under(self, backbone: Backbone) -> EmbedRequest:
        """Views of the same images under one backbone, kept under keys of their own."""
        return EmbedRequest(
            options=self.options,
            backbones=(backbone,),
            bit_depth=self.bit_depth,
            formats=self.formats,
            turned=True,
            runner=self.runner,
        )

    def executed_by(self, runner: Runner) -> Self:
        """The same, carried out by a runner; one elsewhere works in another folder."""
        asked = self if runner.is_local else self.but(cache=self.options.cache.absolute())
        return replace(asked, runner=runner)

    @property
    def executor(self) -> Runner:
        """What executes its tasks."""
        return self.runner or LocalRunner(self.options.jobs)

    def decoder_of(self, backbone: Backbone) -> str:
        """How images become pixels, and which views of them, as it stands in a backbone's embedding keys."""
        name = decoder_name(self.bit_depth, formats=self.formats, resize=self.resize_of(backbone))
        return name + (f"-{VIEWS}views" if self.turned else "")

    @property
    def measure_latency(self) -> bool:
        """Whether to time single images also where everything is cached and nobody has timed them here."""
        return False

    @property
    def weights(self) -> WeightsSource:
        """The source for backbones that carry no weights of their own."""
        return parse_weights(self.options.weights, seed=self.options.seed)

    def source_of(self, backbone: Backbone) -> WeightsSource:
        """The weights that a backbone gets."""
        return backbone.weights or self.weights

    def resize_of(self, backbone: Backbone) -> str:
        """How images get the input size of a backbone; a way of its own where ``native`` is asked for."""
        wanted = self.options.resize
        return backbone.preprocessing.native if wanted is Resize.NATIVE else wanted

    def size_of(self, backbone: Backbone) -> int:
        """The input side that a backbone gets, in pixels."""
        return backbone.default_size if backbone.fixed_size else self.options.size or backbone.default_size


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRequest(EmbedRequest):
    """What to rank, and how.

    Attributes:
        options: of the command.
        protocol: how heads are trained.
        device: whose measurements are shown, and what a limit on the latency is about; None: this machine.
    """

    options: RankOptions
    protocol: HeadProtocol
    device: MeasuredDevice | None = None

    @classmethod
    def of(cls, options: Options) -> RankRequest:
        """The request of a command; what the command does not ask for is as usual.

        Raises:
            ArgumentError: no such backbone or weights.
        """
        asked = RankOptions.check(dict(options))
        whole = EmbedRequest.of(asked)
        return cls(options=asked, backbones=whole.backbones, protocol=asked.head_protocol())

    @property
    def measure_latency(self) -> bool:
        """A limit on the latency of this machine needs every backbone's."""
        return self.options.max_latency_ms is not None and self.options.device is None

    def protocol_name(self, *, parts_given: bool) -> ProtocolName:
        """The user's choice, else holdout when the user gave the parts, else cv."""
        usual = ProtocolName.HOLDOUT if parts_given else self.protocol.name
        return self.options.protocol or usual


def cheapest_pretrained(request: EmbedRequest) -> Backbone | None:
    """The pretrained backbone with the least arithmetic; None when there is none."""
    trained = [one for one in request.backbones if is_pretrained(one, request.source_of(one))]
    return min(trained, key=lambda one: (one.flops, one.name), default=None)
