"""How a user asks for backbones of any source: names, wildcards, families, filters. Nothing heavy loads."""

from __future__ import annotations

import dataclasses
import difflib
import re
from pathlib import Path
from typing import Any

from benchmark.backbones.registry import WEIGHTS_SUFFIX
from benchmark.backbones.source import FILE, KERAS, SOURCES, find_source
from benchmark.errors import ArgumentError
from benchmark.locations import path_of
from benchmark.options import BackboneOptions
from benchmark.records import Backbone, WeightsKind, WeightsSource

_FAMILY = "family:"
# Weights under these may be used, changed and sold, with the author's name at most.
_PERMISSIVE = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0"}
# A comma before a bare number belongs to a list of numbers: file:model.onnx?mean=0.5,0.5,0.5
_COMMA = re.compile(r",(?!\s*-?[\d.]+\s*(?:[,&]|$))")


def chosen(options: BackboneOptions, seed: int = 0) -> tuple[Backbone, ...]:
    """The backbones that a command asks for, filtered as it asks.

    A backbone of which a filtered fact is unknown is left out: unknown is not small, new or free.

    Raises:
        ArgumentError: nothing matches, or nothing is left.
    """
    found = select(options.backbones, seed=seed, sources=options.sources or "")
    kept = tuple(item for item in found if _passes(item, options))
    if not kept:
        raise ArgumentError(
            "no backbone passes these filters",
            where="`max_params`, `max_gflops`, `min_year`, `licence`",
            got=f"0 of {len(found)}",
            next_step="Loosen one; 'backbones list' shows what is known.",
        )
    return kept


def _passes(item: Backbone, options: BackboneOptions) -> bool:
    licence = options.licence
    return (
        (options.max_params is None or 0 < item.params <= options.max_params * 1e6)
        and (options.max_gflops is None or 0 < item.flops <= options.max_gflops * 1e9)
        and (options.min_year is None or (item.year or 0) >= options.min_year)
        and (licence is None or item.licence in (_PERMISSIVE if licence == "permissive" else {licence}))
    )


def select(
    patterns: str, *, seed: int = 0, option: str = "backbones", sources: str = ""
) -> tuple[Backbone, ...]:
    """The backbones that a user names.

    Args:
        patterns: comma-separated: ``all``, names, ``*`` wildcards, ``family:NAME``, each with its source
            before it (``timm:convnextv2_*``) and ``@imagenet``, ``@random`` or ``@PATH`` behind it, which
            overrides the run's weights.
        seed: of random weights given with ``@random``.
        option: that the patterns were given with.
        sources: comma-separated, for patterns without one; Keras where empty, and for families also the
            sources of the other patterns.

    Returns:
        By source and in its order, without duplicates; one architecture may stand there with several weights.

    Raises:
        ArgumentError: nothing matches a pattern (close matches are named), weights that do not exist, or one
            file with several settings.
    """
    parts = [part.strip() for part in _COMMA.split(patterns) if part.strip()]
    if not parts:
        raise ArgumentError("no backbone is named", where=f"`{option}`", expected="names, wildcards or 'all'")
    usual = [name.strip() for name in sources.split(",") if name.strip()] or [KERAS]
    named = [source for source, _ in map(_parted, parts) if source]
    found: dict[str, Backbone] = {}
    for part in parts:
        source, pattern = _parted(part)
        families = pattern.startswith(_FAMILY) and not sources
        searched = [source] if source else [*usual, *named] if families else usual
        for item in _matches(list(dict.fromkeys(searched)), pattern, seed, option):
            _check_same(found.setdefault(item.name, item), item, option)
    return tuple(sorted(found.values(), key=_Order([*usual, *named])))


def _check_same(first: Backbone, second: Backbone, option: str) -> None:
    """Raise ArgumentError where a name that was found twice does not mean one backbone."""
    for field in dataclasses.fields(Backbone):
        values = [getattr(item, field.name) for item in (first, second)]
        if not callable(values[0]) and values[0] != values[1]:
            raise ArgumentError(
                "is named twice, with other settings",
                where=f"`{option}`: {first.name}",
                expected="one file under one name",
                got=f"{field.name} {values[0]} and {values[1]}",
                next_step="Copy the file to another name, or leave one out.",
            )


class _Order:
    """Sorts backbones by source, and by their place in it."""

    def __init__(self, sources: list[str]) -> None:
        self._sources = {name: position for position, name in enumerate(dict.fromkeys((KERAS, *sources)))}
        self._places: dict[str, dict[str, int]] = {}

    def __call__(self, item: Backbone) -> tuple[int, int]:
        if item.source not in self._places:
            listed = find_source(item.source).find("all")
            self._places[item.source] = {one.architecture: place for place, one in enumerate(listed)}
        places = self._places[item.source]
        return self._sources[item.source], places.get(item.architecture, len(places))


def _parted(part: str) -> tuple[str, str]:
    """The source of a pattern (empty where it names none) and the pattern in it."""
    source, colon, pattern = part.partition(":")
    return (source, pattern) if colon and source != _FAMILY[:-1] else ("", part)


def _matches(sources: list[str], part: str, seed: int, option: str) -> list[Backbone]:
    # A file has its own weights, and may lie in a folder like MobileNet_0.25@random.
    pattern, at, weights = (part, "", "") if sources == [FILE] else part.partition("@")
    found = [item for source in sources for item in find_source(source).find(pattern)]
    if not found:
        raise ArgumentError(
            f"no backbone matches '{pattern}'",
            where=f"`{option}`",
            next_step=_suggestion(sources, pattern),
        )
    if not at:
        return found
    source = parse_weights(weights, seed)
    return [
        dataclasses.replace(item, name=f"{item.architecture}@{weights}", weights=source) for item in found
    ]


def _suggestion(sources: list[str], pattern: str) -> str:
    listed = [item for source in sources for item in find_source(source).find("all")]
    if pattern.startswith(_FAMILY):
        names = sorted({item.family for item in listed})
        close = difflib.get_close_matches(pattern.removeprefix(_FAMILY), names, n=3, cutoff=0.4) or names
        return f"Families: {', '.join(close)}."
    lower = {item.name.partition(":")[2].lower() or item.name.lower(): item.name for item in listed}
    close = [lower[name] for name in difflib.get_close_matches(pattern.lower(), lower, n=3, cutoff=0.5)]
    listing = "'backbones list' shows all names."
    others = "" if len(SOURCES.names) == len(sources) else f" Sources: {', '.join(SOURCES.names)}."
    return f"Did you mean {', '.join(close)}? {listing}" if close else listing + others


def parse_weights(text: str, seed: int = 0) -> WeightsSource:
    """What the option ``weights`` or the part after ``@`` means.

    Args:
        text: ``imagenet`` (what the source publishes), ``random``, a folder of ``<backbone>.weights.h5`` or
            ``<backbone>.safetensors``, or one such file.
        seed: of random weights.

    Raises:
        ArgumentError: none of these, or a file of a format that is not loaded.
    """
    if text in (WeightsKind.IMAGENET, WeightsKind.RANDOM):
        return WeightsSource(kind=WeightsKind(text), seed=seed if text == WeightsKind.RANDOM else 0)
    path = path_of(text)
    if text and path.is_dir():
        return WeightsSource(kind=WeightsKind.DIRECTORY, path=path.absolute())
    if path.is_file() and path.name.endswith(_SUFFIXES):
        return WeightsSource(kind=WeightsKind.FILE, path=path.absolute())
    raise ArgumentError(
        _why_not_weights(path), where="`weights`", got=text or "nothing", expected=_ACCEPTED, next_step=_NEXT
    )


def backbone_row(backbone: Backbone, weights: str = "imagenet") -> dict[str, Any]:
    """What is known of a backbone, as a row of a table; ``weights`` are those of one that carries none."""
    return {
        "name": backbone.name,
        "family": backbone.family,
        "source": backbone.source,
        "module": backbone.module,
        "input_size": backbone.default_size,
        "min_size": backbone.min_size,
        "preprocessing": str(backbone.preprocessing),
        "embedding_dim": backbone.embedding_dim,
        "params": backbone.params,
        "size_bytes": backbone.float32_bytes,
        "gflops_224": round(backbone.flops / 1e9, 2),
        "weights": str(backbone.weights or parse_weights(weights)),
        "year": backbone.year,
        "pretraining": backbone.pretraining,
        "licence": backbone.licence,
    }


_SUFFIXES = (WEIGHTS_SUFFIX, ".safetensors")
_ACCEPTED = (
    f"imagenet, random, a folder of <backbone>{WEIGHTS_SUFFIX} or .safetensors files, or one such file"
)
_NEXT = f"Save weights with model.save_weights('NAME{WEIGHTS_SUFFIX}'); whole models are not loaded."


def _why_not_weights(path: Path) -> str:
    if not path.exists():
        return "no such weights"
    return f"a '{path.suffix or path.name}' file is not a weights file"
