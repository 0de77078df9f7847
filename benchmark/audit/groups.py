"""Coarse groups of related images: what ``--groups auto`` keeps on the same side of every split.

Near-duplicates alone are too fine: twenty crops of one wall are twenty different pictures that share a
secret. Traces of a common origin are read in this order:

1. sequences: files of one folder in the order of their numbers, cut where the material or the light
   changes (binary segmentation, Scott and Knott 1974, with the penalised gain of Yao 1988), but only in
   folders where neighbours really look more alike than strangers;
2. near-duplicate pairs of the audit, and photographs taken within seconds of each other;
3. sections of different folders that look the same (the sound and the cracked crops of one wall);
4. images that look like pictures of one thing to a pretrained backbone (``looks.py``).

Groups depend on the images, their folders, file names and that backbone, and on nothing else. No class has
more than a fixed share of its images in one group, so that five folds always find enough groups.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from benchmark.audit.findings import AuditReport
from benchmark.audit.signatures import Signatures
from benchmark.data import part_named
from benchmark.records import Bool, Float64, ImageSet, Int64, Task

FOLDS = 5
# A section of a sequence holds at most a twentieth of any class, a group at most a sixteenth: whatever is
# joined, five folds can be filled evenly, and resampling has about twenty groups of a class to draw from.
# In small classes ten images, or twelve, may stay together as long as they are a tenth, or an eighth.
_SECTION = (20, 10, 10)
_GROUP = (16, 8, 12)
_SHORTEST_SECTION = 5
_SHORTEST_SEQUENCE = 10
# Neighbours in a sequence must be at least this much closer than strangers (mean squared distance).
_SEQUENCE_EVIDENCE = 0.85
_SHUFFLES = 200
_TORN_NEIGHBOURS = 0.1
_BURST_SECONDS = 30.0
# Two sections look the same when their means are closer than this share of the spread inside sections.
_ALIKE = 0.6
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Groups and how they came about.

    Attributes:
        groups: int64 (N,), numbered 0.. in row order of first appearance; None where nothing is related.
        notes: whole sentences for the reader.
    """

    groups: Int64 | None
    notes: tuple[str, ...]


def group_related(
    images: ImageSet, report: AuditReport, looks: Int64 | None = None, copies: Int64 | None = None
) -> Grouping:
    """Coarse groups of related images.

    Args:
        images: the data set; file names matter.
        report: its audit (signatures and near-duplicate pairs).
        looks: int64 (P, 2) rows that look like pictures of one thing, most alike first (``look_links``);
            None where no pretrained backbone has seen the images.
        copies: int64 (P, 2) rows that are copies of each other (``copy_links``).
    """
    look = _appearance(report.signatures)
    links = _Links(images)
    sequences = list(_sequences(images, look))
    sections = [section for rows, cuts in sequences for section in _sections(images, rows, look, cuts)]
    links.add("name", (pair for section in sections for pair in pairwise(section.tolist())))
    links.add("copies", report.nearest_pairs())
    links.add("copies", [] if copies is None else copies.tolist())
    links.add("capture time", _bursts(report.signatures.captured))
    links.add("name", _alike_sections(sections, look))
    links.add("looks", [] if looks is None else looks.tolist())
    groups = links.tree.numbers()
    notes = [*_notes(images, groups, links, blind=looks is None)]
    if sections:
        notes.insert(1, "Groups by name would change if the files were renamed.")
    return Grouping(groups=groups if links.reasons else None, notes=tuple(notes))


@dataclass(slots=True)
class _Links:
    """Sets of related rows, and what related them."""

    images: ImageSet
    tree: _Union = field(init=False)  # the sets
    reasons: dict[int, str] = field(default_factory=dict)  # what linked a row first
    # Pairs that stay apart because their set would be too large, by what linked them.
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.tree = _Union(self.images)

    def add(self, reason: str, pairs: Iterable[Sequence[int]]) -> None:
        for first, second in pairs:
            if self.tree.join(first, second):
                self.reasons.setdefault(first, reason)
                self.reasons.setdefault(second, reason)
            else:
                self.refused[reason] += 1


def _notes(images: ImageSet, groups: Int64, links: _Links, *, blind: bool) -> Iterator[str]:
    if links.reasons:
        sizes = np.bincount(groups)
        counts = Counter(links.reasons.values()).most_common()
        by = ", ".join(f"by {reason} {count}" for reason, count in counts)
        yield (
            f"{len(links.reasons)} of {len(groups)} images are related, in {int((sizes > 1).sum())} groups: "
            f"{by}; the largest holds {sizes.max()}."
        )
    else:
        yield "Nothing shows that images are related."
    if blind:
        yield (
            "No pretrained backbone has looked for pictures of one thing, only names, near-duplicates and "
            "capture times tell: protection is weak, and scores may still flatter. Name the origin with "
            "--groups COLUMN or REGEX."
        )
    if links.refused["copies"]:
        yield (
            f"{links.refused['copies']} near-duplicate pairs stay apart: a group would hold more than one "
            f"{_GROUP[0]}th of a class, too much for {FOLDS} folds."
        )
    if not links.reasons:
        return
    for name, total, own in _groups_per_class(images, groups):
        if own < FOLDS:
            yield f"Class {name!r} has {total} images in {own} groups, fewer than the {FOLDS} folds."


def _groups_per_class(images: ImageSet, groups: Int64) -> Iterator[tuple[str, int, int]]:
    for position, name in enumerate(images.classes):
        members = _members(images, position)
        yield name, int(members.sum()), len(np.unique(groups[members]))


def _members(images: ImageSet, position: int) -> Bool:
    if images.task is Task.MULTILABEL:
        return np.asarray(images.targets[:, position] > 0)
    return np.asarray(images.targets == position)


def _labels(images: ImageSet, row: int) -> tuple[int, ...]:
    """Positions of a row's classes; C, as of one class more, where it has none."""
    if images.task is Task.MULTILABEL:
        return tuple(np.flatnonzero(images.targets[row]).tolist()) or (len(images.classes),)
    return (int(images.targets[row]),)


# --- how images look ------------------------------------------------------------------------------------


def sequence_folders(images: ImageSet, signatures: Signatures) -> tuple[str, ...]:
    """Folders in which neighbouring file names show related pictures that the parts do not keep together.

    Parts that we draw separate any neighbours. Given parts may be whole runs of a sequence; they count where
    more than a tenth of the neighbours stand in different ones.
    """
    look = _appearance(signatures)
    found = [rows for rows, _ in _sequences(images, look)]
    if images.split.given:
        parts = images.split.part_numbers(len(images))
        found = [rows for rows in found if np.mean(np.diff(parts[rows]) != 0) > _TORN_NEIGHBOURS]
    return tuple(_folder(images.paths[rows[0]]) for rows in found)


def _appearance(signatures: Signatures) -> Float64:
    """Colours with a total variance of 1 per image, float64 (N, A)."""
    return _balanced(np.nan_to_num(signatures.colours.astype(np.float64)))


def _balanced(values: Float64) -> Float64:
    centred = values - values.mean(0)
    spread = centred.std(0)
    scaled = centred / np.where(spread > 1e-12, spread, 1) / np.sqrt(max(int((spread > 1e-12).sum()), 1))
    return np.asarray(np.where(spread > 1e-12, scaled, 0.0))


# --- sequences ------------------------------------------------------------------------------------------


def _sequences(images: ImageSet, look: Float64) -> Iterator[tuple[Int64, Bool]]:
    """Rows of each folder in name order with the places where it may be cut, where names carry meaning.

    Yields:
        int64 (n,) rows; bool (n + 1,) True where a cut before that position keeps names of one prefix whole.
    """
    folders: dict[str, list[int]] = {}
    for row, path in enumerate(images.paths):
        # train/crack and test/crack are one sequence that was dealt out to two parts.
        top, _, rest = path.partition("/")
        inner = rest if images.split.given and part_named(top) is not None else path
        folders.setdefault(_folder(inner), []).append(row)
    for folder in sorted(folders):
        rows = np.array(sorted(folders[folder], key=lambda row: natural_key(images.paths[row])), np.int64)
        if len(rows) >= _SHORTEST_SEQUENCE and _neighbours_are_alike(look[rows]):
            yield rows, _cuts([_stem(images.paths[row]) for row in rows])


def _folder(path: str) -> str:
    # Plain text operations: pathlib takes ten times as long, minutes on a million paths.
    return path.rpartition("/")[0] or "."


def _stem(path: str) -> str:
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def natural_key(path: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``wall9`` before ``wall10``."""
    parts = re.split(r"(\d+)", path.rpartition("/")[2])
    return tuple((1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts)


def _neighbours_are_alike(look: Float64) -> bool:
    """Whether the order carries meaning: neighbours closer than in all of 200 shuffles, and clearly so."""
    look = look[:20_000]
    strangers = 2 * float(look.var(0).sum())
    if strangers <= 0:
        return False
    ratio = _neighbour_distance(look) / strangers
    if ratio >= _SEQUENCE_EVIDENCE:
        return False
    random = np.random.default_rng(0)
    shuffled = min(_neighbour_distance(random.permutation(look)) for _ in range(_SHUFFLES))
    return ratio < shuffled / strangers


def _neighbour_distance(look: Float64) -> float:
    return float(np.square(np.diff(look, axis=0)).sum(1).mean())


def _cuts(stems: Sequence[str]) -> Bool:
    """Where a sequence of names may be cut.

    In ``photo12_007`` everything before the last number names the photograph: where such prefixes repeat,
    cuts stand between them only. In ``00017`` every place will do.
    """
    prefixes = [_prefix(stem) for stem in stems]
    changes = np.array([True, *(a != b for a, b in pairwise(prefixes)), True])
    runs = int(changes.sum()) - 1
    tells = runs >= FOLDS and runs * 2 <= len(stems)
    return changes if tells else np.ones(len(stems) + 1, bool)


def _prefix(stem: str) -> str:
    numbers = list(_NUMBER.finditer(stem))
    return stem[: numbers[-1].start()] if numbers else stem


def _sections(images: ImageSet, rows: Int64, look: Float64, cuts: Bool) -> list[Int64]:
    """Cut one sequence of rows where its look changes; cuts, bool (n + 1,), says where that may be."""
    ordered = look[rows]
    sums = np.concatenate([np.zeros((1, ordered.shape[1])), np.cumsum(ordered, 0)])
    # The spread inside a section, from neighbours, does not know where the sections are.
    noise = float(np.median(np.square(np.diff(ordered, axis=0)).sum(1))) / 2
    penalty = noise * (1 + np.log(len(rows)))
    most = _most_in_section(images)
    sections: list[tuple[int, int]] = []
    open_ranges = [(0, len(rows))]
    while open_ranges:
        start, end = open_ranges.pop()
        too_large = bool((_class_counts(images, rows[start:end]) > most).any())
        cut, gain = _best_cut(sums, (start, end), cuts, too_large)
        if cut is not None and (gain > penalty or too_large):
            open_ranges += [(start, cut), (cut, end)]
        else:
            sections.append((start, end))
    return [rows[start:end] for start, end in sorted(sections)]


def _best_cut(sums: Float64, span: tuple[int, int], cuts: Bool, too_large: bool) -> tuple[int | None, float]:
    """The cut that lowers the sum of squares most, and by how much; (None, 0) where nothing can be cut."""
    start, end = span
    places = np.arange(start + 1, end)
    if cuts.all():
        # Names alone do not say where to cut: sections stay long enough to be seen as such.
        shortest = min(_SHORTEST_SECTION, (end - start) // 2) if too_large else _SHORTEST_SECTION
        places = places[shortest - 1 : len(places) - shortest + 1] if shortest > 1 else places
    elif cuts[places].any() or not too_large:
        # A single prefix that is too large is cut anywhere rather than not at all.
        places = places[cuts[places]]
    if not len(places):
        return None, 0.0
    left = sums[places] - sums[start]
    right = sums[end] - sums[places]
    whole = sums[end] - sums[start]
    gain = (
        np.square(left).sum(1) / (places - start)
        + np.square(right).sum(1) / (end - places)
        - np.square(whole).sum() / (end - start)
    )
    best = int(np.argmax(gain))
    return int(places[best]), float(gain[best])


def _most_in_section(images: ImageSet) -> Int64:
    """How many images of each class (``_class_counts``) a section may hold."""
    return np.array([_most(int(total), _SECTION) for total in _class_counts(images, np.arange(len(images)))])


def _most(total: int, limit: tuple[int, int, int]) -> int:
    """How many of a class's images may stand together under a limit (share, small share, small number)."""
    share, small_share, small = limit
    return max(total // share, min(total // small_share, small), 1)


def _class_counts(images: ImageSet, rows: Int64) -> Int64:
    """Images of each class, int64 (C,); (C + 1,) where images have several labels: at last those of none."""
    if images.task is Task.MULTILABEL:
        targets = images.targets[rows]
        return np.append(targets.sum(0), np.count_nonzero(~targets.any(1)))
    return np.bincount(images.targets[rows], minlength=len(images.classes))


# --- other traces ---------------------------------------------------------------------------------------


def _bursts(captured: Float64) -> Iterator[tuple[int, int]]:
    """Pairs of images taken within seconds of each other, in order of time."""
    order = np.argsort(captured, kind="stable")
    order = order[~np.isnan(captured[order])]
    close = np.flatnonzero(np.diff(captured[order]) <= _BURST_SECONDS)
    for position in close.tolist():
        yield int(order[position]), int(order[position + 1])


def _alike_sections(sections: Sequence[Int64], look: Float64) -> Iterator[tuple[int, int]]:
    """One row of each of two sections that look the same, most alike first."""
    from scipy.spatial import cKDTree

    if len(sections) < 2:
        return
    means = np.stack([look[section].mean(0) for section in sections])
    inside = np.mean([look[section].var(0).sum() for section in sections])
    distances, neighbours = cKDTree(means).query(means, k=min(len(sections), 6))
    near = [
        (float(distance), min(own, int(other)), max(own, int(other)))
        for own, (row, others) in enumerate(zip(distances, neighbours, strict=True))
        for distance, other in zip(row, others, strict=True)
        if other != own and distance**2 <= _ALIKE * inside
    ]
    for _, first, second in sorted(set(near)):
        yield int(sections[first][0]), int(sections[second][0])


# --- joining --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Union:
    """Disjoint sets of rows that refuse to grow beyond a share of any class."""

    images: ImageSet
    parent: list[int] = field(init=False)
    held: dict[int, Counter[int]] = field(init=False)
    caps: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.parent = list(range(len(self.images)))
        self.held = {}
        totals = _class_counts(self.images, np.arange(len(self.images))).tolist()
        self.caps = [max(_most(total, _GROUP), 2 if total >= 2 * FOLDS else 1) for total in totals]

    def root(self, row: int) -> int:
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, first: int, second: int) -> bool:
        """Join two sets; False when the result would be too large (already joined counts as True)."""
        one, other = sorted((self.root(first), self.root(second)))
        if one == other:
            return True
        together = self._held(one) + self._held(other)
        if any(count > self.caps[label] for label, count in together.items()):
            return False
        self.parent[other] = one
        self.held[one] = together
        return True

    def _held(self, root: int) -> Counter[int]:
        return self.held.get(root) or Counter(_labels(self.images, root))

    def numbers(self) -> Int64:
        """Group numbers 0.. in row order of first appearance, int64 (N,)."""
        numbers: dict[int, int] = {}
        return np.array(
            [numbers.setdefault(self.root(row), len(numbers)) for row in range(len(self.parent))], np.int64
        )
