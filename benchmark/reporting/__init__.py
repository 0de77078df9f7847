"""Reporting: the board as CSV, JSON, Markdown, web page, plots and terminal table; two runs compared.

Public names load their modules on first use, so that importing this room stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.ranking import BOARD_COLUMNS
    from benchmark.reporting.board_files import read_board
    from benchmark.reporting.class_table import class_scores
    from benchmark.reporting.compare import (
        Change,
        ChangeKind,
        Comparison,
        ScoreChange,
        compare_runs,
        comparison_table,
    )
    from benchmark.reporting.evaluation_files import evaluation_folder, write_evaluation
    from benchmark.reporting.page import Extras
    from benchmark.reporting.plots import Plot, plot_makers
    from benchmark.reporting.run_record import (
        BackboneRecord,
        DataRecord,
        RunRecord,
        image_list,
        read_image_list,
        read_run_record,
        write_image_list,
        write_run_record,
    )
    from benchmark.reporting.terminal import board_table
    from benchmark.reporting.write import (
        BOARD_FILES,
        read_rejected,
        remove_files,
        write_board,
        write_page,
        write_rejected,
        write_table,
    )

_HOMES = {
    "board_files": ("BOARD_COLUMNS", "read_board"),
    "class_table": ("class_scores",),
    "compare": ("Change", "ChangeKind", "Comparison", "ScoreChange", "compare_runs", "comparison_table"),
    "evaluation_files": ("evaluation_folder", "write_evaluation"),
    "page": ("Extras",),
    "plots": ("Plot", "plot_makers"),
    "run_record": (
        "BackboneRecord",
        "DataRecord",
        "RunRecord",
        "image_list",
        "read_image_list",
        "read_run_record",
        "write_image_list",
        "write_run_record",
    ),
    "terminal": ("board_table",),
    "write": (
        "BOARD_FILES",
        "read_rejected",
        "remove_files",
        "write_table",
        "write_board",
        "write_page",
        "write_rejected",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BOARD_COLUMNS",
    "BOARD_FILES",
    "BackboneRecord",
    "Change",
    "ChangeKind",
    "Comparison",
    "DataRecord",
    "Extras",
    "Plot",
    "RunRecord",
    "ScoreChange",
    "board_table",
    "class_scores",
    "compare_runs",
    "comparison_table",
    "evaluation_folder",
    "image_list",
    "plot_makers",
    "read_board",
    "read_image_list",
    "read_rejected",
    "read_run_record",
    "remove_files",
    "write_board",
    "write_evaluation",
    "write_image_list",
    "write_page",
    "write_rejected",
    "write_run_record",
    "write_table",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
