"""The user's calls from Python: one line from a folder to a board."""

from __future__ import annotations

from pathlib import Path

from benchmark.backbones import parse_weights, select
from benchmark.data import DataOptions
from benchmark.pipeline.ranking import rank_backbones
from benchmark.pipeline.requests import EmbedRequest, RankRequest
from benchmark.records import HeadProtocol, Leaderboard, Observer

_AUTO, _NONE = "auto", "none"


def rank(
    data: str | Path,
    *,
    backbones: str = "all",
    weights: str = "imagenet",
    groups: str | None = None,
    seed: int = 0,
    cache: str | Path = "embeddings_cache",
    results: str | Path = "results",
    observer: Observer | None = None,
) -> Leaderboard:
    """Rank pretrained backbones on a folder of labelled images; ``rank(...).frame`` is a pandas DataFrame.

    ``RankRequest`` with ``rank_backbones`` (in ``benchmark.pipeline``) has every other option.

    Args:
        data: folder of class folders, of train/val/test folders, or a CSV.
        backbones: names, ``*`` wildcards, ``family:NAME``, ``NAME@random``, comma-separated; or ``all``.
        weights: ``imagenet``, ``random``, or a folder of ``<backbone>.weights.h5``.
        groups: keeps related images together: a CSV column, a regular expression on paths, or ``auto``;
            ``none`` finds none.
        seed: of splits, folds, heads and random weights.
        cache: folder of the embedding cache.
        results: the board and its plots go to ``results/<dataset>``.
        observer: told of the progress; None works silently.

    Returns:
        The board, in rank order.

    Raises:
        ArgumentError: no such backbone or weights.
        DataError: the images cannot be used.
        NothingScored: no backbone got a score.
        StorageFull: a folder cannot be written.
    """
    embed = EmbedRequest(
        data=Path(data),
        backbones=select(backbones, seed=seed),
        weights=parse_weights(weights, seed=seed),
        cache=Path(cache),
        options=DataOptions(seed=seed, groups=None if groups in {_AUTO, _NONE} else groups),
    )
    options = {"--backbones": backbones, "--weights": weights, "--seed": str(seed)}
    options |= {"--groups": groups} if groups is not None else {}
    request = RankRequest(
        embed=embed,
        results=Path(results),
        protocol=HeadProtocol(seed=seed),
        auto_groups=groups == _AUTO,
        arguments=("rank", str(Path(data).resolve()), *(word for pair in options.items() for word in pair)),
    )
    ranked = rank_backbones(request, observer)
    if ranked.replaced and observer is not None:
        observer.message(ranked.replaced)
    return ranked.board
