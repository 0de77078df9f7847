"""The user's calls from Python: one line from a folder to a board."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_type_hints

from benchmark.options import Options, RankOptions, described
from benchmark.pipeline.ranking import rank_backbones
from benchmark.pipeline.requests import RankRequest
from benchmark.records import Leaderboard, Observer

_P = ParamSpec("_P")
_T = TypeVar("_T")
_PLACE = "**options: those of the command."


def takes(kind: type[Options]) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Give a function the options of a command as keywords, in signature, docstring and errors.

    Args:
        kind: the options; those that the function names itself keep their place. They are described where its
            docstring says ``**options: those of the command.``
    """

    def give(call: Callable[_P, _T]) -> Callable[_P, _T]:
        signature = inspect.signature(call)
        named = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        types, names = get_type_hints(kind), [one.name for one in named]
        keywords = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[name]
            )
            for name, field in kind.model_fields.items()
            if name not in names
        ]
        texts = [f"{one.name}: {described(kind.model_fields[one.name])}" for one in keywords]

        @functools.wraps(call)
        def checked(*args: _P.args, **given: _P.kwargs) -> _T:
            for name in given:
                if name not in whole.parameters:
                    raise TypeError(_unknown(call.__name__, name, list(whole.parameters)))
            return call(*args, **given)

        whole = signature.replace(parameters=[*named, *keywords])
        checked.__signature__ = whole  # type: ignore[attr-defined]
        checked.__doc__ = (inspect.getdoc(call) or "").replace(_PLACE, "\n    ".join(texts))
        return checked

    return give


def _unknown(call: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"It takes {', '.join(known)}."
    return f"{call}() got an unexpected keyword argument '{name}'. {hint}"


@takes(RankOptions)
def rank(data: str | Path, *, observer: Observer | None = None, **options: Any) -> Leaderboard:  # noqa: ANN401
    """Rank pretrained backbones on a folder of labelled images; ``rank(...).frame`` is a pandas DataFrame.

    Args:
        data: folder of class folders, of train/val/test folders, or a CSV with path,label[,split][,group].
        observer: told of the progress; None works silently.
        **options: those of the command.

    Returns:
        The board, in rank order.

    Raises:
        TypeError: there is no such option.
        ArgumentError: an option that cannot be, no such backbone or weights.
        DataError: the images cannot be used.
        NothingScored: no backbone got a score.
        StorageFull: a folder cannot be written.
    """
    ranked = rank_backbones(RankRequest.of(RankOptions.check({"data": data, **options})), observer)
    if ranked.replaced and observer is not None:
        observer.message(ranked.replaced)
    return ranked.board
