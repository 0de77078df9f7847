"""How a board ranked its backbones, for a fine-tuning that goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.errors import DataError
from benchmark.pipeline.requests import RankRequest
from benchmark.pipeline.stored import stored_request
from benchmark.records import ImageSet, Leaderboard
from benchmark.reporting import RunRecord, image_list, read_board, read_image_list

BOARD_FILE = "leaderboard.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBoard:
    """A board of a data set, usually the latest, and how it came about.

    Attributes:
        folder: ``results/<dataset>``.
        path: of the board and the lists beside it: the folder itself, or ``runs/<id>`` in it.
        board: the board.
        record: of its run.
        request: of its run, without backbones.
    """

    folder: Path
    path: Path
    board: Leaderboard
    record: RunRecord
    request: RankRequest

    def row(self, backbone: str) -> Mapping[str, Any] | None:
        """The row of a backbone; None where it is not on the board."""
        return next((row for row in self.board.rows if row["backbone"] == backbone), None)


def stored_board(
    folder: Path, *, data: Path, results: Path, cache: Path, path: Path | None = None
) -> StoredBoard | None:
    """The board in ``results/<dataset>``; None where nothing was ranked.

    Args:
        folder: ``results/<dataset>``.
        data: the images.
        results: folder of all results.
        cache: embedding cache.
        path: folder of a run, whose board it is; None takes the latest, which another run may replace.

    Raises:
        DataError: its files cannot be read, or one of them is gone.
    """
    source = path or folder
    if not (source / BOARD_FILE).exists():
        return None
    record = RunRecord.read(source)
    return StoredBoard(
        folder=folder,
        path=source,
        board=read_board(source / BOARD_FILE),
        record=record,
        request=stored_request(record, data=data, results=results, cache=cache),
    )


def check_same_images(stored: StoredBoard, images: ImageSet, *, limited: bool) -> None:
    """See that a board is about these images; groups and parts may differ.

    Where one of the two was limited to some of the images, it is enough that the other one has them all.

    Args:
        stored: the board.
        images: the images now.
        limited: whether only some of the data set's images were read.

    Raises:
        DataError: there are other images, or other labels.
    """
    if stored.record.data.fingerprint == images.fingerprint():
        return
    before = {name: facts["label"] for name, facts in read_image_list(stored.path).items()}
    now = {name: facts["label"] for name, facts in image_list(images).items()}
    new = 0 if stored.request.options.limit else len(now.keys() - before.keys())
    gone = 0 if limited else len(before.keys() - now.keys())
    relabelled = sum(before[name] != now[name] for name in now.keys() & before.keys())
    if new or gone or relabelled or not now.keys() & before.keys():
        raise DataError(
            "the board is of other images",
            where=stored.folder / BOARD_FILE,
            expected=f"the {len(now)} images of {images.name}",
            got=f"{len(before)} images; {new} of these are not on the board, {gone} of the board's are gone, "
            f"{relabelled} have other labels",
            next_step="Run 'backbones rank' on these images first (what is cached is not computed twice), "
            "or use another results folder.",
        )
