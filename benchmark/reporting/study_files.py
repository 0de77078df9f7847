"""A study as CSV, JSON, Markdown and HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmark.cells import columns_of, csv_bytes
from benchmark.ranking import StudyTables
from benchmark.reporting.board_files import escaped, json_value
from benchmark.reporting.formats import number, score, text, with_interval
from benchmark.storage import write_whole

_Rows = Sequence[Mapping[str, Any]]


def rules_shown(tables: StudyTables) -> list[dict[str, str]]:
    """Rules as people read them: scores with their intervals."""
    return [
        {
            "rule": str(row["rule"]),
            "data sets": str(row["data_sets"]),
            "regret": with_interval(row, "regret"),
            "P(best)": with_interval(row, "p_best"),
            "Kendall tau": with_interval(row, "tau"),
            "what it takes": str(row["how"]),
        }
        for row in tables.rules
    ]


def data_shown(tables: StudyTables) -> list[dict[str, str]]:
    """Data sets as people read them: the best backbone and the noise."""
    return [
        {
            "data": str(row["data"]),
            "seeds": str(row["seeds"]),
            "best fine-tuned": str(row["best"]),
            "its F1": score(number(row, "best_f1")),
            "the worst's": score(number(row, "worst_f1")),
            "noise of a difference": score(number(row, "noise")),
            "within twice the noise": _of(row["within_noise"], row["backbones"]),
            "kept frozen": f"{row['kept_frozen']} of {row['backbones'] * row['seeds']}",
        }
        for row in tables.data
    ]


def _of(part: int | None, whole: int) -> str:
    return "" if part is None else f"{part} of {whole}"


def _choices_shown(tables: StudyTables) -> list[dict[str, str]]:
    """One row a rule: its picks on each data set, and what they give away."""
    rows: dict[str, dict[str, str]] = {}
    for row in tables.choices:
        shown = score(number(row, "regret"))
        picks = f" ({row['picks']})" if row["picks"] else ""
        rows.setdefault(str(row["rule"]), {"rule": str(row["rule"])})[str(row["data"])] = f"{shown}{picks}"
    return list(rows.values())


def write_study(tables: StudyTables, folder: Path, *, options: Mapping[str, Any]) -> None:
    """Write a study as CSV, JSON and Markdown.

    ``study.csv`` (rules), ``study_data.csv``, ``study_choices.csv``, ``study_runs.csv``, all of them with the
    options as ``study.json``, and ``study.md``.

    Raises:
        StorageError: the folder cannot be written.
    """
    parts: dict[str, _Rows] = {
        "rules": tables.rules,
        "data": tables.data,
        "choices": tables.choices,
        "runs": tables.runs,
    }
    whole = {
        name: [{key: json_value(value) for key, value in row.items()} for row in rows]
        for name, rows in parts.items()
    }
    content = {**whole, "sentences": list(tables.sentences), "options": options}
    files = {
        f"study{'' if name == 'rules' else f'_{name}'}.csv": csv_bytes(columns_of(rows), rows)
        for name, rows in parts.items()
    }
    files["study.json"] = (json.dumps(content, indent=1) + "\n").encode()
    files["study.md"] = _markdown(tables).encode()
    for name, written in files.items():
        write_whole(folder / name, written, root=folder)


def _markdown(tables: StudyTables) -> str:
    blocks = (
        ("# Which cheap rule picks the best fine-tuned backbone", rules_shown(tables)),
        ("## The data sets", data_shown(tables)),
        ("## Regret by data set, and what was picked", _choices_shown(tables)),
    )
    lines: list[str] = []
    for heading, rows in blocks:
        columns = list(rows[0])
        lines += [heading, "", _line(columns), f"|{' --- |' * len(columns)}"]
        lines += [_line([row[name] for name in columns]) for row in rows] + [""]
        if rows is blocks[0][1]:
            lines += [*(f"- {escaped(sentence)}" for sentence in tables.sentences), ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"


def study_html(tables: StudyTables) -> str:
    """The tables of rules and data sets as a piece of HTML without a script; names are escaped."""
    said = "".join(f"<p>{escape(text(sentence))}</p>" for sentence in tables.sentences)
    return f"{_table(rules_shown(tables))}{_table(data_shown(tables))}{said}"


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(text(cell))}</td>' for cell in row.values())}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
