"""The board as CSV, JSON and Markdown, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import DataError
from benchmark.ranking import Column, Surface
from benchmark.records import Leaderboard
from benchmark.reporting.formats import by_rank, display, shown_columns, text
from benchmark.statistics import METRICS
from benchmark.storage import parse_json, read_small

_SCHEMA = 1
_REBUILD = "Rebuild it with 'backbones report DATA'."


def json_bytes(board: Leaderboard) -> bytes:
    """The whole board as strict JSON: missing numbers are null, never NaN."""
    content = {
        "schema": _SCHEMA,
        "winner": board.winner,
        **({} if board.metric == "f1" else {"metric": board.metric}),
        "loss_bound": json_value(board.loss_bound),
        "summary": text(board.summary),
        "statements": [text(line) for line in board.statements],
        "notes": [text(line) for line in board.notes],
        "columns": list(board.columns),
        "rows": [{column: json_value(row.get(column)) for column in board.columns} for row in board.rows],
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def json_value(value: object) -> Any:  # noqa: ANN401 - any JSON value
    """A value that strict JSON can carry; NaN and infinities become null, NumPy numbers plain ones."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    # An enum's value, a path's name; characters that cannot be encoded become question marks.
    return str(value).encode("utf-8", "replace").decode()


def markdown_bytes(board: Leaderboard) -> bytes:
    """The board as a Markdown page: notes first, the table, what was not scored, what the data can tell."""
    lines = ["# Leaderboard", ""]
    if board.summary:
        lines += [escaped(board.summary), ""]
    lines += [f"> **Note:** {escaped(note)}\n" for note in board.notes]
    scored, left_out = by_rank(board)
    columns = shown_columns(board, scored, Surface.MARKDOWN)
    lines.append("| " + " | ".join(each.heading for each in columns) + " |")
    lines.append("|" + "|".join(" ---: " if each.is_number else " --- " for each in columns) + "|")
    lines += ["| " + " | ".join(escaped(display(row, each)) for each in columns) + " |" for row in scored]
    if left_out:
        lines += ["", "## Not scored", "", "| backbone | status | reason |", "| --- | --- | --- |"]
        lines += [
            "| " + " | ".join(escaped(text(row.get(key))) for key in ("backbone", "status", "reason")) + " |"
            for row in left_out
        ]
    if board.statements:
        lines += ["", "## What this data can and cannot tell", ""]
        lines += [f"- {escaped(statement)}" for statement in board.statements]
    return ("\n".join(lines) + "\n").encode()


def escaped(cell: str) -> str:
    """Text that neither ends a table cell nor starts markup."""
    cell = " ".join(text(cell).split())
    for character in "\\|`*_[]<":
        cell = cell.replace(character, f"\\{character}" if character != "<" else "&lt;")
    # Names full of underscores read better unescaped, and inside words underscores mean nothing.
    return cell.replace("\\_", "_") if cell.replace("\\_", "a").isalnum() else cell


def read_board(path: Path) -> Leaderboard:
    """Read ``leaderboard.json``.

    Raises:
        DataError: no such file, or not a board.
    """
    try:
        board = _from_json(read_small(path).decode())
        json_bytes(board)  # half a letter (a surrogate) can be read, and never be written again
        return board
    except OSError as error:
        raise DataError("cannot be read", where=path, got=error.strerror, next_step=_REBUILD) from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise DataError("not a leaderboard", where=path, got=error, next_step=_REBUILD) from error


def _from_json(content: str) -> Leaderboard:
    stored = parse_json(content)
    if stored["schema"] != _SCHEMA:
        raise ValueError(f"schema {stored['schema']}, expected {_SCHEMA}")
    columns = _texts(stored["columns"])
    if not {"rank", "backbone", "status", "val_f1"} <= set(columns):
        raise ValueError(f"columns {', '.join(columns)}")
    rows = tuple({name: _typed(name, row[name]) for name in columns} for row in stored["rows"])
    metric = stored.get("metric", "f1")
    if metric not in METRICS:
        raise ValueError(f"ranked by {metric}")
    return Leaderboard(
        columns=columns,
        rows=rows,
        winner=None if stored["winner"] is None else str(stored["winner"]),
        loss_bound=math.nan if stored["loss_bound"] is None else float(stored["loss_bound"]),
        statements=_texts(stored["statements"]),
        notes=_texts(stored["notes"]),
        summary=str(stored.get("summary", "")),
        metric=metric,
    )


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError("not a list of texts")
    return tuple(values)


def _typed(name: str, value: object) -> object:
    """A JSON value as it stood on the board: null is nan in a column of real numbers."""
    return Column.named(name).blank if value is None else value
