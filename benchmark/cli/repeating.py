"""Command lines that repeat a run: what is stored, and what ``rank --from`` makes of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmark.backbones import parse_weights
from benchmark.cli.parser import make_parser
from benchmark.errors import ArgumentError
from benchmark.records import WeightsKind
from benchmark.reporting import read_run_record

_FROM = "--from"


def portable(arguments: argparse.Namespace, words: Sequence[str]) -> tuple[str, ...]:
    """A command line of ``rank`` that works from any folder.

    Args:
        arguments: the parsed words.
        words: the command line without the program's name.

    Returns:
        The words, the data folder first and absolute, the weights folder absolute.
    """
    command, *options = _without_data(words)
    again = [command, str(arguments.data.resolve()), *options]
    if parse_weights(arguments.weights, seed=arguments.seed).kind is WeightsKind.DIRECTORY:
        again += ["--weights", str(Path(arguments.weights).resolve())]  # the last one counts
    return tuple(again)


def stored_run(
    arguments: argparse.Namespace, words: Sequence[str]
) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """The command line of a stored run; data and options given beside ``--from`` win.

    Args:
        arguments: the parsed words.
        words: the command line that names the stored run.

    Returns:
        The parsed command line, and its words.

    Raises:
        ArgumentError: there is no such record, or it holds no command line.
    """
    stored = read_run_record(arguments.from_run).arguments
    if not stored:
        raise ArgumentError(
            "the record holds no command line", where=arguments.from_run, expected="the run.json of a ranking"
        )
    kept = stored if arguments.data is None else _without_data(stored)
    again = (*kept, *_without_from(words[1:]))
    return make_parser().parse_args(again), again


def _without_data(words: Sequence[str]) -> tuple[str, ...]:
    """The words without DATA: of those that look like it, the one without which only DATA is missing."""
    whole = vars(make_parser().parse_args(words))
    for place, word in enumerate(words[1:], start=1):
        rest = (*words[:place], *words[place + 1 :])
        if whole["data"] is not None and Path(word) == whole["data"]:
            try:
                parsed = vars(make_parser().parse_args(rest))
            except ArgumentError:
                continue
            if parsed == whole | {"data": None}:
                return rest
    return tuple(words)


def _without_from(words: Sequence[str]) -> list[str]:
    rest = [word for word in words if not word.startswith(f"{_FROM}=")]
    if _FROM in rest:
        place = rest.index(_FROM)
        del rest[place : place + 2]
    return rest
