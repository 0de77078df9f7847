"""Commands that are advised to whoever reads a board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.backbones import KERAS
from benchmark.options import FinetuneOptions
from benchmark.ranking import best_export, is_exported
from benchmark.records import Leaderboard

# Decide which images there are: an audit knows no board, and fine-tuning reads them before it finds one.
_READING = ("layout", "follow_links", "max_pixels")


def export_command(source: str, backbone: str, target: str = "onnx,openvino") -> list[str]:
    """The words of the command that ships a backbone frozen, with the board's head.

    Args:
        source: the data as a command names them.
        backbone: of their board.
        target: formats; without them those that networks of every library take.
    """
    command = "backbones export --from-board DATA --backbone NAME --to TARGET"
    given = {"DATA": source, "NAME": backbone, "TARGET": target}
    return [given.get(word, word) for word in command.split()]


def next_commands(board: Leaderboard, source: str, options: Mapping[str, Any]) -> list[list[str]]:
    """What can be done with the winner, as the words of commands; without one, looking at the images.

    One of another library than Keras is shipped as it is, not fine-tuned. Where the board has exports, none
    is advised that something speaks against.

    Args:
        board: the ranking.
        source: the data as a command names them.
        options: that the board was ranked with.
    """
    if board.winner is None:
        return [["backbones", "audit", source, *_reading(options)]]
    row = next(row for row in board.rows if row["backbone"] == board.winner)
    name, kept, commands = str(row["backbone"]), best_export(board), []
    if kept is not None:
        commands.append(export_command(source, str(kept["backbone"]), str(kept["export_target"])))
    elif not is_exported(board):
        whole = {"target": "tflite-int8"} if row["source"] == KERAS else {}
        commands.append(export_command(source, name, **whole))
    if row["source"] == KERAS:
        tuning = ["backbones", "finetune", source, "--winner", name]
        commands.append([*tuning, *_reading(options)])
    return commands


def _reading(options: Mapping[str, Any]) -> list[str]:
    """How the images were read, where that is not the usual way."""
    words = []
    for name in _READING:
        usual = FinetuneOptions.model_fields[name].default
        value = options.get(name, usual)
        if value != usual:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words
