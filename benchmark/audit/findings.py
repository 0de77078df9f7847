"""What an audit finds: findings, pairs of images, and the report that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from benchmark.audit.signatures import Signatures
from benchmark.records import Bool, Float32, Int64, Rejected


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"  # scores cannot be trusted before this is mended
    WARNING = "warning"  # scores may mislead
    INFO = "info"


class PairKind(StrEnum):
    """How two images are the same."""

    IDENTICAL = "identical"  # every byte
    NEAR_DUPLICATE = "near-duplicate"  # the same picture, saved again
    LOOK_ALIKE = "look-alike"  # the same texture to a pretrained backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the audit found.

    Attributes:
        severity: how much it matters.
        code: short fixed name, for programs.
        count: how many files, pairs or classes.
        text: one sentence for people.
        next_step: what to do about it; empty when nothing needs doing.
    """

    severity: Severity
    code: str
    count: int
    text: str
    next_step: str = ""

    @property
    def is_about_reading(self) -> bool:
        """Whether ``reading_notes`` say it, too: whoever shows both leaves one out."""
        return self.code in {"rejected", "lost-class", "reading"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPair:
    """Two files that are the same or nearly so."""

    kind: PairKind
    first: str  # path relative to the data set's root
    second: str
    labels: tuple[str, str]  # their class names (several joined by ``;``)
    parts: tuple[str, str]  # train, val or test
    distance: int  # differing bits of the perceptual hashes, 0..64
    cosine: float  # of their centred embeddings; nan without embeddings

    @property
    def conflict(self) -> bool:
        """Whether the two carry different labels."""
        return self.labels[0] != self.labels[1]

    @property
    def straddles(self) -> bool:
        """Whether the two stand in different parts."""
        return self.parts[0] != self.parts[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearImages:
    """Pairs among distinct images."""

    rows: Int64  # (P, 2)
    distances: Int64  # (P,) differing bits
    cosines: Float32  # (P,), nan without features
    same: Bool  # (P,) near-duplicate rather than look-alike
    complete: bool  # False where there are more than were looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The audit of one data set.

    Attributes:
        name: of the data set.
        images: number of distinct decodable images.
        findings: most severe first.
        rejected: files that were left out.
        pairs: identical, near-duplicate and look-alike pairs, worst first.
        near: pairs among distinct images, nearest first.
        signatures: what was looked at, row by row.
    """

    name: str
    images: int
    findings: tuple[Finding, ...]
    rejected: tuple[Rejected, ...]
    pairs: tuple[AuditPair, ...]
    near: NearImages
    signatures: Signatures

    def nearest_pairs(self) -> Iterator[tuple[int, int]]:
        """Row pairs of near-duplicates, nearest first."""
        yield from self.near.rows[self.near.same].tolist()
