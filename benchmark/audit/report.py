"""What is wrong with a data set before anything is trained on it: files, copies, labels, parts, classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.audit.findings import AuditPair, AuditReport, Finding, NearImages, PairKind, Severity
from benchmark.audit.groups import FOLDS, sequence_folders
from benchmark.audit.pairs import MOST_PAIRS, cosine_pairs, hamming_pairs, pair_cosines
from benchmark.audit.signatures import Signatures, signatures
from benchmark.cells import abridged
from benchmark.data import label_notes, left_out, lost_classes
from benchmark.records import Bool, Float32, ImageSet, Int64, Observer

# Centred embeddings this close show the same texture, usually pieces of one photograph.
LOOK_ALIKE_COSINE = 0.95
NEAR_DUPLICATE_COSINE = 0.98
# Hashes see structure only; copies also share their mean luma and colour (each 0..1).
_SAME_COLOUR = 0.12
_MEAN_COLUMNS = [0, 2, 3]
_IMBALANCE = 10.0
_FEW_IMAGES = 100


def audit(
    images: ImageSet, *, cache: Path, features: Float32 | None = None, observer: Observer | None = None
) -> AuditReport:
    """Look for everything in a data set that would make its scores lie.

    Args:
        images: the data set.
        cache: where signatures are remembered by image id.
        features: float32 (N, D) embeddings of a pretrained backbone in row order, or None.
        observer: told about progress.

    Raises:
        ValueError: features of another number of rows.
    """
    if features is not None and len(features) != len(images):
        raise ValueError(f"features has {len(features)} rows, the image set {len(images)}")
    signed = signatures(images, cache=cache, observer=observer)
    return judge(images, signed, _near_pairs(signed, features))


def judge(images: ImageSet, signed: Signatures, near: NearImages) -> AuditReport:
    """What was seen of some images, in the light of their parts and groups."""
    pairs = [*_identical_pairs(images), *_described(images, near)]
    findings = [
        *_file_findings(images, signed),
        *_pair_findings(images, pairs),
        *_cap_findings(near),
        *_class_findings(images),
        *torn_group_findings(images),
        *_sequence_findings(images, signed),
    ]
    return AuditReport(
        name=images.name,
        images=len(images),
        findings=tuple(sorted(findings, key=_gravity)),
        rejected=images.rejected,
        pairs=tuple(sorted(pairs, key=_badness)),
        near=near,
        signatures=signed,
    )


def _gravity(finding: Finding) -> int:
    return list(Severity).index(finding.severity)


def _badness(pair: AuditPair) -> tuple[Any, ...]:
    kinds = list(PairKind)
    sameness = (kinds.index(pair.kind), pair.distance, -np.nan_to_num(pair.cosine))
    certain = pair.kind is not PairKind.LOOK_ALIKE
    wrong = (not (pair.conflict and certain), not (pair.straddles and certain))
    return *wrong, *sameness, pair.first, pair.second


# --- pairs ----------------------------------------------------------------------------------------------


def _near_pairs(signed: Signatures, features: Float32 | None) -> NearImages:
    hashed, complete = _hashed_pairs(signed)
    rows, cosines = hashed, np.full(len(hashed), np.nan, np.float32)
    if features is not None:
        alike = cosine_pairs(features, LOOK_ALIKE_COSINE)
        new = ~np.isin(_numbers(alike.rows, len(features)), _numbers(hashed, len(features)))
        rows = np.concatenate([hashed, alike.rows[new]])
        cosines = np.concatenate([pair_cosines(features, hashed), alike.measures[new].astype(np.float32)])
        complete &= alike.complete
    distances = np.bitwise_count(signed.phash[rows[:, 0]] ^ signed.phash[rows[:, 1]]).astype(np.int64)
    by_hash = np.arange(len(rows)) < len(hashed)
    same = by_hash | (np.nan_to_num(cosines) >= NEAR_DUPLICATE_COSINE)
    order = np.lexsort((rows[:, 1], rows[:, 0], -np.nan_to_num(cosines), distances, ~same))[:MOST_PAIRS]
    return NearImages(
        rows=rows[order],
        distances=distances[order],
        cosines=cosines[order],
        same=same[order],
        complete=complete and len(rows) <= MOST_PAIRS,
    )


def _hashed_pairs(signed: Signatures) -> tuple[Int64, bool]:
    """Row pairs int64 (P, 2) with nearly the same structure and colour, and whether these are all."""
    readable = np.flatnonzero(signed.readable)
    means = signed.colours[readable][:, _MEAN_COLUMNS]

    def share_colour(pairs: Int64) -> Bool:
        return np.asarray((np.abs(means[pairs[:, 0]] - means[pairs[:, 1]]) <= _SAME_COLOUR).all(1))

    found = hamming_pairs(signed.phash[readable], accept=share_colour)
    return readable[found.rows], found.complete


def _numbers(rows: Int64, count: int) -> Int64:
    """One number for each pair of ``count`` rows."""
    return rows[:, 0] * count + rows[:, 1]


def _described(images: ImageSet, near: NearImages) -> Iterator[AuditPair]:
    parts = images.part_names()
    for (first, second), distance, cosine, same in zip(
        near.rows.tolist(), near.distances.tolist(), near.cosines.tolist(), near.same.tolist(), strict=True
    ):
        yield AuditPair(
            kind=PairKind.NEAR_DUPLICATE if same else PairKind.LOOK_ALIKE,
            first=images.paths[first],
            second=images.paths[second],
            labels=(images.label_of(first), images.label_of(second)),
            parts=(parts[first], parts[second]),
            distance=distance,
            cosine=cosine,
        )


def _identical_pairs(images: ImageSet) -> Iterator[AuditPair]:
    parts = images.part_names()
    rows = {path: row for row, path in enumerate(images.paths)}
    crossings = {(kept, copy): (own, other) for kept, own, copy, other in images.crossings}
    for kept, copy in dict.fromkeys((*images.duplicates, *crossings)):  # a file may cross with itself
        label = images.label_of(rows[kept]) if kept in rows else ""
        part = parts[rows[kept]] if kept in rows else ""
        yield AuditPair(
            kind=PairKind.IDENTICAL,
            first=kept,
            second=copy,
            labels=(label, label),
            parts=crossings.get((kept, copy), (part, part)),
            distance=0,
            cosine=1.0,
        )


# --- findings -------------------------------------------------------------------------------------------


def _file_findings(images: ImageSet, signed: Signatures) -> Iterator[Finding]:
    listed = [file for file in images.rejected if file.reason.startswith("one file listed twice")]
    conflicts = [file for file in images.rejected if file.reason.startswith("byte-identical files carry")]
    broken = [file for file in images.rejected if file not in listed and file not in conflicts]
    lost = lost_classes(images)
    if lost:
        yield Finding(
            severity=Severity.ERROR,
            code="lost-class",
            count=len(images.rejected),
            text=lost,
            next_step="Mend or convert the files that rejected.csv lists.",
        )
    if broken:
        yield Finding(
            severity=Severity.WARNING,
            code="rejected",
            count=len(broken),
            text=f"{left_out(images, broken).rstrip('.')}, for example {broken[0].path}.",
            next_step="See rejected.csv; mend or delete them.",
        )
    if listed:
        yield Finding(
            severity=Severity.WARNING,
            code="listed-with-two-labels",
            count=len(listed),
            text=f"{len(listed)} {_plural(len(listed), 'file is', 'files are')} listed twice with different "
            f"labels and {_plural(len(listed), 'was', 'were')} left out, for example {listed[0].path}.",
            next_step="Decide which label is right and delete the other line.",
        )
    if conflicts:
        yield Finding(
            severity=Severity.WARNING,
            code="identical-with-two-labels",
            count=len(conflicts),
            text=f"{len(conflicts)} {_plural(len(conflicts), 'file')} with identical bytes carry different "
            f"labels and were left out, for example {conflicts[0].path}.",
            next_step="Decide which label is right and delete the other copy.",
        )
    for note in label_notes(images):
        yield Finding(severity=Severity.WARNING, code="reading", count=1, text=note)
    gone = int((~signed.readable).sum())
    if gone:
        yield Finding(
            severity=Severity.WARNING,
            code="unreadable",
            count=gone,
            text=f"{gone} {_plural(gone, 'image')} could not be opened again for the audit.",
            next_step="Check that the files were not moved or changed meanwhile.",
        )


def _pair_findings(images: ImageSet, pairs: list[AuditPair]) -> Iterator[Finding]:
    for kind, adjective, clause in (
        (PairKind.IDENTICAL, "byte-identical", "each counts as one image"),
        (PairKind.NEAR_DUPLICATE, "nearly identical", "both are kept"),
        (PairKind.LOOK_ALIKE, "very similar", "often pieces of one photograph"),
    ):
        own = [pair for pair in pairs if pair.kind is kind and pair.first != pair.second]
        yield from _of_pairs(Severity.INFO, kind.value, own, adjective, clause)
    conflicts = [pair for pair in pairs if pair.kind is PairKind.NEAR_DUPLICATE and pair.conflict]
    labels = conflicts[0].labels if conflicts else ("", "")
    yield from _of_pairs(
        Severity.WARNING,
        "label-conflict",
        conflicts,
        "nearly identical",
        f"but labelled {labels[0]!r} and {labels[1]!r}",
        "Look at the contact sheet and correct the labels.",
    )
    leaks = [pair for pair in pairs if pair.kind is not PairKind.LOOK_ALIKE and pair.straddles]
    yield from _given_leak_findings(images, [pair for pair in leaks if _parts_were_given(images, pair)])
    yield from _of_pairs(
        Severity.WARNING,
        "leakage",
        [pair for pair in leaks if not _parts_were_given(images, pair)],
        "(nearly) identical",
        "but on two sides of the split",
        "Use --groups auto, or --groups COLUMN|REGEX.",
    )


def _cap_findings(near: NearImages) -> Iterator[Finding]:
    if not near.complete:
        yield Finding(
            severity=Severity.WARNING,
            code="more-pairs",
            count=len(near.rows),
            text=f"So many images look alike that not every pair is listed: {len(near.rows)} of the nearest "
            "are, and counts of near-duplicates, conflicts and leaks are lower bounds.",
            next_step="Name the origin of the images with --groups COLUMN or REGEX.",
        )


def _parts_were_given(images: ImageSet, pair: AuditPair) -> bool:
    """Whether the user, not this program, put the two into different parts."""
    if pair.kind is PairKind.IDENTICAL:
        return True
    return images.split.given and not (images.split.val_drawn and "test" not in pair.parts)


def _given_leak_findings(images: ImageSet, leaks: list[AuditPair]) -> Iterator[Finding]:
    test_paths = {
        path
        for pair in leaks
        for path, part in zip((pair.first, pair.second), pair.parts, strict=True)
        if part == "test"
    }
    copies = sum(pair.kind is PairKind.IDENTICAL and pair.parts[1] == "test" for pair in leaks)
    # Nothing is left of a test part that is a copy of train: then the parts in use are not the given ones.
    size = copies + (len(images.split.test) if images.split.given else 0)
    share = len(test_paths) / size if size else 0.0
    yield from _of_pairs(
        Severity.ERROR,
        "leakage",
        leaks,
        "(nearly) identical",
        "but in different parts of the split that was given",
        "Give parts that share no photograph, or give no parts and use --groups auto.",
    )
    if share >= 0.1:
        yield Finding(
            severity=Severity.ERROR,
            code="test-seen-in-training",
            count=len(test_paths),
            text=f"THE TEST PART IS NOT A TEST: {share:.0%} of its images ({len(test_paths)} of {size}) also "
            "stand in train or val. Every test score of this split is worthless.",
            next_step="Make a new test part from photographs that nothing was trained on.",
        )


def _of_pairs(
    severity: Severity, code: str, pairs: list[AuditPair], adjective: str, clause: str, next_step: str = ""
) -> Iterator[Finding]:
    """What some pairs have in common, with the worst as the example; nothing where there are none."""
    if not pairs:
        return
    worst = min(pairs, key=_badness)
    example = f"{worst.first} and {worst.second}"
    if worst.first == worst.second:
        example = f"{worst.first}, one file that is listed in {worst.parts[0]} and in {worst.parts[1]}"
    are = _plural(len(pairs), "pair of files is", "pairs of files are")
    text = f"{len(pairs)} {are} {adjective}, {clause}: for example {example}."
    yield Finding(severity=severity, code=code, count=len(pairs), text=text, next_step=next_step)


def _class_findings(images: ImageSet) -> Iterator[Finding]:
    sizes = images.class_sizes()
    small = sorted((size, name) for name, size in sizes.items() if size < 2 * FOLDS)
    if small:
        yield Finding(
            severity=Severity.ERROR if small[0][0] < FOLDS else Severity.WARNING,
            code="small-class",
            count=len(small),
            text=f"{len(small)} of {len(sizes)} classes {_plural(len(small), 'has', 'have')} fewer than "
            f"{2 * FOLDS} images ({abridged([f'{name} {size}' for size, name in small])}): too few for "
            f"{FOLDS} folds and a test part, such scores are anecdotes.",
            next_step="Collect more images of them, or leave them out.",
        )
    most, least = max(sizes, key=lambda name: sizes[name]), min(sizes, key=lambda name: sizes[name])
    if sizes[least] and sizes[most] / sizes[least] >= _IMBALANCE:
        ratio = sizes[most] / sizes[least]
        yield Finding(
            severity=Severity.WARNING,
            code="imbalance",
            count=len(sizes),
            text=f"{most!r} has {ratio:.0f} times as many images as {least!r} ({sizes[most]} and "
            f"{sizes[least]}): accuracy says little, read F1 and the per-class scores.",
            next_step="Consider --class-weight balanced.",
        )
    if len(images) < _FEW_IMAGES:
        yield Finding(
            severity=Severity.WARNING,
            code="few-images",
            count=len(images),
            text=f"{len(images)} images are few: expect wide intervals and few separable backbones.",
        )


def torn_group_findings(images: ImageSet) -> Iterator[Finding]:
    """Groups that given parts tear apart: whatever a protocol does, its scores see their siblings."""
    if images.groups is None or not images.split.given:
        return
    groups = images.groups
    torn = _torn_groups(images, groups)
    if len(torn):
        rows = int(np.isin(groups, torn).sum())
        first = images.paths[int(np.flatnonzero(groups == torn[0])[0])]
        yield Finding(
            severity=Severity.ERROR,
            code="torn-groups",
            count=len(torn),
            text=f"{len(torn)} of {len(np.unique(groups))} groups ({rows} of {len(images)} images) "
            f"stand in several of the parts that were given, for example that of {first}: scores see "
            "relatives of the images that heads learned from.",
            next_step="Give parts that keep each group whole, or give no parts.",
        )


def _torn_groups(images: ImageSet, groups: Int64) -> Int64:
    """Numbers of the groups that stand in several given parts; a val part that we drew counts as train."""
    parts = images.split.part_numbers(len(images))
    if images.split.val_drawn:
        parts = np.where(parts == 1, 0, parts)
    names, numbers = np.unique(groups, return_inverse=True)
    first, last = np.full(len(names), 3), np.full(len(names), -1)
    np.minimum.at(first, numbers, parts)
    np.maximum.at(last, numbers, parts)
    torn: Int64 = names[first != last]
    return torn


def _sequence_findings(images: ImageSet, signed: Signatures) -> Iterator[Finding]:
    if images.groups is not None:
        return
    folders = sequence_folders(images, signed)
    if not folders:
        return
    harm = "; a random split puts them on both sides and flatters every score."
    next_step = "Use --groups auto."
    if images.split.given:
        harm = ", and the parts that were given separate them: every score is flattered."
        next_step = "Give parts that keep related pictures together, or give no parts and use groups."
    yield Finding(
        severity=Severity.WARNING,
        code="sequences",
        count=len(folders),
        text=f"In {len(folders)} {_plural(len(folders), 'folder')} (for example {folders[0]}) neighbouring "
        f"file names show related pictures{harm}",
        next_step=next_step,
    )


def _plural(count: int, one: str, many: str = "") -> str:
    return one if count == 1 else many or f"{one}s"
