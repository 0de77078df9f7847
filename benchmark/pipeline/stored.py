"""A finished ranking as its files keep it, for what goes on from its board or repeats it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmark.errors import ArgumentError, DataError
from benchmark.locations import path_of, url_of
from benchmark.options import RankOptions
from benchmark.pipeline.requests import RankRequest
from benchmark.records import ImageSet, Leaderboard, WeightsKind
from benchmark.reporting import RunRecord, image_list, read_board, read_image_list
from benchmark.storage import place

BOARD_FILE = "leaderboard.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRanking:
    """A finished ranking of a data set, usually the latest, and its board.

    Attributes:
        folder: ``results/<dataset>``.
        path: of the board and the lists beside it, ``results/<dataset>/runs/<id>``; where that is gone, its
            copy, the folder itself.
        board: the board.
        record: its ``run.json``.
        request: what it was asked for, without backbones.
    """

    folder: Path
    path: Path
    board: Leaderboard
    record: RunRecord
    request: RankRequest

    @classmethod
    def read(cls, folder: Path, *, data: Path, results: Path, cache: Path, path: Path | None = None) -> Self:
        """The ranking in ``results/<dataset>``.

        Args:
            folder: ``results/<dataset>``.
            data: where its images lie now.
            results: folder of all results.
            cache: embedding cache.
            path: folder of the run; None takes the latest, which another run may replace.

        Raises:
            DataError: there is none, or one of its files cannot be read.
        """
        record = RunRecord.read(path or folder)
        if path is None:
            path = place(folder, "runs", record.identifier)
            path = path if (path / BOARD_FILE).exists() else folder
        return cls(
            folder=folder,
            path=path,
            board=read_board(path / BOARD_FILE),
            record=record,
            request=stored_request(record, data=data, results=results, cache=cache),
        )

    def row(self, backbone: str) -> Mapping[str, Any] | None:
        """The row of a backbone; None where it is not on the board."""
        return next((row for row in self.board.rows if row["backbone"] == backbone), None)


def portable_options(request: RankRequest) -> dict[str, Any]:
    """Every option with its value, as JSON knows values; data and weights are found from any folder."""
    data = request.options.data
    # Links among the copies say nothing of a URL.
    places = {"data": data if url_of(data) else data.resolve()}
    if request.weights.kind not in {WeightsKind.IMAGENET, WeightsKind.RANDOM}:
        places["weights"] = path_of(request.options.weights).resolve()
    return request.options.but(**places).model_dump(mode="json")


def stored_options(path: Path) -> dict[str, Any]:
    """The options of a finished run, given its ``run.json`` or its folder.

    Raises:
        DataError: there is no such record, or its options are not those of a ranking.
    """
    return dict(_options_of(RunRecord.read(path)))


def stored_request(record: RunRecord, *, data: Path, results: Path, cache: Path) -> RankRequest:
    """The request of a finished run, without its backbones, which need not exist any more.

    Args:
        record: of the run.
        data: where its images lie now.
        results: folder of all results.
        cache: embedding cache.

    Raises:
        DataError: the record's options are not those of a ranking.
    """
    now = {"data": data, "results": results, "cache": cache, "bit_depth": record.data.bit_depth}
    return RankRequest(options=_options_of(record).but(**now), backbones=(), protocol=record.protocol)


def _options_of(record: RunRecord) -> RankOptions:
    try:
        return RankOptions.read(record.options)
    except ArgumentError as error:
        raise DataError(
            f"not the options of a ranking: {error.what}",
            where=f"run.json: {error.where}",
            expected=error.expected,
            got=error.got,
            next_step="Run 'backbones rank' again: what is cached is not computed twice.",
        ) from error


def check_same_images(stored: StoredRanking, images: ImageSet, *, limited: bool) -> None:
    """See that a board is about these images; groups and parts may differ.

    Where one of the two was limited to some of the images, it is enough that the other one has them all.

    Args:
        stored: the run whose board it is.
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
