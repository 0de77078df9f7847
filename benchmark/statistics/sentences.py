"""What an assessment says, in whole sentences, each with its condition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmark.statistics.assessment import Assessment

_MOST_NAMES = 5


def sentences(found: Assessment, *, grouped: bool) -> tuple[str, ...]:
    """Who is tied, who is picked and why, who is behind; nothing of that at chance or of too few images."""
    if found.picks is None:
        return ()
    units = found.units(grouped=grouped)
    return (*_ties(found, units), *_picks(found), *_behind(found))


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first few of many."""
    if len(names) > _MOST_NAMES + 1:
        return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _ties(found: Assessment, units: str) -> Iterator[str]:
    tied = [found.names[k] for k in found.tied]
    if len(found.names) == 1:
        yield f"{tied[0]} is the only one that was scored: nothing was compared."
    elif len(tied) == 1:
        yield f"{tied[0]} is better than all others on {units}, all comparisons together."
    else:
        yield f"{len(tied)} of {len(found.names)} cannot be told from the best on {units}: {listed(tied)}."


def _picks(found: Assessment) -> Iterator[str]:
    picks = found.picks
    assert picks is not None
    if len(found.names) == 1:
        return
    winner, best, bound = found.names[picks.winner], found.names[picks.best], found.loss_bounds[picks.winner]
    title = found.sample.metric.title
    condition = "on new images like these, in this class mix"
    if bound > found.margin and len(found.tied) == 1:
        # The comparison rests on mistakes that were seen; the bound counts one image (group) more.
        yield (
            f"Winner {winner}, the best score; with mistakes that no image has shown yet, it may still give "
            f"away up to {bound:.3f} {title} ({condition})."
        )
    elif bound > found.margin:
        yield (
            f"Winner {winner}, the best score: none is sure to give away at most {found.margin:g} {title} "
            f"({winner} itself up to {bound:.3f}, {condition})."
        )
    else:
        which = "the best score, sure to give" if winner == best else "the smallest that gives"
        yield (
            f"Winner {winner}, {which} away at most {found.margin:g} {title} (upper 95 % bound {bound:.3f}, "
            f"{condition})."
        )
    if picks.value is not None and picks.value not in (picks.winner, picks.best):
        gap = found.score[picks.best] - found.score[picks.value]
        yield (
            f"Best value {found.names[picks.value]}: beyond it, size buys least {title} "
            f"({gap:.3f} below the best score, {_share(found, picks.value)} of its size)."
        )


def _share(found: Assessment, position: int) -> str:
    assert found.picks is not None
    return f"{100 * found.sizes[position] / found.sizes[found.picks.best]:.0f} %"


def _behind(found: Assessment) -> Iterator[str]:
    tied = set(found.tied)
    behind = [k for k in found.order.tolist() if k not in tied]
    if behind:
        names = [found.names[k] for k in behind]
        by = f"by {found.score.max() - found.score[behind[0]]:.3f} {found.sample.metric.title}"
        if len(names) == 1:
            yield f"{names[0]} is clearly behind, {by}."
        else:
            yield f"{len(names)} are clearly behind: {listed(names)}; the best of them, {names[0]}, {by}."
