"""Things that are found by name: files of a folder of this package, and entry points of other packages.

A file ``some_thing.py`` of the folder makes the name ``some-thing`` with what it assigns to one upper-case
name. Names are found without importing anything; a thing is imported when it is used.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import metadata, util

from typing_extensions import get_protocol_members

from benchmark.errors import ArgumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What exists of one kind.

    Attributes:
        kind: for messages, for example ``export target``.
        package: the folder of this package's own, as a module name.
        attribute: what each of its files assigns, for example ``TARGET``.
        group: the entry point group of other packages.
        protocol: what each of them must be: a runtime-checkable protocol.
        underscore: what stands in names for an underscore of a file's name.
    """

    kind: str
    package: str
    attribute: str
    group: str
    protocol: type
    underscore: str = "-"

    @property
    def own(self) -> tuple[str, ...]:
        """Names of this package's own, sorted."""
        spec = util.find_spec(self.package)
        folders = [str(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
        return tuple(
            sorted(
                one.name.replace("_", self.underscore)
                for one in pkgutil.iter_modules(folders)
                if one.name[0] != "_"
            )
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All names: this package's own, then those that others register."""
        return (*self.own, *sorted(metadata.entry_points(group=self.group).names - set(self.own)))

    def find(self, name: str) -> object:
        """The thing of a name.

        Raises:
            ArgumentError: there is none, or the package that registers it cannot be used.
        """
        if name in self.own:
            module = importlib.import_module(f"{self.package}.{name.replace(self.underscore, '_')}")
            return getattr(module, self.attribute)
        entries = tuple(metadata.entry_points(group=self.group, name=name))
        if not entries:
            close = get_close_matches(name, self.names, n=1)
            raise ArgumentError(
                f"unknown {self.kind} {name!r}",
                expected=", ".join(self.names),
                next_step=f"Did you mean {close[0]}?" if close else "",
            )
        try:
            found: object = entries[0].load()
        except (ImportError, AttributeError) as error:
            raise ArgumentError(
                f"this {self.kind} cannot be imported", where=entries[0].value, got=error
            ) from error
        if not isinstance(found, self.protocol):
            lacks = sorted(name for name in get_protocol_members(self.protocol) if not hasattr(found, name))
            raise ArgumentError(f"is no {self.kind}", where=entries[0].value, got=f"no {', '.join(lacks)}")
        return found
