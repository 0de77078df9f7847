"""A ranking's options as ``run.json`` keeps them, and back, for what goes on from a board or repeats it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.errors import ArgumentError, DataError
from benchmark.locations import url_of
from benchmark.options import RankOptions
from benchmark.pipeline.requests import RankRequest
from benchmark.records import WeightsKind
from benchmark.reporting import RunRecord


def portable_options(request: RankRequest) -> dict[str, Any]:
    """Every option with its value, as JSON knows values; data and weights are found from any folder."""
    data = request.options.data
    places = {"data": data if url_of(data) else data.resolve()}  # links among the copies say nothing of a URL
    if request.weights.kind not in {WeightsKind.IMAGENET, WeightsKind.RANDOM}:
        places["weights"] = Path(request.options.weights).expanduser().resolve()
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
