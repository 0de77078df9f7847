"""What was read of a data set, in words: how many images of which classes, and what was left out and why."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from benchmark.cells import abridged
from benchmark.records import ImageSet, Observer, Rejected, Task

_TASK = "data"
_MOST_CLASSES = 6
_MOST_REASONS = 3
# A class that lost a larger share of its files than this is no longer the class that somebody collected.
_LOST_SHARE = 0.5
_MISSING = frozenset(
    {"nan", "none", "null", "n/a", "na", "<na>", "#n/a", "missing", "unlabelled", "unlabeled"}
)


def reading_summary(images: ImageSet) -> str:
    """One line: images, copies, classes with the positive one, parts, groups, files left out."""
    copies, lost = len(images.duplicates), len(_paths(images.rejected))
    read = max(images.files - lost, len(images) + copies)
    beyond = read - len(images) - copies
    aside = [
        *([_count(copies, "copy", "copies")] if copies else []),
        *([f"{beyond:,} beyond the limit"] if beyond else []),
    ]
    without = f" ({' and '.join(aside)} left out)" if aside else ""
    split = images.split
    parts = [("train", split.train), ("val", split.val), ("test", split.test)]
    shares = [f"{name} {len(rows):,}" for name, rows in parts if len(rows)]
    told = [
        f"{_count(read, 'image')} read{without}, {_classes(images)}",
        # All in one part means that nothing was split.
        *([", ".join(shares)] if len(shares) > 1 else []),
        *([] if images.groups is None else [_count(len(np.unique(images.groups)), "group")]),
        *([f"{_count(lost, 'file')} left out, see rejected.csv"] if lost else []),
    ]
    return "; ".join(told)


def _classes(images: ImageSet) -> str:
    sizes = images.class_sizes()
    one, several = ("label", "labels") if images.task is Task.MULTILABEL else ("class", "classes")
    if len(sizes) > _MOST_CLASSES:
        by_size = sorted(sizes, key=lambda name: (sizes[name], name))
        fewest, most = by_size[0], by_size[-1]
        return f"{len(sizes)} {several} of {sizes[fewest]:,} ({fewest}) to {sizes[most]:,} ({most}) images"
    positive = None if images.positive is None else images.classes[images.positive]
    named = (f"{name} {size:,}{' (positive)' if name == positive else ''}" for name, size in sizes.items())
    return f"{_count(len(sizes), one, several)}: {', '.join(named)}"


def reading_notes(images: ImageSet) -> tuple[str, ...]:
    """What a reader of any score must know about what was read; one line per kind."""
    lost = (left_out(images, images.rejected), lost_classes(images))
    return tuple(filter(None, (*lost, *label_notes(images))))


def label_notes(images: ImageSet) -> tuple[str, ...]:
    """What is odd about labels and parts, and about the way in which they were read."""
    found = (_unlearnable(images), _untested(images), *_odd_names(images.classes), *images.notes)
    return tuple(filter(None, found))


def tell_reading(images: ImageSet, observer: Observer) -> None:
    """Say what was read, and what was left out, before hours of work on it."""
    observer.started(_TASK, len(images))
    observer.finished(_TASK, reading_summary(images))
    for line in reading_notes(images):
        observer.message(line)


def left_out(images: ImageSet, rejected: Sequence[Rejected]) -> str:
    """One line on files that were left out, by reason; empty where there are none.

    Args:
        images: the data set.
        rejected: its rejected files, or some of them.
    """
    lost = len(_paths(rejected))
    if not lost:
        return ""
    total = max(images.files, len(images) + len(images.duplicates) + len(_paths(images.rejected)))
    return f"{lost:,} of {_count(total, 'file')} left out ({reasons_of(rejected)})."


def _paths(rejected: Iterable[Rejected]) -> set[str]:
    return {file.path for file in rejected}


def reasons_of(rejected: Iterable[Rejected]) -> str:
    """The most frequent reasons with their counts: ``12 .heic: not a supported format``."""
    kinds: dict[str, dict[str, str]] = {}
    for file in rejected:
        # What follows a colon is about the single file.
        kinds.setdefault(file.reason.partition(": ")[0], {})[file.path] = _ending(file.path)
    by_count = sorted(kinds.items(), key=lambda kind: (-len(kind[1]), kind[0]))
    shown = [f"{_counted(files.values())}: {reason}" for reason, files in by_count[:_MOST_REASONS]]
    more = [ending for _, files in by_count[_MOST_REASONS:] for ending in files.values()]
    return "; ".join([*shown, *([f"{_counted(more)} for other reasons"] if more else [])])


def _ending(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _counted(endings: Iterable[str]) -> str:
    """``12 .heic, 1 .dcm`` where few endings occur, else their number alone."""
    counts = Counter(endings)
    if len(counts) > _MOST_REASONS or "" in counts:
        return f"{counts.total():,}"
    return ", ".join(f"{count:,} {ending}" for ending, count in counts.most_common())


def ignored_files(endings: Counter[str]) -> str:
    """One line on files that are no images, by ending; empty where there are none."""
    if not endings:
        return ""
    shown = [
        f"{count:,} {ending or 'without ending'}" for ending, count in endings.most_common(_MOST_CLASSES)
    ]
    more = endings.total() - sum(count for _, count in endings.most_common(_MOST_CLASSES))
    shown += [f"{more:,} others"] if more else []
    verb = "is no image and was" if endings.total() == 1 else "are no images and were"
    return f"{_count(endings.total(), 'file')} in class folders {verb} not looked at ({', '.join(shown)})."


def lost_by_label(rejected: Iterable[Rejected]) -> dict[str, list[Rejected]]:
    """Files that were left out, each path once, by the label that they stood under."""
    lost: dict[str, dict[str, Rejected]] = {}
    for file in rejected:
        for label in file.labels:
            lost.setdefault(label, {})[file.path] = file
    return {label: list(files.values()) for label, files in lost.items()}


def lost_classes(images: ImageSet) -> str:
    """One line on classes of which most files were left out; empty where there are none."""
    sizes, lost = images.class_sizes(), lost_by_label(images.rejected)
    gone = {
        name: files
        for name, files in lost.items()
        if name in sizes and len(files) > _LOST_SHARE * (len(files) + sizes[name])
    }
    if not gone:
        return ""
    counts = [f"{name} {len(files):,} of {len(files) + sizes[name]:,}" for name, files in gone.items()]
    what = "A CLASS LOST MOST OF ITS FILES" if len(gone) == 1 else "CLASSES LOST MOST OF THEIR FILES"
    why = reasons_of(file for files in gone.values() for file in files)
    return f"{what}: {abridged(counts)} ({why}). Scores rest on what is left."


def _unlearnable(images: ImageSet) -> str:
    """One line on labels that stand only in given val or test parts; empty where there are none."""
    split = images.split
    if images.task is not Task.MULTILABEL or not len(split.train):
        return ""
    # Between exclusive classes such a class is an error long before.
    unseen = [name for name, count in images.class_sizes(split.train).items() if not count]
    return f"Only in val or test, so that nothing can be learned of it: {abridged(unseen)}." if unseen else ""


def _untested(images: ImageSet) -> str:
    """One line on classes that the given test part does not show; empty where there are none."""
    split = images.split
    if not split.given or not len(split.train) or not len(split.test):
        return ""
    absent = [name for name, count in images.class_sizes(split.test).items() if not count]
    return f"Absent from test, so that test scores say nothing of it: {abridged(absent)}." if absent else ""


def _odd_names(classes: Sequence[str]) -> Iterator[str]:
    """Lines on class names that are probably missing values, or the same class written twice."""
    missing = [name for name in classes if name.strip().casefold() in _MISSING]
    if missing:
        yield f"Classes named like missing values: {abridged(missing)}. Label such images or leave them out."
    alike: dict[object, list[str]] = {}
    for name in classes:
        alike.setdefault(_plainly(name), []).append(name)
    twice = [" / ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    if twice:
        yield f"Classes whose names hardly differ: {abridged(twice)}. Are they one class?"


def _plainly(name: str) -> object:
    """What is left of a class name without case, accents' spelling, spaces and decimals."""
    plain = re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name).casefold())
    try:
        return float(plain)
    except ValueError:
        return plain


def _count(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
