"""Fetch published weights, through pooch: whole and verified, or not at all."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmark.errors import WeightsError
from benchmark.storage import remove_leftovers, storage_error, sync_folder, temporary_beside

_WAYS_OUT = (
    "Give the weights with `weights=DIR` ('backbones weights bundle DIR' on a connected machine writes such "
    "a folder), or use `weights=random` to compare architectures only."
)

_SERVER_FAILED = 500  # and above: HTTP's statuses of a server in trouble, whatever was asked for
_TRANSIENT = (408, 429)  # of those below, the statuses that another try may find gone
_PROXY_REFUSES = 407  # whatever is asked for
_MOST_REFUSALS = 3  # files of one host in a row: then nothing is to be had there (some proxies refuse all)


class _Refused(Exception):  # none of those that pooch tries again on
    """An answer that another try would get, too; its argument is HTTP's status."""


def keras_models_folder() -> Path:
    """Where Keras keeps downloaded weights; found without importing Keras."""
    if "KERAS_HOME" in os.environ:
        home = Path(os.environ["KERAS_HOME"])
    else:
        user = Path("~").expanduser()
        home = (user if os.access(user, os.W_OK) else Path("/tmp")) / ".keras"
    return home.expanduser() / "models"


def imagenet_file(name: str) -> Path:
    """Where a file of published weights lies once it is downloaded."""
    return keras_models_folder() / name


@dataclass(slots=True)
class Downloads:
    """Downloads of one run: what failed because the network is away is not tried again.

    Attributes:
        base: replaces scheme and host of every address; None for Keras's own.
        folder: where files go; Keras's own folder where None.
        timeout_seconds: longest silence of the server.
        tries: of one file.
    """

    base: str | None = None
    folder: Path | None = None
    timeout_seconds: float = 10.0
    tries: int = 3
    _unreachable: dict[str, str] = field(default_factory=dict)
    _refusals: dict[str, set[str]] = field(default_factory=dict)  # files by host, since it last gave one
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def shared() -> Downloads:
        """The downloads of this process."""
        return _shared()

    def fetch(self, published: Mapping[str, str]) -> Path:
        """A file of published weights, downloaded where it is missing or wrong.

        Args:
            published: ``file``, ``url`` and ``hash`` of a registry description: MD5 or SHA-256, hexadecimal;
                empty where none was published, and the file is taken as it is.

        Raises:
            WeightsError: it cannot be had.
            StorageError: the folder cannot be written.
        """
        import pooch
        import requests

        pooch.get_logger().setLevel(logging.ERROR)
        name, digest = published["file"], published["hash"]
        url = published["url"]
        if self.base is not None:
            url = self.base.rstrip("/") + urlsplit(url).path
        host, folder = urlsplit(url).netloc, self.folder or keras_models_folder()
        known = {name: (f"md5:{digest}" if len(digest) == 32 else digest) or None}
        held = pooch.create(folder, "", registry=known, urls={name: url}, retry_if_failed=self.tries - 1)

        def download(address: str, target: str, caller: object) -> None:
            if host in self._unreachable:
                raise _unreachable(host, self._unreachable[host])
            remove_leftovers(folder)
            # pooch makes its file for the owner alone, under a name that does not say who made it, and moves
            # it without flushing it: after a power failure a file without a hash would be taken as it is.
            Path(target).unlink()
            beside = temporary_beside(folder / name)
            try:
                try:
                    pooch.HTTPDownloader(timeout=self.timeout_seconds)(address, str(beside), caller)
                except requests.HTTPError as error:
                    status = getattr(error.response, "status_code", _SERVER_FAILED)
                    if status >= _SERVER_FAILED or status in _TRANSIENT:
                        raise
                    raise _Refused(status) from error
                self._refusals.pop(host, None)
                with beside.open("rb+") as file:
                    os.fsync(file.fileno())
                beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)

        with self._lock:
            is_away = False  # what is wrong with one file says nothing of the others
            try:
                return Path(held.fetch(name, downloader=download, processor=_settled))
            except ValueError:
                reason = "wrong content: its digest is not the published one"
            except requests.Timeout:
                reason, is_away = f"no answer within {self.timeout_seconds:.0f} s", True
            except requests.HTTPError as error:
                status = getattr(error.response, "status_code", 0)
                reason, is_away = f"HTTP status {status}", status >= _SERVER_FAILED
            except _Refused as error:
                (status,) = error.args
                refused = self._refusals.setdefault(host, set())
                refused.add(name)
                reason = f"HTTP status {status}"
                is_away = status == _PROXY_REFUSES or len(refused) >= _MOST_REFUSALS
            except requests.ConnectionError:
                reason, is_away = "no connection", True
            except requests.RequestException as error:
                reason = type(error).__name__
            except OSError as error:
                raise storage_error(error, folder / name) from error
            if is_away:
                self._unreachable[host] = reason
        raise _unreachable(host, reason)


def _settled(path: str, action: str, _: object) -> str:
    """Flush the name of what was downloaded, too."""
    if action != "fetch":
        sync_folder(Path(path).parent)
    return path


@functools.cache
def _shared() -> Downloads:
    return Downloads()


def _unreachable(host: str, reason: str) -> WeightsError:
    # The same text for every file, so that fifty backbones without a network are one reason.
    return WeightsError(
        "ImageNet weights cannot be downloaded", got=f"{reason} ({host})", next_step=_WAYS_OUT
    )
