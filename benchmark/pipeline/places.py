"""Which folder of ``results`` belongs to which data set.

A data set's folder has its name. A file in it says whose it is: two data sets of one name must not overwrite
each other's boards and models, while one that grew, moved or was split otherwise is still the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from benchmark.locations import spelled
from benchmark.records import ImageSet, Observer
from benchmark.storage import place, read_json, write_whole

OWNER_FILE = "dataset.json"
_SAMPLE = 256  # smallest image ids that are remembered
_ID_DIGITS = 16
_SHORT, _LONG = 8, 32
_ENDING = f"-[0-9a-f]{{{_SHORT}}}([0-9a-f]{{{_LONG - _SHORT}}})?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose results a folder holds: ``dataset.json``.

    Attributes:
        source: absolute folder or CSV.
        fingerprint: ``ImageSet.fingerprint()`` of the latest run that wrote here.
        images: their number.
        sample: the first digits of the smallest image ids. Ids are digests, so that the smallest ones are a
            random sample of the images, and the same one wherever the same images lie.
    """

    source: str
    fingerprint: str
    images: int
    sample: tuple[str, ...]

    @classmethod
    def of(cls, images: ImageSet, source: Path) -> Owner:
        """The owner that a data set is."""
        return cls(
            source=spelled(source),
            fingerprint=images.fingerprint(),
            images=len(images),
            sample=tuple(name[:_ID_DIGITS] for name in islice(images.image_ids, _SAMPLE)),
        )

    def is_same(self, other: Owner) -> bool:
        """Whether two are one data set: from the same place, or made of the same images for the most part."""
        if self.source == other.source:
            return True
        # Beyond the last id of a sample that is not the whole set, nothing is known.
        reach = min((one.sample[-1] for one in (self, other) if len(one.sample) < one.images), default="g")
        mine, theirs = ({name for name in one.sample if name <= reach} for one in (self, other))
        common = len(mine & theirs)
        return common > 0 and 2 * common >= min(len(mine), len(theirs))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsFolder:
    """Where a data set's results go.

    Attributes:
        results: folder of all results.
        path: ``results/<name>``, or ``results/<name>-<digits>`` where that is another data set's.
        note: for the reader, where the folder has not the data set's name; else empty.
        owner: what ``claim`` writes down.
    """

    results: Path
    path: Path
    note: str
    owner: Owner

    def claim(self, observer: Observer) -> None:
        """Write down whose folder it is, and tell where it has not the data set's name.

        Raises:
            StorageError: the folder cannot be written.
        """
        if self.note:
            observer.message(self.note)
        if _owner(self.path) != self.owner:
            content = json.dumps(asdict(self.owner), indent=1).encode()
            write_whole(self.path / OWNER_FILE, content + b"\n", root=self.results)


def results_folder(results: Path, images: ImageSet, source: Path) -> ResultsFolder:
    """The folder of a data set's results; nothing is written yet.

    Args:
        results: folder of all results.
        images: the data set.
        source: the folder or CSV that it was read from.
    """
    owner = Owner.of(images, source)
    plain = place(results, images.name)
    taken = _owner(plain)
    own = next((path for path in _folders(plain) if (there := _owner(path)) and there.is_same(owner)), None)
    if own is None:
        own = plain if taken is None else _new_name(plain, owner)
    note = "" if own == plain or taken is None else _note(own, plain, taken)
    return ResultsFolder(results=results, path=own, note=note, owner=owner)


def stored_folders(results: Path, name: str, source: Path) -> tuple[Path, ...]:
    """Folders that may hold the results of a data set whose images have not been read: likeliest first."""
    wanted = spelled(source)
    folders = tuple(_folders(place(results, name)))
    owned = tuple(path for path in folders if (there := _owner(path)) and there.source == wanted)
    return owned or folders


def _folders(plain: Path) -> Iterator[Path]:
    """``results/<name>``, whether it is there or not, and those that were named after it."""
    yield plain
    if plain.parent.is_dir():
        named = re.compile(re.escape(plain.name) + _ENDING)
        yield from sorted(path for path in plain.parent.iterdir() if named.fullmatch(path.name))


def _new_name(plain: Path, owner: Owner) -> Path:
    short = plain.with_name(f"{plain.name}-{owner.fingerprint[:_SHORT]}")
    return plain.with_name(f"{plain.name}-{owner.fingerprint[:_LONG]}") if short.exists() else short


def _note(own: Path, plain: Path, taken: Owner) -> str:
    return f"{plain} holds the results of other images ({taken.source}): those of these images go to {own}."


def _owner(folder: Path) -> Owner | None:
    """What stands in ``dataset.json``; None where there is none that can be understood."""
    try:
        stored = read_json(folder / OWNER_FILE)
        return Owner(
            source=str(stored["source"]),
            fingerprint=str(stored["fingerprint"]),
            images=int(stored["images"]),
            sample=tuple(map(str, stored["sample"])),
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
