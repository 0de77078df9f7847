"""Files at a URL, through fsspec: whole or absent, tried again while that may help, errors without secrets.

Object stores put an object whole or not at all, and show it to everybody from then on. Nothing here changes
an object: it is put under a name that its content decides, or again with equal content.
"""

from __future__ import annotations

import errno
import logging
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmark.errors import ArgumentError, CacheError, StorageError
from benchmark.locations import is_step, url_of, without_secrets

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")
_TRIES = 7
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_REASON = 250
_MOST_SECONDS = 180.0
# The clock of an answer runs while a part is sent, too.
_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 60
# Of one call, whatever its library waits for.
_LISTING_SECONDS = 1800.0
_SLOWEST_BYTES_PER_SECOND = 250_000
# We try again ourselves: tries within tries would make a dead server look like a slow one for an hour.
_SETTINGS: dict[str, dict[str, Any]] = {
    "s3": {
        "max_concurrency": 1,
        "config_kwargs": {
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _ANSWER_SECONDS,
            "retries": {"total_max_attempts": 1},
        },
    },
}
_PACKAGES = {"s3": "backbone-benchmark[cloud]", "gs": "gcsfs"}
# What the libraries below fsspec raise beside OSError; those that are not loaded raise nothing.
_FOREIGN_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)
_NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"})
_CREDENTIALS = (
    "Give credentials in the environment (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile "
    "or a role) that may list, read and write there."
)
_LOG = logging.getLogger("benchmark.storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file as a listing shows it.

    Attributes:
        size: bytes.
        tag: what changes with its content: the ETag, else the time of the last change.
        changed: seconds since the epoch; 0 where the listing says nothing.
    """

    size: int
    tag: str
    changed: float


class RemoteStorage:
    """What lies at the URL that a folder of this machine stands for.

    Args:
        folder: of this machine; see ``benchmark.locations``.
    """

    def __init__(self, folder: Path) -> None:
        url = url_of(folder)
        if url is None:
            raise ValueError(f"{folder} stands for no URL")
        self.url = url
        self._folder = folder
        self._scheme, _, self._base = url.partition("://")

    @cached_property
    def _files(self) -> AbstractFileSystem:
        try:
            import fsspec

            made = fsspec.filesystem(
                self._scheme, use_listings_cache=False, **_SETTINGS.get(self._scheme, {})
            )
        except ImportError as error:
            package = _PACKAGES.get(self._scheme, "backbone-benchmark[cloud]")
            raise ArgumentError(
                "what reads such places is not installed",
                where=self.url,
                next_step=f"Install it: pip install '{package}'.",
            ) from error
        if self._scheme == "s3":
            made.retries = 1
        return made

    def listed(self, folder: Path) -> dict[str, RemoteFile]:
        """The files directly in a folder, by name.

        Raises:
            CacheError: it cannot be listed.
        """
        found = self._list(folder)
        return {
            name: _remote_file(each)
            for each in found
            if each["type"] == "file" and is_step(name := _last_step(each["name"]))
        }

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in a folder, sorted.

        Raises:
            CacheError: it cannot be listed, or its bucket is not there.
        """
        found = self._list(folder)
        if not found and self._scheme != "memory":
            self._check_bucket()
        names = {_last_step(each["name"]) for each in found if each["type"] == "directory"}
        return sorted(name for name in names if is_step(name))

    def below(self, folder: Path) -> dict[str, RemoteFile]:
        """All files below a folder, by path from there; names that are none on this machine are left out.

        Raises:
            CacheError: it cannot be listed, or its bucket is not there.
        """
        base = self._key(folder)
        found = (
            self._tried(
                "be listed", folder, lambda: self._ask("find", base, detail=True, seconds=_LISTING_SECONDS)
            )
            or {}
        )
        if not found:
            self._check_bucket()
        start = len(base) + 1
        paths = {name.lstrip("/")[start:]: each for name, each in found.items()}
        # Some programs mark a folder by an empty object.
        return {path: _remote_file(each) for path, each in paths.items() if path and not path.endswith("/")}

    def read(self, path: Path, *, size: int | None = None, most_bytes: int) -> bytes | None:
        """All bytes of a file; None where there is none.

        Args:
            path: of this machine.
            size: as listed; where as many do not arrive, they are read again as they are there by then.
            most_bytes: larger ones are refused.

        Raises:
            OSError: ``EFBIG``: larger.
            CacheError: it cannot be read.
        """
        key, listed = self._key(path), size

        def whole() -> bytes:
            nonlocal listed
            known = listed if listed is not None else int(self._ask("info", key)["size"])
            if known > most_bytes:
                raise _TooLargeError(known)
            content: bytes = self._ask("cat_file", key, seconds=_seconds_for(known))
            if len(content) != known:
                listed = None  # it may have been put anew since
                raise TimeoutError(f"{len(content):,} of {known:,} bytes arrived")
            return content

        try:
            return self._tried("be read", path, whole)
        except _TooLargeError as error:
            raise OSError(errno.EFBIG, f"{error.size:,} bytes, more than {most_bytes:,}") from None

    def write(self, path: Path, content: bytes) -> None:
        """Put a file whole; when this returns, it lies there.

        Raises:
            StorageError: it cannot be put.
        """
        key = self._key(path)

        def put() -> bool:
            self._ask("pipe_file", key, content, seconds=_seconds_for(len(content)))
            there = int(self._ask("info", key)["size"])
            if there != len(content):
                raise TimeoutError(f"{there:,} of {len(content):,} bytes lie there")
            return True

        if not self._tried("be written", path, put, kind=StorageError):
            self._check_bucket()
            raise StorageError("cannot be written", where=self._shown(path), got="no such place")

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there.

        Raises:
            StorageError: it cannot be removed.
        """
        key = self._key(path)
        self._tried("be removed", path, lambda: self._ask("rm_file", key), kind=StorageError)

    def remove_below(self, folder: Path) -> int:
        """Remove all files below a folder; how many bytes that were.

        Raises:
            CacheError: they cannot be listed or removed.
        """
        found = self.below(folder)
        for name in found:
            self.remove(folder / name)
        return sum(one.size for one in found.values())

    def _ask(
        self, method: str, *given: object, seconds: float = _ANSWER_SECONDS + 5.0, **named: object
    ) -> Any:  # noqa: ANN401 - whatever the library answers
        """One call of the library, given up after so many seconds where it can be."""
        if self._files.async_impl:
            named["timeout"] = seconds
        return getattr(self._files, method)(*given, **named)

    def _list(self, folder: Path) -> list[dict[str, Any]]:
        key = self._key(folder)
        found = (
            self._tried(
                "be listed", folder, lambda: self._ask("ls", key, detail=True, seconds=_LISTING_SECONDS)
            )
            or []
        )
        return [each for each in found if each["name"].strip("/") != key]

    def _check_bucket(self) -> None:
        """See that the bucket is there: without files in it, both look the same.

        Raises:
            CacheError: it is not.
        """
        bucket = self._base.partition("/")[0]
        if (
            self._scheme != "memory"
            and self._tried(
                "be listed", self._folder, lambda: self._ask("ls", bucket, seconds=_LISTING_SECONDS)
            )
            is None
        ):
            raise CacheError(
                "no such bucket",
                where=f"{self._scheme}://{bucket}",
                next_step="Mend the name, or make it first.",
            )

    def _key(self, path: Path) -> str:
        url = url_of(path)
        if url is None or not (url == self.url or url.startswith(f"{self.url}/")):
            raise ValueError(f"{path} is not below {self._folder}")
        return url.partition("://")[2]

    def _shown(self, path: Path) -> str:
        return url_of(path) or self.url

    def _tried(
        self, what: str, path: Path, act: Callable[[], T], kind: type[CacheError] = CacheError
    ) -> T | None:
        """The result of an act that is tried again; None where what it needs is not there.

        Raises:
            CacheError: it failed each time, or as it always will.
        """
        pause, begun = _FIRST_PAUSE_SECONDS, time.monotonic()
        for attempt in range(1, _TRIES + 1):
            try:
                return act()
            except FileNotFoundError:
                return None
            except _failures() as error:
                late = time.monotonic() - begun > _MOST_SECONDS
                final = late or attempt == _TRIES or not _may_pass(error)
                reason = _reason(error)
            if final:
                # Not `from`: what libraries say may hold an address with its query, or a key.
                raise self._failed(what, path, reason, kind) from None
            _LOG.info("%s could not %s (%s), trying again", self._shown(path), what, reason)
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause *= 2
        raise AssertionError("unreachable")

    def _failed(self, what: str, path: Path, reason: str, kind: type[CacheError]) -> CacheError:
        refused = reason.startswith(("access", "no credentials"))
        later = "Run the same command again when it answers: what is finished is kept."
        return kind(
            f"cannot {what}",
            where=self._shown(path),
            got=reason,
            next_step=_CREDENTIALS if refused else later,
        )


class _TooLargeError(Exception):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def _failures() -> tuple[type[Exception], ...]:
    found = [getattr(sys.modules.get(module), name, None) for module, name in _FOREIGN_ERRORS]
    return (OSError, ValueError, RuntimeError, *(one for one in found if one is not None))


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help."""
    return not isinstance(error, PermissionError | ValueError) and type(error).__name__ not in _NO_CREDENTIALS


def _reason(error: Exception) -> str:
    """Why it failed, in one clause without addresses or keys."""
    if isinstance(error, PermissionError):
        return "access is refused"
    if type(error).__name__ in _NO_CREDENTIALS:
        return "no credentials were found"
    text = " ".join(str(error).split())
    # Cut last: a part of a secret is not recognised as one.
    return without_secrets(f"{type(error).__name__}: {text}" if text else type(error).__name__)[
        :_LONGEST_REASON
    ]


def _seconds_for(size: int) -> float:
    """How long it may take to send or receive so many bytes."""
    return _ANSWER_SECONDS + 5.0 + size / _SLOWEST_BYTES_PER_SECOND


def _last_step(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2]


def _remote_file(found: dict[str, Any]) -> RemoteFile:
    """What any of fsspec's file systems says of a file."""
    changed = next(
        (found[name] for name in ("LastModified", "mtime", "updated", "created") if name in found), 0.0
    )
    seconds = changed.timestamp() if hasattr(changed, "timestamp") else 0.0
    tag = str(found.get("ETag") or found.get("etag") or changed).strip('"')
    return RemoteFile(size=int(found["size"] or 0), tag=tag, changed=seconds)
