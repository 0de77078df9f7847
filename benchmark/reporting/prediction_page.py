"""Photographs with the labels that a model gave them, on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.reporting.formats import text
from benchmark.reporting.model_page import ShownImage, shown_image
from benchmark.reporting.page import environment
from benchmark.storage import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionPage:
    """What a page says of predictions.

    Attributes:
        title: heading.
        answers: the label of every image that could be read.
        doubtful: how many of these carry a doubt.
        shown: some of them, the least sure first.
        unread: file and reason of those that could not be read, or shown.
        facts: the model and what it decides by, by heading.
    """

    title: str
    answers: Sequence[str]
    doubtful: int
    shown: Sequence[ShownImage]
    unread: Sequence[tuple[str, str]]
    facts: dict[str, str]


def write_prediction_page(page: PredictionPage, path: Path) -> Path:
    """Write the page: one file without requests or scripts.

    Raises:
        StorageError: it cannot be written.
    """
    content = (
        environment()
        .get_template("predictions.html.jinja")
        .render(
            page=page,
            counts=Counter(map(text, page.answers)).most_common(),
            shown=[shown_image(one) for one in page.shown],
            unread=[(text(file), text(reason)) for file, reason in page.unread],
        )
    )
    write_whole(path, content.encode(), root=path.parent)
    return path
