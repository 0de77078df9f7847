"""``DATA/<class>/*`` and ``DATA/{train,val,test}/<class>/*``: folders to a listing."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from benchmark.cells import abridged, printable
from benchmark.data.decode import HEADER_BYTES, OPTIONAL_SUFFIXES, foreign_suffix, sniff
from benchmark.data.files import reason_of
from benchmark.data.listing import Entry, Listing, SplitPart, near_part, part_named
from benchmark.data.reading import ignored_files
from benchmark.errors import DataError
from benchmark.records import Layout, Rejected

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"}
    | OPTIONAL_SUFFIXES
)
_OTHER_IMAGE_SUFFIXES = frozenset(
    {".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".svg", ".psd", ".ico", ".ppm", ".pgm", ".pbm"}
    | {".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".pdf"}
    | {".dcm", ".dicom", ".nii", ".npy", ".npz"}
)
# Companions of images that are known not to be images: not worth opening.
_OTHER_SUFFIXES = frozenset(
    {".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".yaml", ".yml", ".html", ".db", ".ini", ".zip"}
)
_PLUMBING = frozenset({"__MACOSX", "@eaDir", "__pycache__"})
_NO_FOLDERS = "a folder with one sub-folder of images per class, train/val/test folders of those, or a CSV"


def list_folder(root: Path, *, follow_links: bool, layout: Layout, ask: bool) -> Listing:
    """List a data folder.

    Args:
        root: absolute, resolved, existing folder.
        follow_links: whether links may lead outside it.
        layout: whether top-level folders may be parts.
        ask: stop where they could be either; not where a model knows the classes.

    Raises:
        DataError: no folder of a class holds any image, or it is not clear which folders are classes.
    """
    walk = _Walk(root=str(root), follow_links=follow_links)
    top = walk.folders("")
    notes: list[str] = []
    parts = {} if layout is Layout.CLASSES else _part_folders(walk, top)
    if parts:
        for name in top:
            if name not in parts:
                near = near_part(name)
                hint = f"; {near}?" if near else ""
                walk.reject_all([name], f"outside of the train, val and test folders{hint}")
        entries = [entry for name, part in parts.items() for entry in walk.classes(name, part)]
    else:
        if ask and layout is Layout.AUTO:
            _ask_back(walk, root, top)
            notes = [_named_like_a_part(name) for name in top if part_named(name) is not None]
        entries = walk.classes("", None)
    ignored = ignored_files(walk.ignored)
    if not entries and not walk.rejected:
        raise DataError(
            "no images",
            where=root,
            expected=_NO_FOLDERS,
            got=ignored.rstrip("."),
            next_step=_nested_hint(walk, top),
        )
    return Listing(
        name=root.name or "data",
        source=root,
        root=root,
        entries=tuple(entries),
        rejected=tuple(walk.rejected),
        notes=(*notes, *([ignored] if ignored else [])),
    )


def is_never_read(path: str) -> bool:
    """Whether a file's name says that nobody looks into it."""
    suffix = _suffix(path)
    return suffix not in IMAGE_SUFFIXES and suffix in _OTHER_IMAGE_SUFFIXES | _OTHER_SUFFIXES


def is_hidden(path: str) -> bool:
    """Whether a file, or a folder above it, is none of anybody's pictures."""
    return not all(map(_visible, path.split("/")))


def list_below(folder: Path, *, follow_links: bool) -> tuple[list[Rejected], str]:
    """The images below a folder without classes, by the rule for class folders.

    Args:
        folder: existing.
        follow_links: whether links may lead outside it.

    Returns:
        Every image, with no reason, and every file that is left out, with its reason, by path relative to the
        folder; and a line about the files that are no images, where there are any.
    """
    walk = _Walk(root=os.path.realpath(folder), follow_links=follow_links)
    found = [Rejected(path=path, reason="") for path in walk.images("")]
    rows = sorted([*found, *walk.rejected], key=lambda row: row.path.split("/"))
    return rows, ignored_files(walk.ignored)


def _part_folders(walk: _Walk, top: list[str]) -> dict[str, SplitPart]:
    """Top-level folders that are parts: some ``train`` holds class folders, and no images itself."""
    parts = {name: part for name in top if (part := part_named(name)) is not None}
    trains = [name for name, part in parts.items() if part is SplitPart.TRAIN]
    if not trains or (len(parts) == 1 and len(top) > 1):
        return {}
    return parts if all(walk.holds_classes(name) for name in trains) else {}


def _ask_back(walk: _Walk, root: Path, top: list[str]) -> None:
    """Stop where folders taken for classes are rather parts.

    Raises:
        DataError: folders named like parts stand beside others, or every folder holds the same folders.
    """
    if len(top) < 2:
        return
    named = [name for name in top if part_named(name) is not None]
    odd = [name for name in named if walk.holds_classes(name) or len(top) - len(named) > 1]
    # A class may well be called train; one of pictures in folders, or val and test beside classes, hardly.
    odd = [name for name in odd if walk.holds_classes(name) or part_named(name) is not SplitPart.TRAIN]
    answer = "If each folder here is a class, say so: `layout=classes`."
    if odd:
        raise DataError(
            "folders named like parts stand among class folders",
            where=root,
            expected="class folders only, or class folders inside of train, val and test",
            got=f"{_listed(odd)} beside {_listed([name for name in top if name not in odd]) or 'nothing'}",
            next_step=f"Move the class folders into train, or the parts elsewhere. {answer}",
        )
    inside = {name: set(walk.folders(name)) for name in top}
    same = inside[top[0]]
    if len(same) > 1 and all(names == same and not walk.has_images(name) for name, names in inside.items()):
        near = {name: near_part(name) for name in top if near_part(name)}
        typo = "".join(f" {name} looks like {part}." for name, part in near.items())
        raise DataError(
            f"are {_listed(top)} classes, or parts of the data?",
            where=root,
            expected="folders of classes that hold images, or train, val and test that hold class folders",
            got=f"the same folders in each: {_listed(sorted(same))}",
            next_step=f"Name parts train, val and test.{typo} {answer}",
        )


def _named_like_a_part(name: str) -> str:
    return (
        f"{printable(name)} is read as a class, and named like a part of the data. If it is none, its images "
        "belong into class folders inside of it."
    )


def _listed(names: list[str]) -> str:
    return abridged([printable(name) for name in names])


def _nested_hint(walk: _Walk, top: list[str]) -> str:
    deeper = next((name for name in top if walk.folders(name)), None)
    return f"Did you mean {Path(walk.root) / deeper}?" if deeper else "Check the path."


@dataclass(slots=True)
class _Walk:
    """One pass over a data folder; collects what it refuses."""

    root: str
    follow_links: bool
    rejected: list[Rejected] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def folders(self, folder: str) -> list[str]:
        """Names of the visible, acceptable folders in ``folder`` (relative to the root), sorted."""
        return [item.name for item in self._scan(folder, quiet=True) if self._is_folder(item)]

    def has_images(self, folder: str) -> bool:
        """Whether a folder itself holds a file that is named like an image."""
        return any(_suffix(item.name) in IMAGE_SUFFIXES for item in self._scan(folder, quiet=True))

    def holds_classes(self, folder: str) -> bool:
        """Whether a folder holds folders, and no images itself."""
        return bool(self.folders(folder)) and not self.has_images(folder)

    def classes(self, base: str, part: SplitPart | None) -> list[Entry]:
        """Entries of ``base/<class>/**``."""
        entries: list[Entry] = []
        for item in self._scan(base):
            path = _join(base, item.name)
            if self._is_folder(item):
                labels = (printable(item.name),)
                before = len(self.rejected)
                entries += [Entry(found, labels, part) for found in self.images(path)]
                self.rejected[before:] = [replace(file, labels=labels) for file in self.rejected[before:]]
            elif self._refused_link(item, path):
                continue
            elif _suffix(item.name) in IMAGE_SUFFIXES:
                self._reject(path, "outside of any class folder")
        return entries

    def reject_all(self, folders: list[str], reason: str) -> None:
        """Reject whatever images lie in some folders."""
        for folder in folders:
            for path in self.images(folder):
                self._reject(path, reason)

    def images(self, folder: str) -> list[str]:
        """Candidate files below a folder, depth first, by name."""
        found: list[str] = []
        waiting, seen = [folder], {os.path.realpath(self._full(folder))}
        while waiting:
            here = waiting.pop()
            for item in self._scan(here):
                path = _join(here, item.name)
                if self._refused_link(item, path):
                    continue
                if item.is_dir() and _suffix(item.name) not in IMAGE_SUFFIXES:
                    # A link that is followed may lead back to a folder already walked.
                    real = os.path.realpath(item.path) if self.follow_links else item.path
                    if real not in seen:
                        seen.add(real)
                        waiting.append(path)
                elif self._is_candidate(item, path):
                    found.append(path)
        return found

    def _is_candidate(self, item: os.DirEntry[str], path: str) -> bool:
        suffix = _suffix(item.name)
        if suffix in IMAGE_SUFFIXES:
            return True
        if suffix in _OTHER_IMAGE_SUFFIXES:
            self._reject(path, foreign_suffix(suffix))
            return False
        if suffix not in _OTHER_SUFFIXES and _looks_like_image(item):
            return True
        self.ignored[suffix] += 1
        return False

    def _scan(self, folder: str, *, quiet: bool = False) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._full(folder)) as items:
                return sorted((item for item in items if _visible(item.name)), key=lambda item: item.name)
        except OSError as error:
            if not quiet:
                self._reject(folder or ".", f"a folder that cannot be listed: {reason_of(error)}")
            return []

    def _is_folder(self, item: os.DirEntry[str]) -> bool:
        if item.is_symlink() and (not self.follow_links or self._link_reason(item)):
            return False
        return item.is_dir()

    def _refused_link(self, item: os.DirEntry[str], path: str) -> bool:
        reason = self._link_reason(item) if item.is_symlink() else ""
        if reason:
            self._reject(path, reason)
        return bool(reason)

    def _link_reason(self, item: os.DirEntry[str]) -> str:
        reason = link_refusal(self.root, item.path, follow_links=self.follow_links)
        if not reason and not self.follow_links and item.is_dir():
            return "a link to a folder (`follow_links` follows it)"
        return reason

    def _reject(self, path: str, reason: str) -> None:
        self.rejected.append(Rejected(path=path, reason=reason))

    def _full(self, folder: str) -> str:
        return f"{self.root}/{folder}" if folder else self.root


def link_refusal(root: str, path: str, *, follow_links: bool) -> str:
    """Why a path that goes through links is refused, as one clause; empty when it is not.

    Args:
        root: resolved data folder.
        path: absolute path, links in it not resolved.
        follow_links: whether links may lead outside the root.
    """
    try:
        real = os.path.realpath(path, strict=True)
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        return "a link that leads nowhere" if reason == "no such file" else reason
    if follow_links or real.startswith(root.rstrip("/") + os.sep):
        return ""
    return "it leads outside of the data folder (`follow_links` accepts it)"


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - pathlib is slow for a million names


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in _PLUMBING


def _looks_like_image(item: os.DirEntry[str]) -> bool:
    """Whether a file of unknown suffix begins like an accepted image."""
    try:
        if not item.is_file():
            return False
        with open(item.path, "rb") as file:  # noqa: PTH123 - as above
            return sniff(file.read(HEADER_BYTES)) is not None
    except OSError:
        return False
