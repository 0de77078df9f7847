"""A ranking's request as ``run.json`` keeps it, and back, for what goes on from a board."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from benchmark.errors import DataError
from benchmark.pipeline.requests import EmbedRequest, RankRequest
from benchmark.reporting import RunRecord

# Where things lie is asked anew; backbones are names in the record, and need not exist any more.
_OF_THE_CALLER = {"embed", "arguments", "results", "data", "cache", "backbones"}


def request_options(request: RankRequest) -> dict[str, Any]:
    """Every option of a request with its resolved value, as JSON knows values."""
    embed = request.embed
    given = {
        **{one.name: getattr(request, one.name) for one in fields(request)},
        **{one.name: getattr(embed, one.name) for one in fields(embed)},
        "backbones": [backbone.name for backbone in embed.backbones],
    }
    del given["embed"], given["arguments"]
    return {name: _plain(value) for name, value in sorted(given.items())}


def stored_request(record: RunRecord, *, data: Path, results: Path, cache: Path) -> RankRequest:
    """The request of a finished run, without its backbones.

    Args:
        record: of the run.
        data: where its images lie now.
        results: folder of all results.
        cache: embedding cache.

    Raises:
        DataError: the record's options are not those of a ranking.
    """
    options = record.options
    embed = EmbedRequest(data=data, backbones=(), cache=cache, **_fields(EmbedRequest, options))
    return RankRequest(
        embed=embed, results=results, arguments=record.arguments, **_fields(RankRequest, options)
    )


def _fields(kind: type[EmbedRequest | RankRequest], options: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    names = [one.name for one in fields(kind) if one.name not in _OF_THE_CALLER and one.name in options]
    return {name: _value(name, hints[name], options[name]) for name in names}


def _value(name: str, kind: Any, stored: object) -> Any:  # noqa: ANN401 - any field of a request
    # Through JSON, because only there does pydantic's strict mode take lists for tuples and text for enums.
    try:
        return TypeAdapter(kind).validate_json(json.dumps(stored), strict=True)
    except ValidationError as error:
        mistake = error.errors()[0]
        raise DataError(
            "not an option of a ranking",
            where=f"run.json: {'.'.join(map(str, (name, *mistake['loc'])))}",
            expected=str(mistake["msg"]).removeprefix("Input should be "),
            got=mistake["input"],
            next_step="Run 'backbones rank' again: what is cached is not computed twice.",
        ) from error


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(item) for name, item in asdict(value).items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
