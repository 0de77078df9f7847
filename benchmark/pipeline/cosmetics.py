"""Pictures and pages: one that cannot be made is a note, and never costs a finished run its board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from benchmark.cells import error_text
from benchmark.errors import StorageError

_Made = TypeVar("_Made")

_ENDING = "; everything else is there."


@dataclass(slots=True)
class Cosmetics:
    """Makes pictures and pages.

    Attributes:
        notes: one line for each that failed.
    """

    notes: list[str] = field(default_factory=list)

    def make(self, what: str, make: Callable[[], _Made]) -> _Made | None:
        """The picture or page; None where it could not be made.

        Raises:
            StorageError: no room: then nothing else could be written either.
        """
        try:
            return make()
        except StorageError:
            raise
        except Exception as error:
            self.notes.append(f"{what} could not be made ({error_text(error)}){_ENDING}")
            return None


def is_failure(note: str) -> bool:
    """Whether a board's note says that a picture could not be made."""
    return note.endswith(_ENDING)
