"""From a folder or CSV to an ImageSet."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmark.cells import abridged, printable
from benchmark.data.bit_depth import find_bit_depth
from benchmark.data.decode import FULL_DEPTH, beyond_depth, decoder_version
from benchmark.data.fetching import fetched
from benchmark.data.folders import list_below, list_folder
from benchmark.data.grouping import join_groups, name_groups, number_groups
from benchmark.data.index import Index
from benchmark.data.known_labels import KnownLabels
from benchmark.data.listing import Entry, Listing, SplitPart, part_named
from benchmark.data.reading import lost_by_label, reasons_of
from benchmark.data.scan import Scanner
from benchmark.data.split import check_enough, order_key, split_images
from benchmark.data.tables import list_table
from benchmark.drawing import fair_order
from benchmark.errors import ArgumentError, DataError
from benchmark.locations import is_copy
from benchmark.memory import give_back_memory
from benchmark.options import DataOptions
from benchmark.records import ImageSet, Int64, Observer, Rejected, Silent, Split, Task

_DEFAULTS = DataOptions()
_TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
POSITIVE_NAMES: Final = frozenset(
    {"positive", "pos", "defect", "defects", "defective", "crack", "cracks", "cracked", "true", "yes", "1"}
)


def load_images(
    source: Path,
    *,
    cache: Path,
    options: DataOptions = _DEFAULTS,
    known: KnownLabels | None = None,
    observer: Observer | None = None,
) -> ImageSet:
    """Find, read, check, label, group and split the images of a folder or CSV.

    Args:
        source: ``DATA/<class>/*``, ``DATA/{train,val,test}/<class>/*`` or a CSV of
            ``path,label[,split][,group]``.
        cache: folder whose ``index`` remembers ids and decodability by path, size, times and inode.
        options: how.
        known: labels of a model that shall be scored on these images. They then decide classes, task and
            positive class; the images need not show every class and are not split: all are test images.
        observer: told how far the scan is.

    Returns:
        The images, one row per distinct content, sorted by image id.

    Raises:
        DataError: no usable images, one class only, a class too small to split, an unreadable CSV, a label
            that is not ``known``, or (``strict``) any rejected file.
        ArgumentError: ``options.positive`` or ``options.groups`` names nothing.
    """
    with fetched(source, is_table=_is_table(source), observer=observer) if is_copy(source) else nullcontext():
        resolved = _existing(source)
        listing = _listing(resolved, options, ask=known is None)
    if known is not None:
        listing = _parts_of_folders(listing, known) if resolved.is_dir() else listing
        _check_known(listing, known)
    if options.no_groups:
        entries = tuple(dataclasses.replace(entry, group=None) for entry in listing.entries)
    else:
        entries = name_groups(listing, options.group_rule)
    listing = dataclasses.replace(listing, entries=entries)
    index = Index.load(cache / "index", str(resolved), f"{decoder_version()}|{options.max_pixels}")
    merged = _merged(listing, index, options, observer)
    images = _assemble(listing, merged, options, known)
    del listing, merged, index
    give_back_memory()
    return images


def _merged(listing: Listing, index: Index, options: DataOptions, observer: Observer | None) -> _Merge:
    """Every file looked at, and those of equal content brought together."""
    paths = sorted({entry.path for entry in listing.entries})
    scanner = Scanner(
        root=str(listing.root),
        index=index,
        max_pixels=options.max_pixels,
        jobs=options.jobs,
        observer=observer or Silent(),
    )
    findings = dict(zip(paths, scanner.scan(paths), strict=True))
    merged = _Merge()
    merged.bit_depth, merged.depth_notes = find_bit_depth(
        [finding.peak for finding in findings.values() if not finding.reason], options.bit_depth
    )
    for entry in sorted(listing.entries, key=lambda entry: (entry.part or SplitPart.TRAIN, entry.path)):
        finding = findings[entry.path]
        reason = finding.reason or beyond_depth(finding.peak, merged.bit_depth)
        merged.add(entry, finding.image_id, reason)
    return merged


def regroup(images: ImageSet, groups: Int64, *, seed: int) -> ImageSet:
    """The same images with other groups, and so with other parts where we drew them.

    Args:
        images: the images.
        groups: int64 (N,) group numbers of any values.
        seed: of the drawing.

    Raises:
        DataError: a class has too few groups to split.
    """
    numbers = number_groups(groups.tolist())
    parts = _given_parts(images.split, len(images))
    check_enough(images.classes, images.targets, numbers, parts)
    split = split_images(images.image_ids, images.targets, groups=numbers, parts=parts, seed=seed)
    return dataclasses.replace(images, groups=numbers, split=split)


def _given_parts(split: Split, count: int) -> list[SplitPart] | None:
    """The parts as the user gave them: a val part that we drew counts as train again."""
    if not split.given:
        return None
    parts = [SplitPart.TRAIN] * count
    for rows, part in ((split.val, SplitPart.VAL), (split.test, SplitPart.TEST)):
        for row in rows:
            parts[row] = SplitPart.TRAIN if part is SplitPart.VAL and split.val_drawn else part
    return parts


def dataset_name(source: Path) -> str:
    """The name of a data set, as ``load_images`` gives it: the folder's, or the CSV's without its ending.

    Raises:
        DataError: there is nothing of that name.
    """
    if is_copy(source):
        return source.stem if _is_table(source) else source.name
    found = _existing(source)
    return (found.name if found.is_dir() else found.stem) or "data"


def images_root(source: Path) -> Path:
    """The folder that paths of images start from: that of a CSV of images, or the data folder itself.

    It is that of ``load_images``, and need not be there any more.
    """
    # Whoever reads says what is wrong with it, for example links in a circle.
    with suppress(OSError, RuntimeError, ValueError):
        source = source.resolve()
    return source.parent if _is_table(source) and not source.is_dir() else source


def files_of(source: Path) -> list[Path]:
    """The images that lie below a folder, or that a CSV names; none of them is opened.

    Raises:
        DataError: there is no such folder or CSV, or the CSV cannot be read.
    """
    found = _existing(source)
    if found.is_dir():
        return [found / file.path for file in list_below(found, follow_links=True)[0] if not file.reason]
    listing = list_table(found, group_column=None, follow_links=True)
    return [listing.root / entry.path for entry in listing.entries]


def _existing(source: Path) -> Path:
    try:
        return source.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            "no such folder or CSV",
            where=source,
            expected="a folder of labelled images or a CSV",
            next_step=_nearby(source),
        ) from error


def _nearby(source: Path) -> str:
    """A hint at what may have been meant."""
    try:
        names = [path.name for path in source.absolute().parent.iterdir()]
    except (OSError, ValueError):
        return f"The folder {source.parent} does not exist either."
    near = difflib.get_close_matches(source.name, names, n=3)
    return (
        f"Did you mean {' or '.join(str(source.parent / name) for name in near)}?"
        if near
        else "Check the path."
    )


def _listing(source: Path, options: DataOptions, *, ask: bool) -> Listing:
    if source.is_dir():
        return list_folder(source, follow_links=options.follow_links, layout=options.layout, ask=ask)
    if _is_table(source):
        return list_table(source, group_column=options.group_rule, follow_links=options.follow_links)
    raise DataError(
        "neither a folder nor a CSV", where=source, expected="a folder of labelled images, a .csv or a .tsv"
    )


def _is_table(source: Path) -> bool:
    return source.suffix.lower() in _TABLE_SUFFIXES


def _check_known(listing: Listing, known: KnownLabels) -> None:
    """See that a model can be scored on these labels.

    Raises:
        DataError: other labels than the model's, or several of one image where the model decides for one.
    """
    found = {label for entry in listing.entries for label in entry.labels}
    unknown = sorted(found - set(known.classes))
    if unknown:
        raise DataError(
            "a label that the model does not know",
            where=listing.root,
            expected=abridged(known.classes, 20),
            got=abridged(unknown, 20),
            next_step=_nested_hint(listing.root, unknown)
            or "Name the class folders (or the labels of the CSV) as the model does, or leave them out.",
        )
    crowded = next((entry for entry in listing.entries if len(entry.labels) > 1), None)
    if crowded is not None and known.task is not Task.MULTILABEL:
        raise DataError(
            "an image with several labels, where the model decides for one class",
            where=listing.root / crowded.path,
            got=_text(crowded.labels),
        )


def _parts_of_folders(listing: Listing, known: KnownLabels) -> Listing:
    """``DATA/test/<class>/*`` without a train part, which was listed with ``test`` as the class."""
    labels = {label for entry in listing.entries for label in entry.labels if entry.part is None}
    if not labels or any(part_named(label) is None for label in labels) or labels & set(known.classes):
        return listing
    entries, rejected = [], list(listing.rejected)
    for entry in listing.entries:
        part, *folders, _ = entry.path.split("/")
        if folders:
            entries.append(Entry(entry.path, (printable(folders[0]),), part_named(part)))
        else:
            rejected.append(Rejected(path=entry.path, reason="outside of any class folder"))
    rejected = [dataclasses.replace(file, labels=tuple(file.path.split("/")[1:-1][:1])) for file in rejected]
    return dataclasses.replace(listing, entries=tuple(entries), rejected=tuple(rejected))


@dataclass(slots=True)
class _Merge:
    """Entries brought together by content."""

    files: dict[str, list[Entry]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    repeats: int = 0
    bit_depth: int = FULL_DEPTH
    depth_notes: tuple[str, ...] = ()

    def add(self, entry: Entry, image_id: str, reason: str) -> None:
        """Take in one entry."""
        if reason:
            self.rejected.append(Rejected(path=entry.path, reason=reason, labels=entry.labels))
        else:
            known = self.files.setdefault(image_id, [])
            if entry in known:  # a CSV may name a file twice
                self.repeats += 1
            else:
                known.append(entry)

    def drop_conflicts(self) -> None:
        """Reject images whose files carry different labels."""
        for image_id, entries in list(self.files.items()):
            labels = sorted({_text(entry.labels) for entry in entries})
            if len(labels) > 1:
                once = len({entry.path for entry in entries}) == 1
                what = "one file listed twice with" if once else "byte-identical files carry"
                reason = f"{what} different labels: {', '.join(labels)}"
                self.rejected += [
                    Rejected(path=entry.path, reason=reason, labels=entry.labels) for entry in entries
                ]
                del self.files[image_id]

    def drop_unlabelled(self) -> None:
        """Reject images without a label, where labels exclude each other."""
        for image_id, entries in list(self.files.items()):
            if not entries[0].labels:
                self.rejected += [Rejected(path=entry.path, reason="no label") for entry in entries]
                del self.files[image_id]


def _text(labels: Sequence[str]) -> str:
    return ";".join(labels) or "(none)"


def _assemble(listing: Listing, merged: _Merge, options: DataOptions, known: KnownLabels | None) -> ImageSet:
    labels = known or _own_labels(listing)
    several = labels.task is Task.MULTILABEL
    merged.drop_conflicts()
    if not several:
        merged.drop_unlabelled()
    rejected = _each_once((*listing.rejected, *merged.rejected))
    classes = labels.classes
    _check(listing, len(merged.files), rejected, options)
    if known is None:
        _check_several_classes(listing, len(merged.files), classes, rejected)
        _check_none_lost(listing, merged.files.values(), classes, rejected)
    files = _limited(merged.files, options)
    image_ids = tuple(sorted(files))
    kept = [files[image_id][0] for image_id in image_ids]
    targets = _targets(kept, classes, several=several)
    groups = _groups([files[image_id] for image_id in image_ids])
    if known is None:
        parts = _parts(kept)
        check_enough(classes, targets, groups, parts, lost_by_label(rejected))
        split = split_images(image_ids, targets, groups=groups, parts=parts, seed=options.seed)
    else:
        split = _unsplit(len(kept))
    return ImageSet(
        name=listing.name,
        root=listing.root,
        paths=tuple(entry.path for entry in kept),
        image_ids=image_ids,
        targets=targets,
        classes=classes,
        task=labels.task,
        positive=known.positive if known else _positive(classes, options.positive, labels.task),
        groups=groups,
        split=split,
        rejected=rejected,
        duplicates=tuple(_duplicates(files.values())),
        crossings=tuple(_crossings(files.values())),
        files=len({each.path for each in listing.entries} | {each.path for each in listing.rejected}),
        notes=(*listing.notes, *_repeats_note(merged.repeats), *merged.depth_notes),
        bit_depth=merged.bit_depth,
    )


def _each_once(rejected: Iterable[Rejected]) -> tuple[Rejected, ...]:
    """Each path and reason once, with all labels that it was listed under, sorted."""
    labels: dict[tuple[str, str], set[str]] = {}
    for file in rejected:
        labels.setdefault((file.path, file.reason), set()).update(file.labels)
    return tuple(
        Rejected(path=path, reason=reason, labels=tuple(sorted(labels[path, reason])))
        for path, reason in sorted(labels)
    )


def _repeats_note(repeats: int) -> tuple[str, ...]:
    if not repeats:
        return ()
    said = "1 line of the CSV says" if repeats == 1 else f"{repeats:,} lines of the CSV say"
    return (f"{said} again what others say.",)


def _own_labels(listing: Listing) -> KnownLabels:
    """What the images themselves say; the positive class is found later."""
    # A class of which every file was refused is still a class: its loss must be said, not hidden.
    refused = {label for file in listing.rejected for label in file.labels}
    classes = tuple(sorted({label for entry in listing.entries for label in entry.labels} | refused))
    several = any(len(entry.labels) > 1 for entry in listing.entries)
    task = Task.MULTILABEL if several else Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    return KnownLabels(classes=classes, task=task, positive=None)


def _parts(kept: Sequence[Entry]) -> list[SplitPart] | None:
    """The parts that the user gave; train alone is no split."""
    parts = [entry.part or SplitPart.TRAIN for entry in kept]
    return None if kept[0].part is None or set(parts) == {SplitPart.TRAIN} else parts


def _unsplit(count: int) -> Split:
    """Everything is there to be tested on."""
    none = np.zeros(0, np.int64)
    return Split(train=none, val=none, test=np.arange(count, dtype=np.int64), given=True)


def _check(listing: Listing, files: int, rejected: Sequence[Rejected], options: DataOptions) -> None:
    if options.strict and rejected:
        first = rejected[0]
        raise DataError(
            f"{len(rejected)} rejected files, the first because: {first.reason}",
            where=listing.root / first.path,
            next_step="Mend or remove them, or run without `strict` to leave them out.",
        )
    if not files:
        raise DataError(
            "no usable images",
            where=listing.source,
            got=f"{_left_out(rejected)}, for example {rejected[0].path}" if rejected else "none",
        )


def _check_none_lost(
    listing: Listing, files: Iterable[Sequence[Entry]], classes: Sequence[str], rejected: Sequence[Rejected]
) -> None:
    """See that no class lost all of its files.

    Raises:
        DataError: names the class and why its files were left out.
    """
    left = {label for entries in files for label in entries[0].labels}
    lost = lost_by_label(rejected)
    gone = [name for name in classes if name not in left]
    if gone:
        raise DataError(
            "every file of a class was left out",
            where=listing.root,
            expected=f"usable images of {'class' if len(gone) == 1 else 'classes'} {abridged(gone, 20)}",
            got=_left_out([file for name in gone for file in lost.get(name, ())]),
            next_step="Convert or mend these files, or remove the class.",
        )


def _left_out(rejected: Sequence[Rejected]) -> str:
    """How many files were left out and why, for an error."""
    count = len({file.path for file in rejected})
    return f"{count:,} {'file' if count == 1 else 'files'} left out ({reasons_of(rejected)})"


def _check_several_classes(
    listing: Listing, files: int, classes: Sequence[str], rejected: Sequence[Rejected]
) -> None:
    if len(classes) < 2:
        left_out = f"; {_left_out(rejected)}" if rejected else ""
        raise DataError(
            "only one class of images",
            where=listing.root,
            expected="at least two classes, each a sub-folder (or a label of the CSV)",
            got=f"{', '.join(classes) or 'none'} ({files} images{left_out})",
            next_step=_nested_hint(listing.root, classes) or "Add images that belong to the other class.",
        )


def _nested_hint(root: Path, labels: Sequence[str]) -> str:
    """A hint where the folder of a label holds several folders itself; else nothing."""
    inner = root / labels[0] if labels else root
    try:
        nested = sum(path.is_dir() for path in inner.iterdir())
    except OSError:
        nested = 0
    return f"Did you mean {inner}?" if nested > 1 else ""


def _limited(files: dict[str, list[Entry]], options: DataOptions) -> dict[str, list[Entry]]:
    """At most ``limit`` images, each stratum (part and labels) in proportion, by the order of a drawing."""
    if options.limit is None or len(files) <= options.limit:
        return files
    # From the end: the beginning is the test part of the whole set, which must not choose backbones.
    drawn = sorted(files, key=lambda image_id: order_key(options.seed, image_id), reverse=True)
    kinds = [(int(files[one][0].part or SplitPart.TRAIN), files[one][0].labels) for one in drawn]
    number = {kind: place for place, kind in enumerate(sorted(set(kinds)))}
    order = fair_order(np.array([number[kind] for kind in kinds], np.int64))
    return {drawn[place]: files[drawn[place]] for place in order[: options.limit].tolist()}


def _targets(kept: Sequence[Entry], classes: Sequence[str], *, several: bool) -> Int64:
    """int64 (N,) class positions; (N, C) of 0 and 1 where images have several labels."""
    position = {name: number for number, name in enumerate(classes)}
    if not several:
        return np.array([position[entry.labels[0]] for entry in kept], np.int64)
    targets = np.zeros((len(kept), len(classes)), np.int64)
    for row, entry in enumerate(kept):
        targets[row, [position[label] for label in entry.labels]] = 1
    return targets


def _positive(classes: Sequence[str], wanted: str | None, task: Task) -> int | None:
    """Position of the positive class: the one asked for, else the one named like it, else the second."""
    if wanted is not None and wanted not in classes:
        near = difflib.get_close_matches(wanted, classes, n=2, cutoff=0.4)
        raise ArgumentError(
            "no such class",
            where="`positive`",
            expected=f"one of {', '.join(classes)}",
            got=wanted,
            next_step=f"Did you mean {' or '.join(near)}?" if near else "",
        )
    if task is not Task.BINARY:
        return None
    if wanted is not None:
        return classes.index(wanted)
    named = [number for number, name in enumerate(classes) if name.lower() in POSITIVE_NAMES]
    return named[0] if len(named) == 1 else 1


def _groups(files: Sequence[Sequence[Entry]]) -> Int64 | None:
    """int64 (N,) group numbers; None when no file names a group."""
    memberships = [sorted({entry.group for entry in entries if entry.group is not None}) for entries in files]
    return number_groups(join_groups(memberships)) if any(memberships) else None


def _duplicates(files: Iterable[Sequence[Entry]]) -> list[tuple[str, str]]:
    return sorted(
        {
            (entries[0].path, other.path)
            for entries in files
            for other in entries[1:]
            if other.path != entries[0].path
        }
    )


def _crossings(files: Iterable[Sequence[Entry]]) -> list[tuple[str, str, str, str]]:
    return sorted(
        (entries[0].path, entries[0].part.name.lower(), other.path, other.part.name.lower())
        for entries in files
        for other in entries[1:]
        if entries[0].part is not None and other.part is not None and other.part is not entries[0].part
    )
