"""Two runs side by side: which numbers differ, and everything that changed between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.cells import figure, missing
from benchmark.errors import DataError
from benchmark.ranking import COLUMNS, Surface
from benchmark.records import Leaderboard
from benchmark.reporting.board_files import read_board
from benchmark.reporting.formats import text
from benchmark.reporting.run_record import (
    IMAGES_FILE,
    BackboneRecord,
    RunRecord,
    read_image_list,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_SHOWN = 40
_NOT_A_CAUSE = {"results", "cache", "jobs", "cluster"}


class ChangeKind(StrEnum):
    """What kind of thing changed; the first ones explain different scores best."""

    WEIGHTS = "weights"
    IMAGE_ADDED = "image added"
    IMAGE_REMOVED = "image removed"
    IMAGE_CHANGED = "image changed"
    LABEL = "label"
    PART = "part"
    GROUP = "group"
    DATA = "data"
    BACKBONE = "backbone"
    ENGINE = "engine"
    VERSION = "version"
    SEED = "seed"
    ARGUMENT = "argument"
    HARDWARE = "hardware"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs between two runs."""

    kind: ChangeKind
    name: str  # which one: a backbone, a file, a package, an option
    before: str  # in the first run; empty where it had none
    after: str  # in the second run


@dataclass(frozen=True, slots=True)
class ScoreChange:
    """One cell of the board that differs."""

    backbone: str  # name on the board
    column: str
    before: Any  # in the first run
    after: Any  # in the second run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Two runs compared."""

    first: Path  # folder of the first run
    second: Path
    changes: tuple[Change, ...]  # what went in differently, likeliest explanations first
    scores: tuple[ScoreChange, ...]  # what came out differently
    winners: tuple[str, str]  # names of the two winners, empty where there was none

    @property
    def statement(self) -> str:
        """The result in one sentence."""
        if not self.scores:
            return "The two boards are the same" + (
                ", although something changed." if self.changes else " to the last digit."
            )
        count = len({score.backbone for score in self.scores})
        winner = "the winner stays the same"
        if self.winners[0] != self.winners[1]:
            winner = f"the winner changes from {self.winners[0] or 'none'} to {self.winners[1] or 'none'}"
        if not self.changes:
            return (
                f"{count} backbones differ and {winner}, although weights, images, versions and arguments "
                "are the same: something is not reproducible."
            )
        return f"{count} backbones differ and {winner}; {len(self.changes)} things changed."


def compare_runs(first: Path, second: Path) -> RunComparison:
    """What differs between two runs.

    Args:
        first: ``results/<dataset>/runs/<id>`` with ``run.json``, ``images.csv`` and ``leaderboard.json``.
        second: the same of another run.

    Raises:
        DataError: a file of a run is missing or not what it should be.
    """
    before, after = RunRecord.read(first), RunRecord.read(second)
    boards = [read_board(_folder(path) / "leaderboard.json") for path in (first, second)]
    changes = [
        *_backbone_changes(before, after),
        *_data_changes(before, after, (_images(first), _images(second))),
        *_mapping_changes(ChangeKind.VERSION, before.versions, after.versions),
        *_mapping_changes(ChangeKind.SEED, before.seeds, after.seeds),
        *_argument_changes(before, after),
        *_mapping_changes(ChangeKind.HARDWARE, before.hardware, after.hardware),
    ]
    order = {kind: position for position, kind in enumerate(ChangeKind)}
    return RunComparison(
        first=first,
        second=second,
        changes=tuple(sorted(changes, key=lambda change: order[change.kind])),
        scores=tuple(_score_changes(*boards)),
        winners=(boards[0].winner or "", boards[1].winner or ""),
    )


def _images(folder: Path) -> dict[str, dict[str, str]]:
    # A run without the list is compared by its fingerprint alone.
    own = _folder(folder)
    return read_image_list(own) if (own / IMAGES_FILE).exists() else {}


def _folder(path: Path) -> Path:
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise DataError("no such run", where=path, next_step="Give two folders results/<dataset>/runs/<id>.")
    return folder


def _backbone_changes(before: RunRecord, after: RunRecord) -> Iterator[Change]:
    for name in dict.fromkeys([*before.backbones, *after.backbones]):
        old, new = before.backbones.get(name), after.backbones.get(name)
        if old is None or new is None:
            places = ["on the board" if one else "not on the board" for one in (old, new)]
            yield Change(ChangeKind.BACKBONE, name, *places)
        else:
            yield from _one_backbone(name, old, new)


def _one_backbone(name: str, old: BackboneRecord, new: BackboneRecord) -> Iterator[Change]:
    if old.weights_sha256 != new.weights_sha256:
        yield Change(ChangeKind.WEIGHTS, name, _weights(old), _weights(new))
    for kind, attribute in (
        (ChangeKind.ENGINE, "engine"),
        (ChangeKind.ENGINE, "precision"),
        (ChangeKind.BACKBONE, "input_size"),
        (ChangeKind.BACKBONE, "status"),
    ):
        one, other = getattr(old, attribute), getattr(new, attribute)
        if one != other:
            label = f"{name} {attribute.replace('_', ' ')}"
            yield Change(kind, label, str(one), str(other))


def _weights(backbone: BackboneRecord) -> str:
    if not backbone.weights_sha256:
        return "no weights loaded"
    return f"{backbone.weights} sha256:{backbone.weights_sha256[:12]}"


def _data_changes(
    before: RunRecord, after: RunRecord, images: tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]
) -> Iterator[Change]:
    if before.data.fingerprint == after.data.fingerprint:
        return
    old, new = images
    changes = [*_image_changes(old, new), *_fact_changes(old, new)]
    for name in ("classes", "positive"):
        one, other = getattr(before.data, name), getattr(after.data, name)
        if one != other:
            changes.append(Change(ChangeKind.DATA, name, _shown(one), _shown(other)))
    if not changes:
        one, other = (f"{run.images} images {run.fingerprint[:12]}" for run in (before.data, after.data))
        changes.append(Change(ChangeKind.DATA, "fingerprint", one, other))
    yield from changes


def _image_changes(old: Mapping[str, dict[str, str]], new: Mapping[str, dict[str, str]]) -> Iterator[Change]:
    """Images that came, went, or have other bytes under the same path."""
    gone = {old[image_id]["path"]: image_id for image_id in old if image_id not in new}
    come = {new[image_id]["path"]: image_id for image_id in new if image_id not in old}
    for path in sorted({*gone, *come}):
        kind = ChangeKind.IMAGE_ADDED if path not in gone else ChangeKind.IMAGE_REMOVED
        if path in gone and path in come:
            kind = ChangeKind.IMAGE_CHANGED
        yield Change(kind, path, gone.get(path, "")[:12], come.get(path, "")[:12])


def _fact_changes(old: Mapping[str, dict[str, str]], new: Mapping[str, dict[str, str]]) -> Iterator[Change]:
    """Images in both runs whose label, part or group differs."""
    facts = ((ChangeKind.LABEL, "label"), (ChangeKind.PART, "part"), (ChangeKind.GROUP, "group"))
    for image_id in sorted(old.keys() & new.keys(), key=lambda image_id: old[image_id]["path"]):
        for kind, fact in facts:
            one, other = old[image_id][fact], new[image_id][fact]
            if one != other:
                yield Change(kind, new[image_id]["path"], one, other)


def _mapping_changes(kind: ChangeKind, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield Change(kind, name, _shown(old.get(name)), _shown(new.get(name)))


def _argument_changes(before: RunRecord, after: RunRecord) -> Iterator[Change]:
    old = {name: value for name, value in before.options.items() if name not in _NOT_A_CAUSE}
    new = {name: value for name, value in after.options.items() if name not in _NOT_A_CAUSE}
    yield from _mapping_changes(ChangeKind.ARGUMENT, old, new)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _score_changes(before: Leaderboard, after: Leaderboard) -> Iterator[ScoreChange]:
    old = {str(row["backbone"]): row for row in before.rows}
    new = {str(row["backbone"]): row for row in after.rows}
    for name in dict.fromkeys([*old, *new]):
        for column in COLUMNS:
            one, other = old.get(name, {}).get(column.name), new.get(name, {}).get(column.name)
            if Surface.COMPARE in column.surfaces and not _equal(one, other):
                yield ScoreChange(name, column.name, one, other)


def _equal(one: object, other: object) -> bool:
    if missing(one) or missing(other):
        return missing(one) and missing(other)
    return one == other


def comparison_table(comparison: RunComparison) -> RenderableType:
    """A comparison for a terminal: the result in words, what changed, and which scores moved."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(text(comparison.statement), style="bold")]
    if comparison.changes:
        table = Table("what changed", "name", "before", "after", box=None, pad_edge=False)
        for change in comparison.changes[:_MOST_SHOWN]:
            values = (change.kind.value, change.name, change.before, change.after)
            table.add_row(*(Text(text(value), overflow="fold") for value in values))
        parts.append(table)
        parts += _more(len(comparison.changes) - _MOST_SHOWN)
    if comparison.scores:
        table = Table("backbone", "column", "before", "after", "difference", box=None, pad_edge=False)
        for score in comparison.scores[:_MOST_SHOWN]:
            figures = (_cell(score.before), _cell(score.after), _difference(score))
            table.add_row(*(Text(text(cell)) for cell in (score.backbone, score.column, *figures)))
        parts.append(table)
        parts += _more(len(comparison.scores) - _MOST_SHOWN)
    return Group(*parts)


def _more(count: int) -> list[RenderableType]:
    return [f"... and {count} more"] if count > 0 else []


def _cell(value: object) -> str:
    return figure(value, 6) if isinstance(value, float) else text(value)


def _difference(score: ScoreChange) -> str:
    if not isinstance(score.before, float) or not isinstance(score.after, float):
        return ""
    gap = score.after - score.before
    return "" if math.isnan(gap) else f"{'+' if gap >= 0 else ''}{figure(gap, 6)}"
