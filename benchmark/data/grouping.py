"""Which images belong together, by what the user says: a CSV column or a regular expression."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Hashable, Sequence

import numpy as np

from benchmark.data.listing import Entry, Listing
from benchmark.errors import ArgumentError
from benchmark.records import Int64


def name_groups(listing: Listing, groups: str | None) -> tuple[Entry, ...]:
    """The entries of a listing with their groups' names.

    Args:
        listing: as listed; entries of a CSV carry the group of its column already.
        groups: a column of the CSV, else a regular expression searched in relative paths, else None.

    Raises:
        ArgumentError: neither a column nor a valid expression, or an expression that no path matches.
    """
    if groups is None or groups.lower() in listing.columns:
        return listing.entries
    pattern = _compiled(groups, listing)
    named = tuple(
        dataclasses.replace(entry, group=_matched(pattern, entry.path)) for entry in listing.entries
    )
    if named and all(entry.group is None for entry in named):
        raise _no_match(groups, listing)
    return named


def _compiled(groups: str, listing: Listing) -> re.Pattern[str]:
    try:
        return re.compile(groups)
    except re.error as error:
        expected = "a column of the CSV or a regular expression on relative paths"
        hint = _near_column(groups, listing)
        raise ArgumentError(
            f"not a regular expression ({error})",
            where="`groups`",
            expected=expected,
            got=repr(groups),
            next_step=hint,
        ) from error


def _no_match(groups: str, listing: Listing) -> ArgumentError:
    example = listing.entries[0].path
    hint = _near_column(groups, listing) or f"A path looks like {example!r}."
    return ArgumentError(
        "a regular expression that matches no path", where="`groups`", got=repr(groups), next_step=hint
    )


def _near_column(groups: str, listing: Listing) -> str:
    near = difflib.get_close_matches(groups.lower(), listing.columns, 1)
    return f"Did you mean the column {near[0]!r}?" if near else ""


def _matched(pattern: re.Pattern[str], path: str) -> str | None:
    match = pattern.search(path)
    if match is None:
        return None
    return "\0".join(part or "" for part in match.groups()) if pattern.groups else match.group()


def number_groups(names: Sequence[Hashable]) -> Int64:
    """Number groups by first appearance, so that their names do not matter.

    Args:
        names: N group names in the order of image ids.

    Returns:
        int64 (N,).
    """
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def join_groups(memberships: Sequence[Sequence[str]]) -> list[Hashable]:
    """One group per image, where an image in several groups joins them.

    Args:
        memberships: for each image the names of the groups that its files are in; empty when it stands alone.

    Returns:
        For each image a name of its joined group; its position where it stands alone.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = parent.setdefault(above, above)
            name = above
        return name

    for names in memberships:
        for name in names[1:]:
            parent[root(name)] = root(names[0])
    return [root(names[0]) if names else position for position, names in enumerate(memberships)]
